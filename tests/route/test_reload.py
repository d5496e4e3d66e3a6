"""A table that changes under a running relay: taken when it is good, and never traded for a worse one."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.route.reload import CHECK_INTERVAL, ReloadedFile


def parse(text: str, source: str) -> list[str]:
    if "broken" in text:
        raise ValueError(f"{source}:1: broken")
    return text.split()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "table", "one")


def write(path: Path, content: str | bytes, age: float = 60.0) -> Path:
    """A new version of the file, written `age` seconds ago, put in its place at once."""
    new = path.with_suffix(".new")
    new.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.utime(new, (time.time() - age,) * 2)
    return new.replace(path)


def write_in_the_same_instant(path: Path, content: str) -> None:
    stat = path.stat()
    write(path, content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def remove(path: Path) -> None:
    path.unlink()


async def test_a_change_is_seen_at_the_next_look(path: Path, clock: Clock) -> None:
    table = ReloadedFile(path, parse, clock)
    write(path, "two words")
    clock.now = CHECK_INTERVAL / 2
    assert await table.fresh() == ["one"]
    clock.now = CHECK_INTERVAL
    with capture_logs() as logs:
        assert await table.fresh() == ["two", "words"]
    assert table.value == ["two", "words"]
    assert [entry["event"] for entry in logs] == ["file_reloaded"]


async def test_an_unchanged_file_is_not_read_again(path: Path, clock: Clock) -> None:
    reads = []
    table = ReloadedFile(path, lambda text, source: reads.append(text), clock)
    for clock.now in range(1, 10):
        await table.fresh()
    assert len(reads) == 1


async def test_same_size_and_time_but_another_file_is_a_change(path: Path, clock: Clock) -> None:
    table = ReloadedFile(path, parse, clock)
    write_in_the_same_instant(path, "two")
    clock.now = CHECK_INTERVAL
    assert await table.fresh() == ["two"]


async def test_a_broken_file_keeps_the_old_table_and_is_reported_once(path: Path, clock: Clock) -> None:
    table = ReloadedFile(path, parse, clock)
    write(path, "broken")
    with capture_logs() as logs:
        for clock.now in (1, 2, 3):
            assert await table.fresh() == ["one"]
    assert [(entry["event"], entry["log_level"], entry["error"]) for entry in logs] == [
        ("file_not_reloaded", "error", f"{path}:1: broken")
    ]
    write(path, "three")
    clock.now = 4
    assert await table.fresh() == ["three"]


async def test_text_that_is_not_utf8_is_broken_too(path: Path, clock: Clock) -> None:
    table = ReloadedFile(path, parse, clock)
    write(path, b"caf\xe9")
    clock.now = 1
    with capture_logs() as logs:
        assert await table.fresh() == ["one"]
    assert logs[0]["error"] == f"{path}: not UTF-8 at octet 3"


async def test_a_file_that_vanishes_keeps_the_old_table_and_may_come_back(path: Path, clock: Clock) -> None:
    table = ReloadedFile(path, parse, clock)
    remove(path)
    with capture_logs() as logs:
        for clock.now in (1, 2, 3):
            assert await table.fresh() == ["one"]
    assert [entry["event"] for entry in logs] == ["file_gone"]
    write(path, "again")
    clock.now = 4
    assert await table.fresh() == ["again"]


async def test_a_file_that_is_being_written_is_left_alone(path: Path, clock: Clock) -> None:
    table = ReloadedFile(path, parse, clock)
    write(path, "", age=0.0)
    clock.now = 1
    assert await table.fresh() == ["one"]
    os.utime(path, (1, 1))
    clock.now = 2
    assert await table.fresh() == []


async def test_parsing_does_not_hold_the_loop_and_others_go_on_with_the_old_table(path: Path, clock: Clock) -> None:
    going, parsing = threading.Event(), threading.Event()
    going.set()

    def slow(text: str, source: str) -> str:
        parsing.set()
        assert going.wait(10)
        return text

    table = ReloadedFile(path, slow, clock)
    write(path, "two")
    clock.now = 1
    going.clear()
    parsing.clear()
    first = asyncio.create_task(table.fresh())
    await asyncio.to_thread(parsing.wait, 10)
    clock.now = 5
    assert await table.fresh() == "one"
    going.set()
    assert await first == "two"


def test_what_is_wrong_at_the_start_is_raised(tmp_path: Path, path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ReloadedFile(tmp_path / "none", parse)
    write(path, "broken")
    with pytest.raises(ValueError, match="broken"):
        ReloadedFile(path, parse)
