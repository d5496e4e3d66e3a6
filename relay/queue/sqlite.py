"""The queue in one SQLite file, shared by the worker processes of one host.

Units of work run in the event loop, because a few indexed statements take less time than a thread switch. What may
take long runs outside it: the sync to disk, checkpoints, reading the whole queue, and the wait for another process's
lock.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from relay.queue import schema, wal
from relay.queue.database import NO_QUEUE, QueueUnavailable, Rejected, Work, error_line
from relay.queue.file_errors import mend
from relay.queue.migrations import Step, prepare
from relay.queue.sqlite_copy import copy_queue, sync
from relay.queue.wal import WriteAheadLog

T = TypeVar("T")

log = structlog.get_logger()

LOCK_PATIENCE = 30.0  # seconds to wait for another process's write lock before a transaction is given up
CHECKPOINT_AT = 16 << 20  # octets of write-ahead log after which it is copied back; its file keeps that size
CHECKPOINT_LATE = 128 << 20  # octets of write-ahead log after which a failure to do so is logged as a warning

_WORK_ERRORS = (DataError, IntegrityError, InterfaceError, ProgrammingError)  # the unit of work is wrong, not the file


class SqliteDatabase:
    """One SQLite file in WAL mode.

    A commit appends to the write-ahead log without a sync (`synchronous = NORMAL`). `durable` then syncs the log in a
    thread. `synchronous = FULL` would do the same, but in the event loop.

    The driver begins and ends transactions, and SQLAlchemy only executes statements: its own transaction is an object
    that does nothing here. A read is one statement, and needs none.

    Args:
        create: whether to make the queue if there is none.
        migrate: whether to migrate a queue of an earlier release, after a copy of it. Only a process that is alone
            with the file may do so.

    Raises:
        QueueUnavailable
    """

    def __init__(self, path: Path, *, create: bool = True, migrate: bool = False) -> None:
        self._path = path
        # Without a pool a long read closes its connection itself, also where the queue was closed meanwhile.
        self._engine = create_engine(
            f"sqlite:///{path}", connect_args={"check_same_thread": False, "timeout": 0}, poolclass=NullPool
        )
        event.listen(self._engine, "connect", _configure)
        self._lock = asyncio.Lock()
        self._checkpoint: asyncio.Task[None] | None = None
        self._checkpoint_at = CHECKPOINT_AT
        try:
            with ExitStack() as refused:
                refused.callback(self._engine.dispose)
                _make_private(path, create)
                self._connection = refused.enter_context(self._engine.connect())
                self._driver = _driver(self._connection)
                self._prepare(create, migrate)
                self._reader = refused.enter_context(self._engine.connect())
                self._log = WriteAheadLog(path, CHECKPOINT_AT)
                self._opened = [(file, _identity(file)) for file in (path, Path(f"{path}-wal"))]
                sync(path.parent)
                refused.pop_all()  # the queue is open
        except (SQLAlchemyError, sqlite3.Error, OSError, QueueUnavailable) as error:
            raise QueueUnavailable(self._problem(error)) from None

    def _prepare(self, create: bool, migrate: bool) -> None:
        copies: list[Path] = []

        def copy(version: int, _: Sequence[Step]) -> None:
            copies.append(copy_queue(self._path, version))

        try:
            with _patient(self._driver):
                migrated = prepare(self._connection, create=create, before=copy if migrate else None)
        except BaseException:
            for path in copies:  # the queue is as it was
                path.unlink(missing_ok=True)
            raise
        if migrated is not None:
            log.info("queue_migrated", **{"from": migrated, "to": schema.VERSION, "copy": str(copies[0])})

    def _problem(self, error: Exception, during: str = "") -> str:
        """What is wrong, in one line that says what to do about it."""
        return f"{self._path}: {during}{error_line(error)}{mend(self._path, error)}"

    async def write(self, work: Work[T], *, durable: bool) -> T:
        async with self._lock:
            if self._log.suspect:
                await self._start_log_anew()
            await self._begin()
            try:
                with self._driver:  # commits, or rolls back
                    result = work(self._connection)
            except (SQLAlchemyError, sqlite3.Error) as error:
                kind = Rejected if isinstance(error, _WORK_ERRORS) else QueueUnavailable
                raise kind(self._problem(error)) from error
        if durable:
            await self._sync()
        if self._checkpoint is None and self._log.octets > self._checkpoint_at:
            self._checkpoint = asyncio.create_task(self._keep_log_short())
        return result

    async def _begin(self) -> None:
        if any(_identity(file) != identity for file, identity in self._opened):
            raise QueueUnavailable(f"{self._path}: moved, removed or replaced while in use")
        deadline = time.monotonic() + LOCK_PATIENCE
        pause = 0.001
        while True:
            try:
                self._driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.Error as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise QueueUnavailable(self._problem(error)) from error
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    async def read(self, work: Work[T], *, long: bool = False) -> T:
        return await asyncio.to_thread(self._read_apart, work) if long else self._read(work)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise QueueUnavailable(self._problem(error)) from error

    def _read(self, work: Work[T]) -> T:
        with self._reading():
            return work(self._reader)

    def _read_apart(self, work: Work[T]) -> T:
        with self._reading(), self._engine.connect() as connection:
            return work(connection)

    async def reusable(self) -> int:
        return self._read(lambda c: _pragma(c, "freelist_count") * _pragma(c, "page_size"))

    def log_room(self) -> int:
        return min(self._log.octets, CHECKPOINT_AT)

    async def dead_owners(self, owners: Sequence[str]) -> list[str]:
        return []  # the supervisor, which holds the lock on the file, knows its workers: see `relay.process.supervisor`

    async def claims(self, task: str) -> bool:
        return True

    announces = hears = False

    def watch(self, heard: Callable[[], None]) -> None:
        pass

    def announce(self) -> None:
        pass

    # the write-ahead log

    async def _sync(self) -> None:
        try:
            await self._log.sync()
        except OSError as error:
            raise QueueUnavailable(self._problem(error, "sync: ")) from error

    async def _start_log_anew(self) -> None:
        try:
            done = await self._log.start_anew()
        except sqlite3.Error as error:
            raise QueueUnavailable(self._problem(error, "checkpoint: ")) from error
        if not done:
            raise QueueUnavailable(f"{self._path}: checkpoint: another process is using the queue")

    async def _keep_log_short(self) -> None:
        try:
            async with self._lock:
                if self._log.octets > self._checkpoint_at:  # no other process has done it
                    await self._log.start_anew()
        except sqlite3.Error as error:
            log.warning("queue_checkpoint", problem=error_line(error))
        finally:
            self._checkpoint = None
        octets = self._log.octets
        self._checkpoint_at = CHECKPOINT_AT if octets <= CHECKPOINT_AT else octets + CHECKPOINT_AT
        if octets > CHECKPOINT_LATE:
            log.warning("queue_checkpoint", problem="another process reads without end", octets=octets)

    async def close(self) -> None:
        if self._checkpoint is not None:
            await asyncio.wait([self._checkpoint])
        self._log.close()
        self._connection.close()
        self._reader.close()
        self._engine.dispose()


def _make_private(path: Path, create: bool) -> None:
    """Make a new queue file that only its owner may read; SQLite gives the files beside it the same mode.

    A file that exists is not opened here: closing it would end the locks that this process has on it (fcntl(2)).
    """
    if path.exists():
        return
    if not create:
        raise QueueUnavailable(NO_QUEUE)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _identity(file: Path) -> tuple[int, int] | None:
    """The device and inode number of a file: mail that goes into a removed or replaced one would be lost."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA page_size = 8192")
    connection.execute(f"PRAGMA busy_timeout = {int(LOCK_PATIENCE * 1000)}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("PRAGMA secure_delete = FAST")  # a build that overwrites what is deleted takes 80 ms for 25 MB
    wal.configure(connection, CHECKPOINT_AT)
    connection.execute("PRAGMA cache_size = -2048")


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


@contextmanager
def _patient(driver: sqlite3.Connection) -> Iterator[None]:
    """A transaction that waits for the write lock without the event loop: for the start, before there are sessions."""
    driver.execute(f"PRAGMA busy_timeout = {int(LOCK_PATIENCE * 1000)}")
    try:
        driver.execute("BEGIN IMMEDIATE")
        with driver:
            yield
    finally:
        driver.execute("PRAGMA busy_timeout = 0")


def _is_busy(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
