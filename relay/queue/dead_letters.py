"""Dead letters: failed messages whose sender may not be told. They are kept for a time, and while there is room.

A dead delivery's `next_attempt` is the time at which it failed, so the index over due deliveries has dead letters in
the order of their age. To measure them they are read from the youngest on, until they exceed the limit.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select, tuple_

from relay.queue.change import ONE, forget
from relay.queue.database import Database, repeat_until_done
from relay.queue.large_content import LargeContent
from relay.queue.schema import delivery, message

STEP = 10_000  # dead letters measured by one query, a power of ten
OVERHEAD = 1024  # octets that a dead letter takes beside its content, about: its rows and index entries
AT_ONCE = 100  # dead letters dropped in one transaction
OCTETS_AT_ONCE = 4 << 20  # content dropped at once, or one larger letter


class _Place(NamedTuple):
    """Where a dead letter stands in the order of age."""

    died: float
    message_id: int
    n: int


_ORDER = (delivery.c.next_attempt, delivery.c.message_id, delivery.c.n)
_DEAD = (
    select(*_ORDER, func.coalesce(message.c.size, 0).label("size"))
    .outerjoin(message, message.c.id == delivery.c.message_id)
    .where(delivery.c.state == "dead")
)


class DeadLetters:
    """The dead letters of one queue.

    Args:
        large: the content of large ones.
    """

    def __init__(self, database: Database, large: LargeContent) -> None:
        self._database = database
        self._large = large

    async def drop(self, before: float) -> int:
        """Drop the letters that died at a time or earlier, the oldest first; returns how many there were.

        Raises:
            QueueUnavailable
        """
        return await repeat_until_done(partial(self.drop_some, before))

    async def drop_some(self, before: float = math.inf) -> int:
        """Drop some of these, with their content; returns how many there were.

        Raises:
            QueueUnavailable
        """
        count, left = await self._database.write(partial(_drop, before), durable=False)
        await self._large.delete(left)
        return count

    async def beyond(self, octets: int) -> float:
        """When the youngest letter died that does not fit into so many octets; 0 if all fit.

        Raises:
            QueueUnavailable
        """
        total, last, step = 0, _Place(math.inf, 0, 0), STEP
        while True:
            end, more = await self._database.read(partial(_measure, last, step), long=True)
            if total + more > octets and step > 1:
                step //= 10  # the limit is somewhere inside this step
            elif total + more > octets and end is not None:
                return end.died
            elif end is None:
                return 0.0
            else:
                total, last = total + more, end


def _measure(last: _Place, step: int, connection: Connection) -> tuple[_Place | None, int]:
    """The next `step` letters older than one: the oldest of them (None if there are fewer), and their octets."""
    older = (delivery.c.state == "dead", tuple_(*_ORDER) < tuple_(*last))
    backwards = select(*_ORDER).where(*older).order_by(*(column.desc() for column in _ORDER))
    row = connection.execute(backwards.offset(step - 1).limit(1)).first()
    end = None if row is None else _Place(*row)
    # The recipients of a message that died together stand together, so the message counts once.
    message_ids = select(delivery.c.message_id).where(*older, delivery.c.message_id != last.message_id)
    if end is not None:
        message_ids = message_ids.where(tuple_(*_ORDER) >= tuple_(*end))
    sizes = select(func.coalesce(func.sum(message.c.size + OVERHEAD), 0)).where(message.c.id.in_(message_ids))
    return end, int(connection.execute(sizes).scalar_one())


def _drop(before: float, connection: Connection) -> tuple[int, Collection[int]]:
    """Drop some letters; returns how many there were, and which messages left content behind."""
    left: Collection[int] = ()
    rows: list[dict[str, int]] = []
    octets = 0
    for row in connection.execute(_DEAD.where(delivery.c.next_attempt <= before).order_by(*_ORDER).limit(AT_ONCE)):
        octets += row.size
        if rows and octets > OCTETS_AT_ONCE:
            break
        rows.append({"b_message": row.message_id, "b_n": row.n})
    if rows:  # the state is checked again, because a letter may have been retried since
        connection.execute(delete(delivery).where(*ONE, delivery.c.state == "dead"), rows)
        left = forget(connection, {row["b_message"] for row in rows})
    return len(rows), left
