"""What only an SQLite queue has: a file that others may lock, a write-ahead log, and a disk under it."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay.queue import admin, sqlite
from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.schema import CHUNK
from relay.queue.store import Change, Store
from tests.peers import wait_for
from tests.queue.changes import arrival, leased, sizes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


def is_locked(path: Path) -> bool:
    """Whether a process that wanted to write would have to wait."""
    with closing(sqlite3.connect(path, timeout=0)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The queue as another program's transaction leaves it."""
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


async def test_a_locked_queue_file_delays_and_loses_nothing(store: Store, path: Path) -> None:
    with locked(path):
        waiting = asyncio.create_task(store.apply(arrival()))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
    await asyncio.wait_for(waiting, 5)


async def test_a_queue_file_that_stays_locked_is_given_up_for_all_who_wait(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOCK_PATIENCE", 0.3)
    started = time.monotonic()
    with locked(path):
        outcomes = await asyncio.gather(*(store.apply(arrival()) for _ in range(50)), return_exceptions=True)
    assert all(isinstance(outcome, QueueUnavailable) for outcome in outcomes)
    assert time.monotonic() - started < 5, "they waited one after the other"
    assert str(outcomes[0]) == f"{path}: database is locked"
    await store.apply(arrival())


async def test_the_event_loop_goes_on_while_the_queue_file_is_locked(store: Store, path: Path) -> None:
    with locked(path):
        waiting = asyncio.create_task(store.apply(arrival()))
        for _ in range(20):
            before = time.monotonic()
            await asyncio.sleep(0.01)
            assert time.monotonic() - before < 0.5
            assert await store.due(2000.0, 1) == []
    await asyncio.wait_for(waiting, 5)


async def test_a_file_that_is_no_queue_is_a_clear_error(path: Path) -> None:
    path.write_bytes(b"this is no database at all, but it is long enough to be looked at " * 20)
    with pytest.raises(QueueUnavailable) as raised:
        await connect(f"sqlite:///{path}")
    assert str(raised.value) == f"{path}: file is not a database: move it away, or name another file in queue.url"


async def test_a_damaged_queue_file_is_a_clear_error(url: str, path: Path) -> None:
    await (await connect(url)).close()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (path.stat().st_size - 8192))
    with pytest.raises(QueueUnavailable) as raised:
        await connect(url)
    assert str(raised.value) == f"{path}: database disk image is malformed"


async def test_a_folder_that_is_not_there_is_a_clear_error(path: Path) -> None:
    with pytest.raises(QueueUnavailable) as raised:
        await connect(f"sqlite:///{path}/queue.db")
    assert str(raised.value) == f"{path}/queue.db: No such file or directory"


async def test_nobody_else_may_read_the_mail(store: Store, path: Path) -> None:
    await store.apply(arrival())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"queue.db": 0o600, "queue.db-shm": 0o600, "queue.db-wal": 0o600}


async def test_the_write_ahead_log_stays_short(store: Store, path: Path) -> None:
    content = b"Subject: x\r\n\r\n" + os.urandom(900_000)
    for _ in range(60):
        await store.apply(arrival(content))
        (delivery,) = await leased(store)
        await store.apply(Change(finished=[delivery.key]))
    assert path.with_name("queue.db-wal").stat().st_size < 40 << 20


async def test_somebody_who_reads_the_list_slowly_does_not_keep_the_log_long(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "PAGE", 1)
    monkeypatch.setattr(sqlite, "CHECKPOINT_AT", 1 << 20)
    store = Store(await connect(url), "worker-1/")
    await store.apply(arrival(recipients=2))
    reader = await connect(f"sqlite:///{path}", create=False)
    listing = admin.rows(reader)
    await anext(listing)
    content = b"Subject: x\r\n\r\n" + os.urandom(900_000)
    for _ in range(20):
        await store.apply(arrival(content))
        await asyncio.sleep(0.02)
    assert path.with_name("queue.db-wal").stat().st_size < 10 << 20
    assert len([row async for row in listing]) == 21
    await reader.close()
    await store.close()


async def test_the_log_keeps_its_size_when_it_starts_anew(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To make the file longer again would cost every commit and every sync."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_AT", 1 << 20)
    store, log = Store(await connect(url), "worker-1/"), path.with_name("queue.db-wal")
    content = b"Subject: x\r\n\r\n" + os.urandom(200_000)
    begins, lengths = set(), []
    for _ in range(30):
        await store.apply(arrival(content))
        await asyncio.sleep(0.01)
        begins.add(log.read_bytes()[:32])
        lengths.append(log.stat().st_size)
    await store.close()
    assert len(begins) >= 4, "it did not start anew"
    assert min(lengths[10:]) >= 1 << 20 and max(lengths) < 2 << 20


async def test_after_a_failed_sync_nothing_is_safe_until_the_log_was_started_anew(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    await store.apply(arrival())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(QueueUnavailable, match="sync: Input/output error"):
            await store.apply(arrival())
    log = path.with_name("queue.db-wal")
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM message").fetchone()
    with pytest.raises(QueueUnavailable, match="checkpoint"):
        await store.apply(arrival())
    reader.close()
    old = log.read_bytes()[:32]
    await store.apply(arrival())
    assert log.read_bytes()[:32] != old, "the log that may have a gap is still in use"


async def test_only_a_process_that_keeps_others_from_writing_copies_the_log_back(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise another process might start the log anew right then, which SQLite before 3.51.3 may not notice."""
    others_may_write: list[bool] = []

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if "checkpoint(" in sql:
                others_may_write.append(not is_locked(path))
            return super().execute(sql, *parameters)

    monkeypatch.setattr(sqlite, "CHECKPOINT_AT", 1 << 20)
    monkeypatch.setattr("relay.queue.wal.sqlite3.connect", partial(sqlite3.connect, factory=Watched))
    store = Store(await connect(url), "worker-1/")
    for _ in range(5):
        await store.apply(arrival(b"Subject: x\r\n\r\n" + os.urandom(900_000)))
    await store.close()
    assert others_may_write and not any(others_may_write)
    assert is_locked(path) is False


async def test_changes_of_sessions_that_send_at_once_share_one_commit_and_one_sync(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    monkeypatch.setattr(os, "fdatasync", syncs.append)
    await store.apply(arrival())
    (over,) = await leased(store)
    store.expect(lambda: 2)
    with closing(sqlite3.connect(path)) as reader:
        before = reader.execute("PRAGMA data_version").fetchone()[0]
        first = asyncio.create_task(store.apply(arrival()))
        await asyncio.sleep(0)
        settled = asyncio.create_task(store.apply(Change(finished=[over.key], durable=False)))
        await asyncio.sleep(0)
        assert reader.execute("PRAGMA data_version").fetchone()[0] == before, "one did not wait"
        await asyncio.gather(first, settled, store.apply(arrival()))
    assert len(syncs) == 2, "the message before, and these"
    assert len(await store.due(2000.0, 10)) == 2


def has_one_row(reader: sqlite3.Connection, table: str) -> bool:
    return bool(reader.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,))


async def test_a_sync_beside_one_that_failed_is_no_success(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports an error once; the next sync reports success."""
    both_committed = threading.Event()
    errors = [OSError(errno.EIO, "Input/output error")]

    def broken(_: int) -> None:
        assert both_committed.wait(10)
        if errors:
            raise errors.pop()

    monkeypatch.setattr(os, "fdatasync", broken)
    first, second = (
        asyncio.create_task(store.apply(arrival())),
        asyncio.create_task(store.token_for("x@x.example", 0, 1)),
    )
    with closing(sqlite3.connect(path)) as reader:
        for table in ("message", "srs_token"):
            await wait_for(partial(has_one_row, reader, table), "a commit")
    both_committed.set()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == [f"{path}: sync: Input/output error"] * 2
    await store.apply(arrival())
    assert await store.token_for("y@x.example", 0, 1)


async def test_a_large_message_that_could_not_be_synced_is_whole_or_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    change = arrival(b"Subject: x\r\n\r\n" + os.urandom(3 * CHUNK))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(QueueUnavailable, match="sync"):
            await store.apply(change)
    await store.apply(arrival())
    assert await store.load(change.arrived[0].id) in (change.arrived[0], None)


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "removed"])
async def test_nothing_is_put_into_a_queue_file_that_is_no_longer_there(
    store: Store, path: Path, suffix: str, replaced: bool
) -> None:
    """Mail would be accepted, and be gone at the next start."""
    await store.apply(arrival())
    file = Path(f"{path}{suffix}")
    moved = file.rename(file.with_name("moved"))
    if replaced:
        file.write_bytes(moved.read_bytes())
    with pytest.raises(QueueUnavailable, match="moved, removed or replaced while in use"):
        await store.apply(arrival())
    with pytest.raises(QueueUnavailable, match="moved"):
        await store.ping()
    moved.replace(file)
    await store.apply(arrival())


async def test_reading_the_whole_queue_does_not_stop_the_event_loop(store: Store) -> None:
    """`counts` and the estimate of stored senders, which read every row."""
    await store.apply(arrival(recipients=3))
    counting = asyncio.create_task(store.counts())
    await asyncio.sleep(0)
    assert not counting.done()
    assert await counting == {"queued": 3}


async def test_a_queue_that_was_killed_is_whole(url: str, path: Path) -> None:
    """A copy of the files at any moment is what a crash leaves behind."""
    store = Store(await connect(url), "worker-1/")
    changes = [arrival() for _ in range(20)]
    for change in changes:
        await store.apply(change)
    crashed = path.with_name("crashed.db")
    crashed.write_bytes(path.read_bytes())
    crashed.with_name("crashed.db-wal").write_bytes(path.with_name("queue.db-wal").read_bytes())
    await store.close()
    left = await connect(f"sqlite:///{crashed}", create=False)
    assert (await sizes(left))["message"] == 20
    await left.close()


async def test_the_one_host_of_a_queue_file_does_every_task(store: Store) -> None:
    assert await store.claims("way-home")
