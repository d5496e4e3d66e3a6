"""Which workers live, where several hosts share a queue on PostgreSQL: each holds an advisory lock under its own name.

The server lets go of the lock when the connection that took it ends, whatever became of the worker, its host, or the
network in between. So nobody has to guess from host names and process numbers, which containers share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import blake2b

import asyncpg
import structlog
from sqlalchemy import Connection, func, select

from relay.queue.database import QueueUnavailable, cause

log = structlog.get_logger()

LOOK_EVERY = 10.0  # seconds after which the connection is asked whether it still stands
RETRY_AFTER = 1.0  # seconds between two tries to take a lock again that was lost
_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Presence:
    """Shows that a worker lives, for as long as it is not closed.

    Args:
        connect: opens a connection to the server; raises QueueUnavailable.
        owner: the worker's name in leases.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], owner: str) -> None:
        self._connect = connect
        self._key = _key(owner)
        self._connection: asyncpg.Connection | None = None
        self._taking: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._keeping = asyncio.create_task(self._keep(), name="presence")

    async def shown(self) -> None:
        """Return when the others can see that this worker lives: only then it may take a lease.

        Raises:
            QueueUnavailable: they cannot.
        """
        if self._connection is None or self._connection.is_closed():
            if self._taking is None:
                self._taking = asyncio.create_task(self._take())
            await asyncio.shield(self._taking)

    async def _take(self) -> None:
        try:
            connection = await self._connect()
            try:
                # A connection of ours that the server has not given up yet may still have it.
                await connection.fetchval("SELECT pg_advisory_lock($1)", self._key)
            except BaseException:
                connection.terminate()
                raise
        except _ERRORS as error:
            raise QueueUnavailable(f"PostgreSQL: {cause(error)}") from error
        finally:
            self._taking = None
        self._lost.clear()
        connection.add_termination_listener(lambda _: self._lost.set())
        self._connection = connection

    async def _keep(self) -> None:
        """Take the lock again as soon as its connection is lost, whether the server says so or is silent."""
        failing = False
        while True:
            try:
                await self.shown()
                if self._connection is not None:
                    await self._ask(self._connection)
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

    @staticmethod
    async def _ask(connection: asyncpg.Connection) -> None:
        try:
            await connection.fetchval("SELECT 1", timeout=LOOK_EVERY)
        except _ERRORS as error:
            connection.terminate()
            raise QueueUnavailable(f"PostgreSQL: {cause(error)}") from error

    async def close(self) -> None:
        tasks = [task for task in (self._keeping, self._taking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._connection is not None:
            self._connection.terminate()


def absent(owners: Sequence[str], connection: Connection) -> list[str]:
    """Those of these workers that hold no lock, in the transaction at hand."""
    return [one for one in owners if connection.execute(select(func.pg_try_advisory_xact_lock(_key(one)))).scalar()]


def _key(owner: str) -> int:
    return int.from_bytes(blake2b(owner.encode(), digest_size=8).digest(), signed=True)
