"""Where the store's transactions run: SQLite in this process, or PostgreSQL over the network.

A unit of work is a plain function of a SQLAlchemy connection. PostgreSQL runs it over asyncpg. SQLite runs it right in
the event loop, because a handful of indexed statements takes less time than handing them to a thread and back; what
may really take long is kept out of the loop: the sync to disk, checkpoints, and the wait for another worker's lock.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy import Connection, create_engine, event, insert, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from relay.queue import schema

T = TypeVar("T")
Work = Callable[[Connection], T]

log = structlog.get_logger()

LOCK_PATIENCE = 30.0  # seconds to wait for another process's write lock before a transaction is given up
CHECKPOINT_AT = 16 << 20  # octets of write-ahead log after which it is copied back into the database file
CHECKPOINT_HARD = 128 << 20  # octets after which writers wait for the copying


class QueueUnavailable(Exception):
    """The queue cannot be written or read now: disk full, locked, corrupt, server away. Nothing was stored."""


class Database(Protocol):
    """Runs units of work, each in a transaction of its own."""

    async def write(self, work: Work[T], *, durable: bool) -> T:
        """Run and commit; with `durable` return only when it would survive a power failure.

        Raises:
            QueueUnavailable: nothing was committed, or the commit could not be made durable.
        """
        ...

    async def read(self, work: Work[T]) -> T:
        """Run without the intention to write.

        Raises:
            QueueUnavailable
        """
        ...

    async def close(self) -> None: ...


def prepare(connection: Connection) -> None:
    """Create the tables where they are missing.

    Raises:
        QueueUnavailable: the queue was written by a newer version.
    """
    schema.metadata.create_all(connection)
    found = connection.execute(select(schema.version.c.version)).scalar()
    if found is None:
        connection.execute(insert(schema.version).values(version=schema.VERSION))
    elif found != schema.VERSION:
        raise QueueUnavailable(f"the queue has schema version {found}, this program knows {schema.VERSION}")


class SqliteDatabase:
    """One SQLite file in WAL mode, shared by the worker processes of one host.

    A commit appends to the write-ahead log without a sync (`synchronous = NORMAL`); `durable` then syncs the log itself
    in a thread, which is what `synchronous = FULL` would do, only that it does not hold the event loop.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        if not create and not path.exists():
            raise QueueUnavailable(f"{path}: there is no queue yet; `srs-relay serve` makes it")
        self._path = path
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False, "timeout": 0})
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin_immediate)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="queue-sync")
        self._lock = asyncio.Lock()
        self._checkpoint: asyncio.Task[None] | None = None
        try:
            self._connection = self._engine.connect()
            with _patient(self._connection):
                prepare(self._connection)
            self._wal = os.open(f"{path}-wal", os.O_RDWR)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except (SQLAlchemyError, OSError) as error:
            raise QueueUnavailable(f"{path}: {_cause(error)}") from None

    async def write(self, work: Work[T], *, durable: bool) -> T:
        async with self._lock:
            transaction = await self._begin()
            try:
                result = work(self._connection)
                transaction.commit()
            except SQLAlchemyError as error:
                transaction.rollback()
                raise QueueUnavailable(_cause(error)) from error
            except BaseException:
                transaction.rollback()
                raise
        if durable:
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, os.fdatasync, self._wal)
            except OSError as error:
                raise QueueUnavailable(f"sync: {error.strerror}") from error
        self._keep_log_short()
        return result

    async def _begin(self) -> Any:
        deadline = time.monotonic() + LOCK_PATIENCE
        pause = 0.001
        while True:
            try:
                return self._connection.begin()
            except DBAPIError as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise QueueUnavailable(_cause(error)) from error
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    async def read(self, work: Work[T]) -> T:
        try:
            with self._engine.connect().execution_options(read_only=True) as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise QueueUnavailable(_cause(error)) from error

    def _keep_log_short(self) -> None:
        if self._checkpoint is not None or os.fstat(self._wal).st_size < CHECKPOINT_AT:
            return
        self._checkpoint = asyncio.create_task(self._run_checkpoint())

    async def _run_checkpoint(self) -> None:
        """Copy the log back while writers go on; only a log that outgrows that makes this process's writers wait."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._threads, _checkpoint, self._path, "PASSIVE")
            async with self._lock:
                await loop.run_in_executor(self._threads, _checkpoint, self._path, "TRUNCATE")
        except sqlite3.OperationalError as error:
            if os.fstat(self._wal).st_size > CHECKPOINT_HARD:
                log.warning("queue_checkpoint", problem=str(error))
        finally:
            self._checkpoint = None

    async def close(self) -> None:
        if self._checkpoint is not None:
            await asyncio.wait([self._checkpoint])
        self._threads.shutdown()
        os.close(self._wal)
        self._connection.close()
        self._engine.dispose()


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA page_size = 8192")
    connection.execute(f"PRAGMA busy_timeout = {int(LOCK_PATIENCE * 1000)}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA cache_size = -8192")


def _begin_immediate(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("read_only")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@contextmanager
def _patient(connection: Connection) -> Iterator[None]:
    """A transaction that may wait for the lock in place: for start-up, when no session is served yet."""
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.execute(f"PRAGMA busy_timeout = {int(LOCK_PATIENCE * 1000)}")
    try:
        with connection.begin():
            yield
    finally:
        raw.execute("PRAGMA busy_timeout = 0")


def _checkpoint(path: Path, mode: str) -> None:
    connection = sqlite3.connect(path, timeout=0.2)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_checkpoint({mode})")
    finally:
        connection.close()


def _is_busy(error: DBAPIError) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _cause(error: Exception) -> str:
    if isinstance(error, DBAPIError) and error.orig is not None:
        return str(error.orig)
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


class PostgresDatabase:
    """A PostgreSQL server, shared by any number of hosts. A commit there is durable if its server says so."""

    def __init__(self, url: str) -> None:
        self._engine = create_async_engine(url, pool_size=5, max_overflow=5, pool_pre_ping=True)

    async def prepare(self) -> None:
        """Create the tables where they are missing; several hosts may do so at once.

        Raises:
            QueueUnavailable
        """

        def once(connection: Connection) -> None:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(8314471)")
            prepare(connection)

        await self.write(once, durable=True)

    async def write(self, work: Work[T], *, durable: bool) -> T:
        try:
            async with self._engine.begin() as connection:
                if not durable:
                    await connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                return await connection.run_sync(work)
        except (SQLAlchemyError, OSError) as error:
            raise QueueUnavailable(_cause(error)) from error

    async def read(self, work: Work[T]) -> T:
        try:
            async with self._engine.connect() as connection:
                return await connection.run_sync(work)
        except (SQLAlchemyError, OSError) as error:
            raise QueueUnavailable(_cause(error)) from error

    async def close(self) -> None:
        await self._engine.dispose()


async def connect(url: str, *, create: bool = True) -> Database:
    """The database behind `queue.url`, its tables in place.

    Raises:
        QueueUnavailable: it cannot be opened, holds another version's queue, or is not there and not to be made.
    """
    if url.startswith("sqlite:///"):
        return SqliteDatabase(Path(url.removeprefix("sqlite:///")), create=create)
    database = PostgresDatabase(url)
    await database.prepare()
    return database
