"""Dead letters: what failed, and whose sender may not be told of it. They are kept, and make way for mail.

A dead delivery's `next_attempt` is the time of its death, so that the index over due deliveries has them by age. How
much there is of them is found out by reading from the youngest on, as far as there is room, and no further.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, select, tuple_

from relay.queue.change import ONE, forget
from relay.queue.database import Database
from relay.queue.schema import delivery, message

PAGE = 1000  # dead letters looked at in one go
OVERHEAD = 1024  # octets that one takes beside its content, about: its rows, and their places in the indexes
AT_ONCE = 100  # dropped in one transaction, and no more content than
OCTETS_AT_ONCE = 4 << 20  # but one letter at least: dropping is never in the way


class _Place(NamedTuple):
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
    """The dead letters of one queue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def drop(self, before: float) -> int:
        """Drop those that died before a time or at it, the oldest first; how many there were.

        Raises:
            QueueUnavailable
        """
        total = 0
        while dropped := await self.drop_some(before):
            total += dropped
            await asyncio.sleep(0)
        return total

    async def drop_some(self, before: float = math.inf) -> int:
        """As many of the same as one short transaction takes.

        Raises:
            QueueUnavailable
        """
        return await self._database.write(partial(_drop, before), durable=False)

    async def beyond(self, octets: int) -> float:
        """When the youngest of those died that do not fit into so many octets; 0 where all of them do.

        Raises:
            QueueUnavailable
        """
        total, last = 0, _Place(math.inf, 0, 0)
        while True:
            page = await self._database.read(partial(_older, last), long=True)
            for row in page:
                # What died together lies together, so that a message with many recipients counts once.
                if row.message_id != last.message_id:
                    total += row.size + OVERHEAD
                last = _Place(row.next_attempt, row.message_id, row.n)
                if total > octets:
                    return last.died
            if len(page) < PAGE:
                return 0.0


def _older(than: _Place, connection: Connection) -> Sequence[Any]:
    backwards = _DEAD.where(tuple_(*_ORDER) < tuple_(*than)).order_by(*(column.desc() for column in _ORDER))
    return connection.execute(backwards.limit(PAGE)).all()


def _drop(before: float, connection: Connection) -> int:
    rows: list[dict[str, int]] = []
    octets = 0
    for row in connection.execute(_DEAD.where(delivery.c.next_attempt <= before).order_by(*_ORDER).limit(AT_ONCE)):
        octets += row.size
        if rows and octets > OCTETS_AT_ONCE:
            break
        rows.append({"b_message": row.message_id, "b_n": row.n})
    if rows:  # unless one was brought back to life meanwhile
        connection.execute(delete(delivery).where(*ONE, delivery.c.state == "dead"), rows)
        forget(connection, {row["b_message"] for row in rows})
    return len(rows)
