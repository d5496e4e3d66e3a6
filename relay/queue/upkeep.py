"""Upkeep of the queue, which every worker does from time to time: it drops old dead letters, held mail whose
time is over and leftovers, frees the leases of dead workers, and logs what queue commands have done.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from relay.config.sections import QueueSection
from relay.mail.queue_id import id_text
from relay.queue.audit import Record
from relay.queue.database import QueueUnavailable, repeat_until_done
from relay.queue.store import Store
from relay.queue.tls_results import KEEP_DAYS

log = structlog.get_logger()

TIDY_EVERY = 600.0  # seconds between two times that dead letters and leftovers are dropped
FREE_EVERY = 10.0  # seconds between two looks for dead workers
HELD_EVERY = 5.0  # seconds between two looks for held mail whose time is over: one read of an index, mostly empty
AUDIT_EVERY = 1.0  # seconds between two looks for what commands have done: one read of a table that is empty


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
        await asyncio.gather(
            _repeat(self._tidy_up, TIDY_EVERY),
            _repeat(self._free_abandoned, FREE_EVERY),
            _repeat(self._drop_held, HELD_EVERY),
            _repeat(self._log_commands, AUDIT_EVERY),
        )

    async def _tidy_up(self) -> None:
        await self._drop_dead("queue.keep_dead", time.time() - self._limits.keep_dead)
        await self._drop_dead("queue.max_dead", await self._store.dead.beyond(self._limits.max_dead))
        await self._store.tls_results.drop(int(time.time() // 86400) + 1 - KEEP_DAYS)
        await self._store.sweep(time.time())

    async def _drop_dead(self, limit: str, before: float) -> None:
        dropped = await self._store.dead.drop(before)
        if dropped:
            log.info("dead_letters_dropped", count=dropped, limit=limit)

    async def _drop_held(self) -> None:
        await repeat_until_done(self._drop_some_held)

    async def _drop_some_held(self) -> int:
        gone = await self._store.held.drop_some(time.time())
        for each in gone:
            log.info("hold_expired", id=id_text(each.message_id), recipient=each.recipient, reason=each.reason)
        return len(gone)

    async def _free_abandoned(self) -> None:
        freed = await self._store.free_abandoned(time.time())
        if freed:
            log.info("leases_freed", count=freed)

    async def _log_commands(self) -> None:
        with suppress(QueueUnavailable):  # who has mail to store or to deliver says so, and not every second
            while records := await self._store.audit.take():
                for record in records:
                    _log_command(record)
                    await asyncio.sleep(0)


def _log_command(record: Record) -> None:
    """Log what a command did to each message."""
    by = record.author
    for name, (count, n) in record.deliveries.items():
        log.info(
            "queue_changed",
            id=name,
            action=record.deed,
            who=by.who,
            account=by.account,
            uid=by.uid,
            at_host=by.host if by.host != socket.gethostname() else None,
            deliveries=count,
            n=n,
            at=datetime.fromtimestamp(record.at, UTC).isoformat(timespec="seconds"),
        )


async def _repeat(task: Callable[[], Awaitable[None]], every: float) -> None:
    while True:
        try:
            await task()
        except QueueUnavailable as error:
            log.error("queue_unavailable", problem=str(error))
        except Exception:
            log.exception("upkeep_failed")
        await asyncio.sleep(every)
