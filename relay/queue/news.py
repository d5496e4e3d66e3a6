"""When a worker has to look at the queue for deliveries that are due.

On PostgreSQL a worker announces what it makes due and does not attempt itself, and hears what others announce. Besides,
it knows when the next delivery becomes due by time. Between the two it asks nothing. An SQLite file announces nothing,
so there a worker looks each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import bindparam, select

from relay.queue.change import Change
from relay.queue.database import Database
from relay.queue.schema import delivery

NEVER = float("inf")

_NEXT = (
    select(delivery.c.next_attempt)
    .where(delivery.c.state == "queued", delivery.c.next_attempt > bindparam("now"))
    .order_by(delivery.c.next_attempt)
    .limit(1)
)


class News:
    """What one worker knows of the deliveries that are due; times are seconds since 1970.

    Attributes:
        is_behind: whether another process may have made deliveries due earlier than those that were seen last.
        stored_from: the earliest time since which something is due that this worker has stored after the last look: it
            may be earlier than what was seen, because storing took its time.
    """

    def __init__(self, database: Database) -> None:
        self.is_behind = False
        self.stored_from = NEVER
        self._database = database
        self._look_at = 0.0

    @property
    def is_shared(self) -> bool:
        """Whether other hosts may attempt what is left in the queue."""
        return self._database.announces

    def watch(self, heard: Callable[[], None]) -> None:
        """Call `heard` whenever another process may have made a delivery due, or may have done so unheard."""

        def look() -> None:
            self._look_at, self.is_behind = 0.0, True
            heard()

        self._database.watch(look)

    def changed(self, change: Change) -> None:
        """Take note of a change that this worker has made, and announce what others may attempt as well."""
        due_at = min((d.next_attempt for d in change.deliveries if d.lease_owner is None), default=NEVER)
        for _, values in change.updated:
            if values.get("state", "queued") == "queued":
                due_at = min(due_at, values.get("next_attempt", NEVER))
        self.stored_from = min(self.stored_from, due_at)
        self._look_at = min(self._look_at, due_at)
        if self._database.announces and due_at <= time.time():
            self._database.announce()

    def freed(self, count: int) -> None:
        """Take note that the leases of so many deliveries were ended, and announce it."""
        if count:
            self._look_at = 0.0
            self._database.announce()

    def is_due(self, now: float) -> bool:
        """Whether a look may find something."""
        return now >= self._look_at or not self._database.hears

    def looking(self) -> None:
        """A look begins: what is heard from now on may be news to it."""
        self._look_at = self.stored_from = NEVER

    async def seen_all(self, now: float) -> None:
        """A look has found all that was due at `now`: find out when the next one will.

        Raises:
            QueueUnavailable
        """
        if self._database.announces:
            earliest = await self._database.read(lambda c: c.execute(_NEXT, {"now": now}).scalar())
            if earliest is not None:
                self._look_at = min(self._look_at, earliest)
