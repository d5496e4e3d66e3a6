"""A table that changes under a running relay: taken when it is good, and never traded for a worse one."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.table_files.bad_lines import BadLine, BadLines
from relay.table_files.reloaded_file import LOOK_EVERY, ReloadedFile, follow, look, next_look
from tests.peers import wait_for


def parse(text: str, source: str) -> list[str]:
    if "broken" in text:
        raise ValueError(f"{source}:1: broken")
    return text.split()


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


def looked(table: ReloadedFile[Any], times: int = 1) -> list[Any]:
    """What looking logs."""
    with capture_logs() as logs:
        for _ in range(times):
            look([table])
    return logs


@asynccontextmanager
async def followed(table: ReloadedFile[Any]) -> AsyncIterator[None]:
    task = asyncio.create_task(follow([table]))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()


def test_a_change_is_seen_at_the_next_look(path: Path) -> None:
    table = ReloadedFile(path, parse)
    write(path, "two words")
    assert table.value == ["one"]
    assert [entry["event"] for entry in looked(table)] == ["file_reloaded"]
    assert table.value == ["two", "words"]


def test_an_unchanged_file_is_not_read_again(path: Path) -> None:
    reads = []
    looked(ReloadedFile(path, lambda text, source: reads.append(text)), times=9)
    assert len(reads) == 1


def test_same_size_and_time_but_another_file_is_a_change(path: Path) -> None:
    table = ReloadedFile(path, parse)
    write_in_the_same_instant(path, "two")
    looked(table)
    assert table.value == ["two"]


def test_a_broken_file_keeps_the_old_table_and_is_reported_once(path: Path) -> None:
    table = ReloadedFile(path, parse)
    write(path, "broken")
    assert [(entry["event"], entry["log_level"], entry["error"]) for entry in looked(table, times=3)] == [
        ("file_not_reloaded", "error", f"{path}:1: broken")
    ]
    assert table.value == ["one"]
    write(path, "three")
    looked(table)
    assert table.value == ["three"]


async def test_a_worker_that_follows_a_file_leaves_the_log_to_its_supervisor(path: Path) -> None:
    table = ReloadedFile(path, lambda text, source: BadLines([BadLine(source, text, "none")]).report(source))
    with capture_logs() as logs:
        for text in ("two", "three"):
            write(path, text)
            assert table.changed(quiet=True)
            await asyncio.to_thread(table.reload, quiet=True)
        path.unlink()
        assert not table.changed(quiet=True)
    assert logs == []
    write(path, "four")
    assert [entry["event"] for entry in looked(table)] == ["table_line_bad", "file_reloaded"]


def test_trouble_that_only_one_process_has_is_logged_by_it(path: Path) -> None:
    def parse(text: str, source: str) -> str:
        if text == "two":
            raise OSError(errno.EMFILE, "Too many open files", source)
        return text

    table = ReloadedFile(path, parse)
    write(path, "two")
    with capture_logs() as logs:
        assert table.changed(quiet=True)
        table.reload(quiet=True)
    assert [entry["event"] for entry in logs] == ["file_not_reloaded"]


def test_octets_that_are_no_utf8_are_for_the_table_to_judge(path: Path) -> None:
    table = ReloadedFile(path, parse)
    write(path, b"caf\xe9 two")
    assert [entry["event"] for entry in looked(table)] == ["file_reloaded"]
    assert table.value == ["caf\udce9", "two"]


def test_a_file_that_vanishes_keeps_the_old_table_and_may_come_back(path: Path) -> None:
    table = ReloadedFile(path, parse)
    path.unlink()
    assert [entry["event"] for entry in looked(table, times=3)] == ["file_gone"]
    assert table.value == ["one"]
    write(path, "again")
    looked(table)
    assert table.value == ["again"]


async def test_a_named_pipe_in_its_place_holds_nobody_up(path: Path) -> None:
    table = ReloadedFile(path, parse)
    path.unlink()
    os.mkfifo(path)
    os.utime(path, (1, 1))
    async with asyncio.timeout(10):
        logs = await asyncio.to_thread(looked, table, times=2)
    assert [(entry["event"], "a named pipe" in entry["error"]) for entry in logs] == [("file_not_reloaded", True)]
    assert table.value == ["one"]
    with pytest.raises(OSError, match="a named pipe"):
        ReloadedFile(path, parse)


def test_a_file_that_is_being_written_is_left_alone(path: Path) -> None:
    table = ReloadedFile(path, parse)
    write(path, "", age=0.0)
    looked(table)
    assert table.value == ["one"]
    os.utime(path, (1, 1))
    looked(table)
    assert table.value == []


async def test_who_follows_needs_not_be_asked(path: Path) -> None:
    table = ReloadedFile(path, parse)
    async with followed(table):
        write(path, "two")
        await wait_for(lambda: table.value == ["two"], "the second version")
        write(path, "broken")
        write(path, "three")
        await wait_for(lambda: table.value == ["three"], "the last version")


async def test_parsing_does_not_hold_the_loop_and_others_go_on_with_the_old_table(path: Path) -> None:
    going, parsing = threading.Event(), threading.Event()
    going.set()

    def slow(text: str, source: str) -> str:
        parsing.set()
        assert going.wait(10)
        return text

    table = ReloadedFile(path, slow)
    going.clear()
    parsing.clear()
    async with followed(table):
        write(path, "two")
        assert await asyncio.to_thread(parsing.wait, 10)
        assert table.value == "one"
        going.set()
        await wait_for(lambda: table.value == "two", "the second version")


@pytest.mark.parametrize("now", [1577836860.0, 1577836860.001, 1577836860.75, 1577836860.999])
def test_all_processes_look_at_the_same_moments(now: float) -> None:
    wait = next_look(now)
    assert 0 < wait <= LOOK_EVERY
    assert (now + wait) % LOOK_EVERY == pytest.approx(0)


def test_what_is_wrong_at_the_start_is_raised(tmp_path: Path, path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ReloadedFile(tmp_path / "none", parse)
    write(path, "broken")
    with pytest.raises(ValueError, match="broken"):
        ReloadedFile(path, parse)
