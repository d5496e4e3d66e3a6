"""A queue of an earlier release is migrated once, whole or not at all, and never backwards.

The steps here are those of `tests.queue.migrating`; `test_published.py` takes the steps of releases.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, inspect, update
from structlog.testing import capture_logs

from relay.queue import migrations, schema
from relay.queue.connect import connect
from relay.queue.database import Database, QueueUnavailable
from relay.queue.migrations import OLDEST, STEPS, Step
from relay.queue.store import Store
from tests.peers import needs
from tests.postgresql import PostgresServer
from tests.queue.changes import arrival, leased, sizes
from tests.queue.migrating import ADDITIVE, NEXT, NOT_ADDITIVE, add_column, rename_column

NOW = schema.VERSION


def become(monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
    """Make this program the next release, with these steps."""
    monkeypatch.setattr(schema, "VERSION", NEXT)
    monkeypatch.setattr(migrations, "STEPS", (*STEPS, *steps))


async def columns(queue: Database) -> set[str]:
    return await queue.read(lambda c: {column["name"] for column in inspect(c).get_columns("delivery")})


async def version(queue: Database) -> int:
    return await queue.read(lambda c: c.exec_driver_sql("SELECT version FROM schema_version").scalar_one())


async def filled(url: str) -> None:
    store = Store(await connect(url), "worker-1/")
    await store.apply(arrival(recipients=2))
    await store.close()


async def refusal(url: str, *, create: bool = True) -> str:
    with pytest.raises(QueueUnavailable) as raised:
        await connect(url, create=create)
    return str(raised.value)


async def connect_in_the_end(url: str) -> Database:
    """Connect once the server has ended the sessions of those that have left."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await connect(url)
            except QueueUnavailable:
                await asyncio.sleep(0.01)


def copies(folder: Path) -> list[Path]:
    return sorted(folder.glob("queue.db.v*"))


@contextmanager
def process(role: str, url: str, *first_lines: str) -> Iterator[subprocess.Popen[str]]:
    """A process of `tests.queue.migrating`, once it has printed these lines."""
    command = [sys.executable, "-m", "tests.queue.migrating", role, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as running:
        try:
            assert running.stdout is not None
            for line in first_lines:
                assert running.stdout.readline() == f"{line}\n"
            yield running
        finally:
            running.kill()


def test_every_version_has_its_step() -> None:
    assert [step.version for step in STEPS] == list(range(OLDEST + 1, schema.VERSION + 1))


async def test_mail_is_there_after_a_migration(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(url)
    become(monkeypatch, ADDITIVE)
    with capture_logs() as lines:
        queue = await connect(url)
    assert await version(queue) == NEXT
    assert "priority" in await columns(queue)
    assert await sizes(queue) == {"message": 1, "chunk": 0, "delivery": 2}
    assert len(await leased(Store(queue, "worker-1/"))) == 2
    (line,) = lines
    assert (line["event"], line["from"], line["to"]) == ("queue_migrated", NOW, NEXT)
    await queue.close()
    with capture_logs() as lines:
        await (await connect(url)).close()
    assert lines == []


async def test_several_steps_are_run_in_order(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(url)

    def count(connection: Connection) -> None:
        connection.exec_driver_sql("UPDATE delivery SET priority = 7")

    monkeypatch.setattr(schema, "VERSION", NEXT + 1)
    monkeypatch.setattr(migrations, "STEPS", (*STEPS, ADDITIVE, Step(NEXT + 1, additive=True, run=count)))
    queue = await connect(url)
    assert await version(queue) == NEXT + 1
    priorities = await queue.read(lambda c: c.exec_driver_sql("SELECT priority FROM delivery").scalars().all())
    assert priorities == [7, 7]
    await queue.close()


async def test_a_new_queue_has_the_newest_version_and_needs_no_step(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, ADDITIVE)
    with capture_logs() as lines:
        queue = await connect(url)
    assert await version(queue) == NEXT
    assert lines == []
    await queue.close()


async def test_commands_and_workers_never_migrate(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(url)
    become(monkeypatch, ADDITIVE)
    line = f"the queue has schema version {NOW}, this program needs {NEXT}: `srs-relay serve` migrates it at its start"
    assert (await refusal(url, create=False)).endswith(line)
    if url.startswith("sqlite"):
        with pytest.raises(QueueUnavailable, match=f"this program needs {NEXT}"):
            await connect(url, owner="worker-1/")
    monkeypatch.undo()
    queue = await connect(url, create=False)
    assert await version(queue) == NOW
    await queue.close()


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (99, f"this program knows {NOW}: a newer srs-relay wrote it, and there is no way back"),
        (1, f"and migrations are supported from version {OLDEST} on"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
async def test_a_version_without_a_way_is_refused_in_one_line(
    url: str, store: Store, queue: Database, number: int, reason: str, create: bool
) -> None:
    await queue.write(lambda c: c.execute(update(schema.version).values(version=number)), durable=True)
    text = await refusal(url, create=create)
    assert text.endswith(reason) and f"schema version {number}, " in text and "\n" not in text


async def test_a_step_that_fails_changes_nothing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(url)

    def fail(connection: Connection) -> None:
        add_column(connection)
        connection.exec_driver_sql("UPDATE nothing SET x = 1")

    become(monkeypatch, Step(NEXT, additive=True, run=fail))
    assert "nothing" in await refusal(url)
    assert copies(tmp_path) == []
    monkeypatch.undo()
    queue = await connect(url)
    assert "priority" not in await columns(queue)
    assert len(await leased(Store(queue, "worker-1/"))) == 2
    await queue.close()


async def test_two_that_start_at_once_migrate_once(url: str, tmp_path: Path) -> None:
    await filled(url)
    with process("start", url, "starts") as first, process("start", url, "starts") as second:
        outputs = [running.communicate(timeout=60)[0] for running in (first, second)]
        assert (first.returncode, second.returncode) == (0, 0), outputs
    assert sum("queue_migrated" in output for output in outputs) == 1
    if url.startswith("sqlite"):
        assert len(copies(tmp_path)) == 1


async def test_after_a_crash_in_the_middle_the_earlier_release_can_go_on(url: str) -> None:
    await filled(url)
    with process("hang", url, "starts", "in the middle") as running:
        running.send_signal(signal.SIGKILL)
        running.wait(10)
    queue = await connect(url)
    assert await version(queue) == NOW
    assert "priority" not in await columns(queue)
    assert len(await leased(Store(queue, "worker-1/"))) == 2
    await queue.close()


# SQLite: after a copy


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
async def file(path: Path) -> Path:
    """A queue of this release, with mail in it."""
    await filled(f"sqlite:///{path}")
    return path


async def test_the_copy_is_a_queue_of_the_earlier_release(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        become(patched, ADDITIVE)
        with capture_logs() as lines:
            await (await connect(f"sqlite:///{file}")).close()
    (copy,) = copies(file.parent)
    assert lines[0]["copy"] == str(copy)
    assert copy.name.startswith(f"queue.db.v{NOW}-2")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert "a newer srs-relay wrote it" in await refusal(f"sqlite:///{file}")
    copy.replace(file)
    queue = await connect(f"sqlite:///{file}")
    assert len(await leased(Store(queue, "worker-1/"))) == 2
    await queue.close()


async def test_the_copy_has_what_is_only_in_the_write_ahead_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that was killed leaves its last mail there."""
    store = Store(await connect(f"sqlite:///{path}"), "worker-1/")
    await store.apply(arrival())
    killed = path.with_name("killed")
    killed.mkdir()
    for name in ("queue.db", "queue.db-wal"):
        (killed / name).write_bytes((path.parent / name).read_bytes())
    await store.close()
    become(monkeypatch, ADDITIVE)
    await (await connect(f"sqlite:///{killed / 'queue.db'}")).close()
    (copy,) = copies(killed)
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM message").fetchone() == (1,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_without_room_for_a_copy_nothing_is_changed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, ADDITIVE)
    disk = SimpleNamespace(f_bavail=8000, f_frsize=4096)
    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", lambda _: disk)
        text = await refusal(f"sqlite:///{file}")
    assert text == (
        f"{file}: no room in {file.parent} for a copy of the queue before its migration: "
        "33 MiB are needed, 31 MiB are free; nothing was changed"
    )
    assert copies(file.parent) == []
    queue = await connect(f"sqlite:///{file}")
    assert await version(queue) == NEXT
    await queue.close()


async def test_a_copy_that_cannot_be_made_safe_is_removed_and_nothing_is_changed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    become(monkeypatch, ADDITIVE)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        assert await refusal(f"sqlite:///{file}") == f"{file}: Input/output error"
    assert copies(file.parent) == []
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchone() == (NOW,)


async def test_free_pages_need_no_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file does not shrink when mail leaves, so it may be much larger than its copy."""
    store = Store(await connect(f"sqlite:///{path}"), "worker-1/")
    await store.apply(arrival(b"Subject: x\r\n\r\n" + os.urandom(3 << 20)))
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        for table in ("message", "chunk", "delivery"):
            connection.execute(f"DELETE FROM {table}")
        connection.commit()
    become(monkeypatch, ADDITIVE)
    disk = SimpleNamespace(f_bavail=33 << 8, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    await (await connect(f"sqlite:///{path}")).close()
    (copy,) = copies(path.parent)
    assert copy.stat().st_size < 1 << 20 < path.stat().st_size


# PostgreSQL: with other hosts at work


@pytest.fixture
async def database(server: PostgresServer) -> str:
    """The URL of a queue of this release."""
    url = server.create_database()
    await (await connect(url)).close()
    return url


@needs("postgres")
async def test_an_additive_step_runs_while_a_host_of_the_earlier_release_works(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with process("at-work", database, "at work", "finished") as old:
        assert old.stdout is not None
        become(monkeypatch, ADDITIVE)
        await (await connect(database)).close()
        new = Store(await connect(database, owner="new/worker"), "new/worker")
        await new.apply(arrival(hop="new.example", next_attempt=1e12))
        for _ in range(20):
            assert await asyncio.to_thread(old.stdout.readline) == "finished\n"
        assert old.poll() is None
        await new.close()


@needs("postgres")
async def test_a_step_that_is_not_additive_waits_until_the_earlier_release_has_stopped(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, NOT_ADDITIVE)
    leasing = Store(await connect(database, owner="mx1/aa"), "mx1/aa")
    await leasing.apply(arrival())
    await leased(leasing, 2000.0)
    idling = Store(await connect(database, owner="mx2/bb"), "mx2/bb")
    await idling.ping()
    text = await refusal(database)
    assert text == (
        f"the queue has to be migrated from schema version {NOW} to {NEXT}, and workers of the earlier release "
        "could not go on with it: stop the relay on every host first. "
        "Still at work: a worker at 127.0.0.1, mx1/aa"
    )
    await idling.close()
    while "127.0.0.1" in (text := await refusal(database)):  # the server takes a moment to end a session
        await asyncio.sleep(0.01)
    assert text.endswith("Still at work: mx1/aa")
    await leasing.apply(arrival())
    await leasing.close()
    with capture_logs() as lines:
        queue = await connect_in_the_end(database)
    assert await version(queue) == NEXT
    assert [line["event"] for line in lines] == ["queue_migrated"]
    assert await sizes(queue) == {"message": 2, "chunk": 0, "delivery": 2}
    await queue.close()


@needs("postgres")
async def test_a_host_that_comes_back_after_such_a_step_stores_nothing(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the rules in `relay.queue.migrations` want it: the step renames what the earlier release writes to."""
    lost = Store(await connect(database, owner="mx1/aa"), "mx1/aa")
    become(monkeypatch, Step(NEXT, additive=False, run=rename_column))
    monkeypatch.setattr("relay.queue.presence.live_workers", lambda _: [])
    queue = await connect(database)
    with pytest.raises(QueueUnavailable, match="notify"):
        await lost.apply(arrival())
    assert await sizes(queue) == {"message": 0, "chunk": 0, "delivery": 0}
    await lost.close()
    await queue.close()
