"""The arguments of the queue commands: a message, or one of its deliveries."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_

from relay.mail.queue_id import id_from_text
from relay.queue.schema import delivery


@dataclass(frozen=True, slots=True)
class Selector:
    """The deliveries that an argument of a command means: all of a message (`ID`), or one (`ID/N`)."""

    message_id: int
    n: int | None = None

    @classmethod
    def parse(cls, given: str) -> Selector:
        """Read an argument.

        Raises:
            ValueError: it is neither ID nor ID/N.
        """
        name, slash, n = given.partition("/")
        if slash and not (n.isascii() and n.isdigit() and len(n) <= 9):
            raise ValueError(f"{given!r} is not a queue id (like 3F2KQ0Z81TWH, or 3F2KQ0Z81TWH/2 for one recipient)")
        return cls(id_from_text(name), int(n) if slash else None)

    @property
    def condition(self) -> ColumnElement[bool]:
        """What these deliveries have in common, in SQL."""
        of_message = delivery.c.message_id == self.message_id
        return of_message if self.n is None else and_(of_message, delivery.c.n == self.n)
