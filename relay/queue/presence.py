"""Which workers live, where several hosts share a queue on PostgreSQL: each holds an advisory lock for its name.

The server frees the lock when the connection that took it ends, whether the worker, its host or the network failed.
Host names and process numbers would not tell, because containers share them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import blake2b

import asyncpg
import structlog
from sqlalchemy import Connection, func, select, text

from relay.queue.announcements import Listener
from relay.queue.database import QueueUnavailable, error_line
from relay.queue.schema import delivery

log = structlog.get_logger()

LOOK_EVERY = 10.0  # seconds between two checks of the connection
RETRY_AFTER = 1.0  # seconds between two tries to take a lost lock again
APPLICATION = "srs-relay"  # the name of our connections in pg_stat_activity

_TASKS = 8_314_472  # the first part of the key of a task

# The last one: asyncpg is asked something between the server's last word and the end of the connection.
ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_LOCKS = text("""
    SELECT lock.classid::bigint << 32 | lock.objid::bigint AS key, host(session.client_addr) AS address
    FROM pg_locks AS lock JOIN pg_stat_activity AS session ON session.pid = lock.pid
    WHERE lock.locktype = 'advisory' AND lock.objsubid = 1 AND lock.granted
        AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND session.application_name = :application AND session.pid <> pg_backend_pid()
""")


class Presence:
    """Holds the lock of one worker until it is closed.

    Args:
        connect: opens a connection to the server; raises QueueUnavailable.
        owner: the worker's name in leases.
        listener: hears announcements on the same connection.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[asyncpg.Connection]], owner: str, listener: Listener | None = None
    ) -> None:
        self._connect = connect
        self._listener = listener
        self._key = _lock_key(owner)
        self._connection: asyncpg.Connection | None = None
        self._taking: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._asking = asyncio.Lock()  # the connection answers one question at a time
        self._keeping = asyncio.create_task(self._keep(), name="presence")

    @property
    def is_shown(self) -> bool:
        """Whether the lock is held, as far as this side of the connection can tell."""
        return self._connection is not None and not self._connection.is_closed()

    async def shown(self) -> None:
        """Return when the lock is held: only then may this worker take a lease.

        Raises:
            QueueUnavailable: it cannot be had.
        """
        if not self.is_shown:
            if self._taking is None:
                self._taking = asyncio.create_task(self._take())
            await asyncio.shield(self._taking)

    async def _take(self) -> None:
        try:
            connection = await self._connect()
            try:
                # This waits if an earlier connection of this worker, which the server has not given up, still has it.
                await connection.fetchval("SELECT pg_advisory_lock($1)", self._key)
                if self._listener is not None:
                    await self._listener.listen(connection)
            except BaseException:
                connection.terminate()
                raise
        except ERRORS as error:
            raise QueueUnavailable(f"PostgreSQL: {error_line(error)}") from error
        finally:
            self._taking = None
        self._lost.clear()
        connection.add_termination_listener(lambda _: self._lost.set())
        self._connection = connection

    async def claims(self, task: str) -> bool:
        """Whether this worker is the one of all workers that does a task. It is, once it was, while its lock is held.

        Raises:
            QueueUnavailable
        """
        await self.shown()
        connection = self._connection
        if connection is None:
            return False
        try:
            async with self._asking:
                # Keys of two parts are none of those that stand for workers.
                lock = "SELECT pg_try_advisory_lock($1, $2)"
                return bool(await connection.fetchval(lock, _TASKS, _task_key(task), timeout=LOOK_EVERY))
        except ERRORS as error:
            raise QueueUnavailable(f"PostgreSQL: {error_line(error)}") from error

    async def _keep(self) -> None:
        """Take the lock again as soon as its connection is lost, or does not answer."""
        failing = False
        while True:
            try:
                await self.shown()
                if self._connection is not None:
                    await self._check(self._connection)
                failing = False
            except QueueUnavailable as error:
                if not failing:
                    log.warning("worker_not_seen", problem=str(error))
                failing = True
            if failing:
                await asyncio.sleep(RETRY_AFTER)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._lost.wait()

    async def _check(self, connection: asyncpg.Connection) -> None:
        try:
            async with self._asking:
                await connection.fetchval("SELECT 1", timeout=LOOK_EVERY)
        except ERRORS as error:
            connection.terminate()
            raise QueueUnavailable(f"PostgreSQL: {error_line(error)}") from error

    async def close(self) -> None:
        """Give the lock back."""
        tasks = [task for task in (self._keeping, self._taking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._connection is not None:
            self._connection.terminate()


def without_lock(owners: Sequence[str], connection: Connection) -> list[str]:
    """Which of these workers hold no lock; each question takes the lock for its own duration."""
    return [
        owner
        for owner in owners
        if connection.execute(select(func.pg_try_advisory_xact_lock(_lock_key(owner)))).scalar()
    ]


def live_workers(connection: Connection) -> list[str]:
    """All workers that hold a lock: by their names in leases, or by their addresses while they have no lease.

    The server knows a hash of a name, so only the name of a worker that has leases can be told.
    """
    leased = select(delivery.c.lease_owner).where(delivery.c.lease_owner.is_not(None)).distinct()
    names = {_lock_key(owner): owner for owner in connection.execute(leased).scalars() if owner is not None}
    locks = connection.execute(_LOCKS, {"application": APPLICATION})
    return sorted({names.get(row.key, f"a worker at {row.address or 'localhost'}") for row in locks})


def _lock_key(owner: str) -> int:
    return int.from_bytes(blake2b(owner.encode(), digest_size=8).digest(), signed=True)


def _task_key(task: str) -> int:
    return int.from_bytes(blake2b(task.encode(), digest_size=4).digest(), signed=True)
