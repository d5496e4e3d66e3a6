"""What the supervisor does in the queue: it makes the tables, and ends the leases of dead workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.store import Store

log = structlog.get_logger()

FREE_PATIENCE = 2.0  # seconds for the queue to end dead workers' leases; the supervisor does nothing else meanwhile


def prepare_queue(url: str, *, alone: bool) -> None:
    """Find the tables of a queue, make them, or migrate them, before any worker runs.

    Args:
        alone: whether no worker can be alive, so that all leases end. That is so behind the lock on an SQLite queue; on
            PostgreSQL the workers find out which other workers are alive.

    Raises:
        QueueUnavailable: the queue cannot be opened.
    """

    async def prepare(store: Store) -> int:
        return await store.free(None, time.time()) if alone else 0

    _with_store(url, prepare)


def free_leases(url: str, owners: list[str]) -> None:
    """End the leases of dead workers, so that others attempt their deliveries; the log tells where that fails."""

    async def free(store: Store) -> int:
        return sum([await store.free(owner, time.time()) for owner in owners])

    try:
        _with_store(url, free, FREE_PATIENCE)
    except (QueueUnavailable, OSError) as error:
        problem = str(error) or "the queue does not answer"
        log.error("leases_not_freed", owners=owners, problem=problem, until="other workers do it, or they run out")


def _with_store(url: str, use: Callable[[Store], Awaitable[int]], patience: float | None = None) -> None:
    async def run() -> int:
        async with asyncio.timeout(patience):
            store = Store(await connect(url), "")
            try:
                return await use(store)
            finally:
                await store.close()

    count = asyncio.run(run())
    if count:
        log.info("leases_freed", count=count)
