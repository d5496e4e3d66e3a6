"""The queue in one SQLite file, shared by the worker processes of one host.

Units of work run right in the event loop, because a handful of indexed statements takes less time than handing them to
a thread and back; what may really take long is kept out of it: the sync to disk, checkpoints, reading the whole queue,
and the wait for another process's lock.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy import Connection, RootTransaction, create_engine, event
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, ProgrammingError, SQLAlchemyError

from relay.queue.database import NO_QUEUE, QueueUnavailable, Rejected, Work, cause, prepare

T = TypeVar("T")

log = structlog.get_logger()

LOCK_PATIENCE = 30.0  # seconds to wait for another process's write lock before a transaction is given up
CHECKPOINT_AT = 16 << 20  # octets of write-ahead log after which it is copied back into the database file
CHECKPOINT_LATE = 128 << 20  # octets of write-ahead log after which a failure to do so is worth a warning
CHECKPOINT_PATIENCE = 0.2  # seconds for which a checkpoint keeps this process's writers waiting for others' readers

_OF_THE_WORK = (DataError, IntegrityError, InterfaceError, ProgrammingError)  # errors that are no fault of the file


class SqliteDatabase:
    """One SQLite file in WAL mode.

    A commit appends to the write-ahead log without a sync (`synchronous = NORMAL`); `durable` then syncs the log itself
    in a thread, which is what `synchronous = FULL` would do, only that it does not hold the event loop.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self._path = path
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False, "timeout": 0})
        event.listen(self._engine, "connect", _configure)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="queue-sync")
        self._lock = asyncio.Lock()
        self._checkpoint: asyncio.Task[None] | None = None
        self._sync_failed = False
        try:
            _make_private(path, create)
            self._connection = self._engine.connect()
            with _patient(self._connection):
                prepare(self._connection, create=create)
            self._wal = os.open(f"{path}-wal", os.O_RDWR)
            _sync_folder(path.parent)
        except (SQLAlchemyError, sqlite3.Error, OSError, QueueUnavailable) as error:
            self._engine.dispose()
            raise QueueUnavailable(f"{path}: {cause(error)}") from None

    async def write(self, work: Work[T], *, durable: bool) -> T:
        async with self._lock:
            if self._sync_failed:
                await self._start_log_anew()
            transaction = await self._begin()
            try:
                with transaction:
                    result = work(self._connection)
            except SQLAlchemyError as error:
                raise (Rejected if isinstance(error, _OF_THE_WORK) else QueueUnavailable)(cause(error)) from error
        if durable:
            await self._sync()
        self._keep_log_short()
        return result

    async def _begin(self) -> RootTransaction:
        deadline = time.monotonic() + LOCK_PATIENCE
        pause = 0.001
        while True:
            try:
                _driver(self._connection).execute("BEGIN IMMEDIATE")
                return self._connection.begin()
            except sqlite3.Error as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise QueueUnavailable(cause(error)) from error
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    async def read(self, work: Work[T], *, long: bool = False) -> T:
        return await asyncio.to_thread(self._read, work) if long else self._read(work)

    def _read(self, work: Work[T]) -> T:
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise QueueUnavailable(cause(error)) from error

    # the write-ahead log

    async def _sync(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, os.fdatasync, self._wal)
        except OSError as error:
            self._sync_failed = True
            raise QueueUnavailable(f"sync: {cause(error)}") from error

    async def _start_log_anew(self) -> None:
        """After a failed sync the kernel may have dropped a part of the log, and whatever follows the gap would be lost
        with it. Only a log that was copied back whole, which syncs the database file, can be trusted again."""
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._threads, _checkpoint, self._path, "TRUNCATE")
        except sqlite3.Error as error:
            raise QueueUnavailable(f"checkpoint: {cause(error)}") from error
        if not done:
            raise QueueUnavailable("checkpoint: another process is reading the queue")
        self._sync_failed = False

    def _keep_log_short(self) -> None:
        if self._checkpoint is None and os.fstat(self._wal).st_size >= CHECKPOINT_AT:
            self._checkpoint = asyncio.create_task(self._run_checkpoint())

    async def _run_checkpoint(self) -> None:
        """Copy the log back while writers go on; only its end, and starting it anew, makes this process's wait."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._threads, _checkpoint, self._path, "PASSIVE")
            async with self._lock:
                await loop.run_in_executor(self._threads, _checkpoint, self._path, "TRUNCATE")
        except sqlite3.Error as error:
            log.warning("queue_checkpoint", problem=cause(error))
        finally:
            self._checkpoint = None
        if (size := os.fstat(self._wal).st_size) > CHECKPOINT_LATE:
            log.warning("queue_checkpoint", problem="another process reads without end", octets=size)

    async def close(self) -> None:
        if self._checkpoint is not None:
            await asyncio.wait([self._checkpoint])
        self._threads.shutdown()
        os.close(self._wal)
        self._connection.close()
        self._engine.dispose()


def _make_private(path: Path, create: bool) -> None:
    """A new queue is for its owner's eyes only; SQLite gives the files beside it the same mode.

    A file that is there is left alone: closing it would end the locks that this process has on it (fcntl(2)).
    """
    if path.exists():
        return
    if not create:
        raise QueueUnavailable(NO_QUEUE)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA page_size = 8192")
    connection.execute(f"PRAGMA busy_timeout = {int(LOCK_PATIENCE * 1000)}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = FAST")  # a build that overwrites what is deleted takes 80 ms for 25 MB
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA cache_size = -8192")


def _driver(connection: Connection) -> sqlite3.Connection:
    """What SQLAlchemy drives. `BEGIN IMMEDIATE` goes there by itself, since a listener to SQLAlchemy's `begin` event
    would slow every statement down; a read is one statement, and needs no transaction around it."""
    found = connection.connection.dbapi_connection
    assert isinstance(found, sqlite3.Connection)
    return found


@contextmanager
def _patient(connection: Connection) -> Iterator[None]:
    """A transaction that may wait for the lock in place: for start-up, when no session is served yet."""
    driver = _driver(connection)
    driver.execute(f"PRAGMA busy_timeout = {int(LOCK_PATIENCE * 1000)}")
    try:
        driver.execute("BEGIN IMMEDIATE")
        with connection.begin():
            yield
    finally:
        driver.execute("PRAGMA busy_timeout = 0")


def _checkpoint(path: Path, mode: str) -> bool:
    """Copy the log back into the database file; whether all of it was."""
    connection = sqlite3.connect(path, timeout=CHECKPOINT_PATIENCE)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        busy, _, _ = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    finally:
        connection.close()
    return not busy


def _is_busy(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
