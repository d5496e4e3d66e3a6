"""What queue commands have done, and who ran them: a command leaves a record, and one worker writes it to the log.

A command runs in another process than the relay, often on a terminal. Its record is stored in the transaction that
changes the deliveries, so that neither is there without the other. Where the relay does not run, its next start logs
the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select

from relay.mail.queue_id import id_text
from relay.queue.database import Database
from relay.queue.schema import audit

MESSAGES = 100  # in one record: their lines are logged at once, and the event loop waits meanwhile
AT_ONCE = 10  # records taken in one transaction

Deed = Literal["retry", "hold", "release", "drop"]


@dataclass(frozen=True, slots=True)
class Author:
    """Who runs a command.

    Attributes:
        who: the person, as far as the system knows it: who ran sudo, or who logged in.
        account: the account that the command runs as; None where that is the same.
        uid: of the account.
        host: the name of the host.
    """

    who: str
    account: str | None
    uid: int
    host: str


@dataclass(frozen=True, slots=True)
class Record:
    """What one command did to some messages.

    Attributes:
        at: when, in seconds since 1970.
        deliveries: by queue id: how many were changed, and the number of the only one, or None.
    """

    author: Author
    deed: Deed
    at: float
    deliveries: Mapping[str, tuple[int, int | None]]


def leave(connection: Connection, author: Author, deed: Deed, at: float, changed: Mapping[int, Sequence[int]]) -> None:
    """Store what a command did, in the transaction at hand.

    Args:
        changed: by message id, the numbers of its deliveries that were changed.
    """
    messages = [[id_text(message_id), len(ns), ns[0] if len(ns) == 1 else None] for message_id, ns in changed.items()]
    records = [
        {"author": asdict(author), "deed": deed, "at": at, "messages": messages[start : start + MESSAGES]}
        for start in range(0, len(messages), MESSAGES)
    ]
    if records:
        connection.execute(insert(audit), [{"record": record} for record in records])


class AuditTrail:
    """The records of one queue that nobody has logged."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self) -> list[Record]:
        """The oldest records, which nobody else gets; none where there are none.

        Raises:
            QueueUnavailable
        """
        statement = select(audit.c.id, audit.c.record).order_by(audit.c.id).limit(AT_ONCE)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        if not rows:
            return []

        def take(connection: Connection) -> list[Record]:
            taken = (row for row in rows if connection.execute(delete(audit).where(audit.c.id == row.id)).rowcount)
            return [_record(row.record) for row in taken]

        return await self._database.write(take, durable=False)


def _record(stored: Mapping[str, Any]) -> Record:
    deliveries = {name: (count, n) for name, count, n in stored["messages"]}
    return Record(Author(**stored["author"]), stored["deed"], stored["at"], deliveries)
