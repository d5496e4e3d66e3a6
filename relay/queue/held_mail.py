"""Mail that the filter or an access table has held: it waits for `queue release`, and goes when its time is over.

Such a delivery has `held_until` and `hold_reason`. What `queue hold` holds has no `held_until`, and never goes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select

from relay.queue.change import ONE, forget
from relay.queue.database import Database
from relay.queue.large_content import LargeContent
from relay.queue.schema import delivery

AT_ONCE = 100  # deliveries dropped in one transaction

# The state is wrapped so that SQLite uses the index over `held_until`: with the one over states it would read and sort
# all that `queue hold` holds.
_OVER = (delivery.c.held_until <= bindparam("b_now"), func.coalesce(delivery.c.state, "") == "held")
_FIND = (
    select(delivery.c.message_id, delivery.c.n, delivery.c.recipient, delivery.c.hold_reason)
    .where(*_OVER)
    .order_by(delivery.c.held_until)
    .limit(AT_ONCE)
)
_DROP = delete(delivery).where(*ONE, *_OVER)


class Gone(NamedTuple):
    """A delivery that was deleted, because nobody has released it in time."""

    message_id: int
    recipient: str
    reason: str


class HeldMail:
    """The held mail of one queue.

    Args:
        large: the content of large messages.
    """

    def __init__(self, database: Database, large: LargeContent) -> None:
        self._database = database
        self._large = large

    async def drop_some(self, now: float) -> list[Gone]:
        """Delete some of the deliveries whose time is over, with the messages that have none left; returns them.

        Raises:
            QueueUnavailable
        """
        # Mostly there is nothing: then nobody waits for the lock of a writer.
        if not await self._database.read(lambda connection: connection.execute(_FIND, {"b_now": now}).first()):
            return []
        gone, left = await self._database.write(lambda connection: _drop(connection, now), durable=True)
        await self._large.delete(left)
        return gone


def _drop(connection: Connection, now: float) -> tuple[list[Gone], Collection[int]]:
    """Delete some; returns them, and which messages left content behind."""
    find = _FIND.with_for_update(skip_locked=True) if connection.dialect.name == "postgresql" else _FIND
    rows = connection.execute(find, {"b_now": now}).all()
    if not rows:
        return [], ()
    keys = [{"b_message": row.message_id, "b_n": row.n, "b_now": now} for row in rows]
    connection.execute(_DROP, keys)
    left = forget(connection, {row.message_id for row in rows})
    return [Gone(row.message_id, row.recipient, row.hold_reason or "") for row in rows], left
