"""The queue on a PostgreSQL server, shared by any number of hosts. A commit there is durable if its server says so."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from relay.queue import presence
from relay.queue.database import QueueUnavailable, Rejected, Work, cause, prepare
from relay.queue.presence import Presence

T = TypeVar("T")

_ERRORS = (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)  # SQLAlchemy lets some of its pass

CONNECT_TIMEOUT = 10.0  # seconds until a server that does not answer counts as away
STATEMENT_TIMEOUT = 60.0  # seconds for one statement; only a server in trouble takes longer
CONNECTIONS = 5  # of one worker, and as many again while it is busy
# So that the server lets go of what a host held that died, or that the network has lost, within half a minute.
NOTICE_DEAD_HOSTS = """
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = 25000
"""
PREPARING = 8_314_471  # the advisory lock under which one host at a time makes the tables


class PostgresDatabase:
    """A server, named by a libpq URI (`postgresql://user@host/database?sslmode=verify-full`).

    A password is best left to `~/.pgpass` or PGPASSFILE. With the name of a worker it writes only while the others can
    see that this worker lives.
    """

    def __init__(self, url: str, owner: str | None = None) -> None:
        self._dsn = "postgresql://" + url.partition("://")[2]
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=CONNECTIONS,
            max_overflow=CONNECTIONS,
            pool_pre_ping=True,
        )
        self._presence = Presence(self._connect, owner) if owner is not None else None

    async def _connect(self) -> asyncpg.Connection:
        """asyncpg reads the URI, and the environment, as libpq does.

        Raises:
            QueueUnavailable: the text names the server.
        """
        try:
            connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT,
                command_timeout=STATEMENT_TIMEOUT,
                server_settings={"application_name": "srs-relay"},
            )
            await connection.execute(NOTICE_DEAD_HOSTS)
            return connection
        except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            server = urlsplit(self._dsn)
            where = (server.hostname or "localhost") + server.path
            raise QueueUnavailable(f"PostgreSQL at {where}: {cause(error)}") from error

    async def prepare(self, *, create: bool) -> None:
        """Find the tables, or make them; several hosts may do so at once.

        Raises:
            QueueUnavailable
        """

        def once(connection: Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({PREPARING})")
            prepare(connection, create=create)

        try:
            await self.write(once, durable=True)
        except QueueUnavailable:
            await self.close()
            raise

    async def write(self, work: Work[T], *, durable: bool) -> T:
        if self._presence is not None:
            await self._presence.shown()
        try:
            async with self._engine.begin() as connection:
                if not durable:
                    await connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                return await connection.run_sync(work)
        except _ERRORS as error:
            raise _unavailable(error) from error

    async def read(self, work: Work[T], *, long: bool = False) -> T:
        try:
            async with self._engine.connect() as connection:
                return await connection.run_sync(work)
        except _ERRORS as error:
            raise _unavailable(error) from error

    async def reusable(self) -> int:
        return 0

    async def absent(self, owners: Sequence[str]) -> list[str]:
        return await self.read(partial(presence.absent, owners))

    async def close(self) -> None:
        if self._presence is not None:
            await self._presence.close()
        await self._engine.dispose()


def _unavailable(error: Exception) -> QueueUnavailable:
    answered = isinstance(error, DBAPIError) and not error.connection_invalidated
    return (Rejected if answered else QueueUnavailable)(f"PostgreSQL: {cause(error)}")
