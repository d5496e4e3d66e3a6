"""The queue on a PostgreSQL server, shared by any number of hosts. Its settings say how durable a commit is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg
import structlog
from sqlalchemy import AdaptedConnection, Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from relay.queue import presence, schema
from relay.queue.announcements import CHANNEL, NOTIFY, Announcer, Listener
from relay.queue.database import QueueUnavailable, Rejected, Work, error_line
from relay.queue.migrations import Step, prepare
from relay.queue.presence import APPLICATION, Presence

T = TypeVar("T")

log = structlog.get_logger()

_ERRORS = (SQLAlchemyError, *presence.ERRORS)  # SQLAlchemy passes some on as they are

CONNECT_TIMEOUT = 10.0  # seconds until a server that does not answer counts as away
STATEMENT_TIMEOUT = 60.0  # seconds for one statement; only a server in trouble takes longer
CONNECTIONS = 5  # of one worker, and as many again while it is busy
MIGRATION_LOCK_TIMEOUT = 10  # seconds in which a step waits for a table; the mail of all hosts waits behind it
# With these the server notices within half a minute that a host is dead or lost, and frees its locks.
NOTICE_DEAD_HOSTS = """
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = 25000;
"""
# Its older compression takes 0.1 ms for 10 KiB of text, lz4 a third of that. Not every server has it.
COMPRESS_QUICKLY = """
    SELECT set_config(name, 'lz4', false) FROM pg_settings
    WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)
"""
PREPARING = 8_314_471  # the advisory lock under which one host at a time makes or migrates the tables

# Whatever the default of the server is: a statement has to see what others committed while it waited for a lock.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_BEGIN_NOT_DURABLE = f"{_BEGIN}; SET LOCAL synchronous_commit = off"


class _BrokenBefore(Exception):
    """The connection turned out to be broken, and nothing was changed through it."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class PostgresDatabase:
    """A database on a server, named by a libpq URI (`postgresql://user@host/database?sslmode=verify-full`).

    A password is best left to `~/.pgpass` or PGPASSFILE.

    Args:
        owner: the name of a worker. The database is then written only while other hosts can see that it lives.
    """

    def __init__(self, url: str, owner: str | None = None) -> None:
        self._dsn = "postgresql://" + url.partition("://")[2]
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=CONNECTIONS,
            max_overflow=CONNECTIONS,
            isolation_level="AUTOCOMMIT",  # a read is one statement; a write begins and ends its transaction itself
        )
        self._listener = Listener(owner or "")
        self._presence = Presence(self._connect, owner, self._listener) if owner is not None else None
        self._announcer = Announcer(
            partial(self.read, lambda c: c.exec_driver_sql(NOTIFY, (CHANNEL, owner or "a command")))
        )

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
                server_settings={"application_name": APPLICATION},
            )
            try:
                await connection.execute(NOTICE_DEAD_HOSTS + COMPRESS_QUICKLY)
            except BaseException:
                connection.terminate()  # nobody else knows of it
                raise
            return connection
        except (ValueError, *presence.ERRORS) as error:
            server = urlsplit(self._dsn)
            name = (server.hostname or "localhost") + server.path
            raise QueueUnavailable(f"PostgreSQL at {name}: {error_line(error)}") from error

    async def prepare(self, *, create: bool) -> None:
        """Find the tables; with `create` make or migrate them where needed. Several hosts may do so at once.

        Raises:
            QueueUnavailable: nothing was changed.
        """

        def work(connection: Connection) -> int | None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({PREPARING})")
            before = partial(_before_migration, connection) if create else None
            return prepare(connection, create=create, before=before)

        try:
            migrated = await self.write(work, durable=True)
        except QueueUnavailable:
            await self.close()
            raise
        if migrated is not None:
            log.info("queue_migrated", **{"from": migrated, "to": schema.VERSION, "copy": None})

    async def write(self, work: Work[T], *, durable: bool) -> T:
        if self._presence is not None:
            await self._presence.shown()
        return await self._use_connection(partial(_in_transaction, work, _BEGIN if durable else _BEGIN_NOT_DURABLE))

    async def read(self, work: Work[T], *, long: bool = False) -> T:
        return await self._use_connection(partial(_without_transaction, work))

    async def _use_connection(self, use: Work[T]) -> T:
        try:
            return await greenlet_spawn(self._on_connection, use)
        except _ERRORS as error:
            raise _unavailable(error) from error

    def _on_connection(self, use: Work[T]) -> T:
        """Use a connection of the pool; another one, where the server has ended it since it was used last.

        A question before each use would tell as well, and cost a round trip every time.
        """
        while True:
            with self._engine.sync_engine.connect() as connection:
                was_used = connection.info.get("used", False)
                connection.info["used"] = True
                try:
                    return use(connection)
                except _BrokenBefore as broken:
                    waited = isinstance(broken.error, TimeoutError)
                    if waited or not was_used:
                        raise broken.error from None

    async def reusable(self) -> int:
        return 0

    def log_room(self) -> int:
        return 0

    async def dead_owners(self, owners: Sequence[str]) -> list[str]:
        return await self.read(partial(presence.without_lock, owners))

    async def claims(self, task: str) -> bool:
        return self._presence is not None and await self._presence.claims(task)

    announces = True

    @property
    def hears(self) -> bool:
        return self._presence is not None and self._presence.is_shown

    def watch(self, heard: Callable[[], None]) -> None:
        self._listener.watch(heard)

    def announce(self) -> None:
        self._announcer.announce()

    async def close(self) -> None:
        await self._announcer.close()
        self._listener.close()
        if self._presence is not None:
            await self._presence.close()
        await self._engine.dispose()


def _in_transaction(work: Work[T], begin: str, connection: Connection) -> T:
    """Run work between a statement that begins a transaction and its commit.

    Raises:
        _BrokenBefore
    """
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, AdaptedConnection)
    try:
        try:
            driver.run_async(lambda c: c.execute(begin))
        except _ERRORS as error:
            raise _BrokenBefore(error) from None
        result = work(connection)
        driver.run_async(lambda c: c.execute("COMMIT"))
    except BaseException:
        connection.invalidate()  # the server rolls back, also where this side does not know how far it came
        raise
    return result


def _without_transaction(work: Work[T], connection: Connection) -> T:
    """Run work that only reads.

    Raises:
        _BrokenBefore
    """
    try:
        return work(connection)
    except _ERRORS as error:
        if isinstance(error, DBAPIError) and not error.connection_invalidated:
            raise
        connection.invalidate()
        raise _BrokenBefore(error) from None


def _before_migration(connection: Connection, version: int, steps: Sequence[Step]) -> None:
    """Refuse a migration that the hosts at work could not go on with.

    Raises:
        QueueUnavailable
    """
    if not all(step.additive for step in steps):
        workers = presence.live_workers(connection)
        if workers:
            raise QueueUnavailable(
                f"the queue has to be migrated from schema version {version} to {schema.VERSION}, and workers of the "
                f"earlier release could not go on with it: stop the relay on every host first. "
                f"Still at work: {', '.join(workers)}"
            )
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{MIGRATION_LOCK_TIMEOUT}s'")


def _unavailable(error: Exception) -> QueueUnavailable:
    answered = isinstance(error, DBAPIError) and not error.connection_invalidated
    return (Rejected if answered else QueueUnavailable)(f"PostgreSQL: {error_line(error)}")
