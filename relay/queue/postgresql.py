"""The queue on a PostgreSQL server, shared by any number of hosts. A commit there is durable if its server says so."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from relay.queue.database import QueueUnavailable, Rejected, Work, cause, prepare

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0  # seconds until a server that does not answer counts as away
STATEMENT_TIMEOUT = 60.0  # seconds for one statement; only a server in trouble takes longer
CONNECTIONS = 5  # of one worker, and as many again while it is busy
PREPARING = 8_314_471  # the advisory lock under which one host at a time makes the tables


class PostgresDatabase:
    """A server, named by a libpq URI (`postgresql://user@host/database?sslmode=verify-full`).

    A password is best left to `~/.pgpass` or PGPASSFILE.
    """

    def __init__(self, url: str) -> None:
        self._dsn = "postgresql://" + url.partition("://")[2]
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=CONNECTIONS,
            max_overflow=CONNECTIONS,
            pool_pre_ping=True,
        )

    async def _connect(self) -> Any:
        """asyncpg reads the URI, and the environment, as libpq does.

        Raises:
            QueueUnavailable: the text names the server.
        """
        try:
            return await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT,
                command_timeout=STATEMENT_TIMEOUT,
                server_settings={"application_name": "srs-relay"},
            )
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
        try:
            async with self._engine.begin() as connection:
                if not durable:
                    await connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                return await connection.run_sync(work)
        except (SQLAlchemyError, OSError) as error:
            raise _unavailable(error) from error

    async def read(self, work: Work[T], *, long: bool = False) -> T:
        try:
            async with self._engine.connect() as connection:
                return await connection.run_sync(work)
        except (SQLAlchemyError, OSError) as error:
            raise _unavailable(error) from error

    async def reusable(self) -> int:
        return 0

    async def close(self) -> None:
        await self._engine.dispose()


def _unavailable(error: Exception) -> QueueUnavailable:
    answered = isinstance(error, DBAPIError) and not error.connection_invalidated
    return (Rejected if answered else QueueUnavailable)(f"PostgreSQL: {cause(error)}")
