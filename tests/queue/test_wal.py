"""The write-ahead log of an SQLite file by itself; `test_sqlite.py` and `test_power.py` have it under a queue."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.queue import wal
from relay.queue.wal import WriteAheadLog, configure


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that has committed something, which only the log has."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        configure(connection, 0)
        connection.execute("CREATE TABLE mail (content BLOB)")
        connection.execute("INSERT INTO mail VALUES (zeroblob(100000))")
        yield connection


@pytest.fixture
def log(path: Path, writer: sqlite3.Connection) -> Iterator[WriteAheadLog]:
    log = WriteAheadLog(path, 0)
    yield log
    log.close()


def copied(path: Path) -> bool:
    """Whether the database file has the mail without its log."""
    alone = path.with_name("alone.db")
    alone.write_bytes(path.read_bytes())
    with closing(sqlite3.connect(alone)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        return tables == [("mail",)] and connection.execute("SELECT count(*) FROM mail").fetchone() == (1,)


async def test_the_log_is_copied_and_started_anew(path: Path, log: WriteAheadLog) -> None:
    assert log.octets > 100_000 and not copied(path)
    assert await log.start_anew()
    assert log.octets < 100_000 and copied(path)


async def test_a_reader_of_what_only_the_log_has_prevents_it(
    path: Path, writer: sqlite3.Connection, log: WriteAheadLog
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM mail").fetchone()
        writer.execute("INSERT INTO mail VALUES ('more')")
        assert not await log.start_anew()
        reader.execute("COMMIT")
    assert await log.start_anew()


async def test_a_writer_prevents_it(monkeypatch: pytest.MonkeyPatch, path: Path, writer: sqlite3.Connection) -> None:
    monkeypatch.setattr(wal, "LOCK_PATIENCE", 0.05)
    log = WriteAheadLog(path, 0)
    writer.execute("BEGIN IMMEDIATE")
    assert not await log.start_anew()
    writer.execute("COMMIT")
    assert await log.start_anew()
    log.close()


async def test_a_log_that_could_not_be_synced_is_suspect_until_it_is_started_anew(
    monkeypatch: pytest.MonkeyPatch, log: WriteAheadLog
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    await log.sync()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", broken)
        with pytest.raises(OSError, match="Input/output error"):
            await log.sync()
    assert log.suspect
    with pytest.raises(OSError, match="Input/output error"):
        await log.sync()  # the kernel would report no error this time
    assert await log.start_anew()
    assert not log.suspect
    await log.sync()


async def test_no_commit_makes_a_checkpoint_by_itself(path: Path, writer: sqlite3.Connection) -> None:
    for _ in range(100):
        writer.execute("INSERT INTO mail VALUES (zeroblob(100000))")
    assert path.stat().st_size < 100_000
