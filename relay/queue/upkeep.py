"""What a worker does for the queue from time to time: old dead letters go, and what nothing refers to any more."""

from __future__ import annotations

import asyncio
import time

import structlog

from relay.config import Queue
from relay.queue.database import QueueUnavailable
from relay.queue.store import Store

log = structlog.get_logger()

EVERY = 600.0  # seconds


class Upkeep:
    """Args:
    store: the queue.
    limits: its section of the configuration.
    """

    def __init__(self, store: Store, limits: Queue) -> None:
        self._store = store
        self._limits = limits

    async def run(self) -> None:
        """Tidy up again and again, until it is cancelled."""
        while True:
            try:
                await self._drop_dead("queue.keep_dead", time.time() - self._limits.keep_dead)
                await self._drop_dead("queue.max_dead", await self._store.dead.beyond(self._limits.max_dead))
                await self._store.sweep(time.time())
            except QueueUnavailable as error:
                log.error("queue_unavailable", problem=str(error))
            await asyncio.sleep(EVERY)

    async def _drop_dead(self, limit: str, before: float) -> None:
        dropped = await self._store.dead.drop(before)
        if dropped:
            log.info("dead_letters_dropped", count=dropped, limit=limit)
