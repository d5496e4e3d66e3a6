"""Upkeep of the queue, which every worker does from time to time: it drops old dead letters and leftovers, and frees
the leases of dead workers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from relay.config.sections import QueueSection
from relay.queue.database import QueueUnavailable
from relay.queue.store import Store

log = structlog.get_logger()

TIDY_EVERY = 600.0  # seconds between two times that dead letters and leftovers are dropped
FREE_EVERY = 10.0  # seconds between two looks for dead workers


class Upkeep:
    """The periodic work of one worker.

    Args:
        store: the queue.
        limits: its section of the configuration.
    """

    def __init__(self, store: Store, limits: QueueSection) -> None:
        self._store = store
        self._limits = limits

    async def run(self) -> None:
        """Repeat all of it until the task is cancelled."""
        await asyncio.gather(_repeat(self._tidy_up, TIDY_EVERY), _repeat(self._free_abandoned, FREE_EVERY))

    async def _tidy_up(self) -> None:
        await self._drop_dead("queue.keep_dead", time.time() - self._limits.keep_dead)
        await self._drop_dead("queue.max_dead", await self._store.dead.beyond(self._limits.max_dead))
        await self._store.sweep(time.time())

    async def _drop_dead(self, limit: str, before: float) -> None:
        dropped = await self._store.dead.drop(before)
        if dropped:
            log.info("dead_letters_dropped", count=dropped, limit=limit)

    async def _free_abandoned(self) -> None:
        freed = await self._store.free_abandoned(time.time())
        if freed:
            log.info("leases_freed", count=freed)


async def _repeat(task: Callable[[], Awaitable[None]], every: float) -> None:
    while True:
        try:
            await task()
        except QueueUnavailable as error:
            log.error("queue_unavailable", problem=str(error))
        except Exception:
            log.exception("upkeep_failed")
        await asyncio.sleep(every)
