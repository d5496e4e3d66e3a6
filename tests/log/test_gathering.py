"""Lines of one turn of an event loop leave together, and none is lost that need not be."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
import structlog

from relay import log
from tests.log.test_sink import Pipe

LOGGER = structlog.get_logger()

PROGRAM = """
import asyncio, os, signal, sys, structlog
from relay import log

LOGGER = structlog.get_logger()
log.configure("json", "info", sys.stdout, for_good=True)

async def work():
    with log.gathered(asyncio.get_running_loop()):
        await main()

async def turns(number=2):
    for _ in range(number):
        await asyncio.sleep(0)
"""


class Writes:
    """A log that keeps one write apart from the next."""

    def __init__(self) -> None:
        self._reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._reader.setblocking(False)
        self._stream = os.fdopen(writer.detach(), "w")
        log.configure("json", "info", self._stream)

    def new(self) -> list[bytes]:
        """The writes since the last call."""
        writes = []
        while True:
            try:
                writes.append(self._reader.recv(1 << 20))
            except BlockingIOError:
                return writes

    def close(self) -> None:
        self._reader.close()
        self._stream.close()


@pytest.fixture
def writes() -> Iterator[Writes]:
    made = Writes()
    yield made
    made.close()


async def next_turns() -> None:
    for _ in range(2):
        await asyncio.sleep(0)


def numbers(writes: list[bytes]) -> list[list[int]]:
    return [[json.loads(line)["n"] for line in write.splitlines()] for write in writes]


async def test_the_lines_of_one_turn_are_one_write(writes: Writes) -> None:
    with log.gathered(asyncio.get_running_loop()):
        for n in range(4):
            LOGGER.info("rcpt", n=n)
        assert writes.new() == []
        await next_turns()
        assert numbers(writes.new()) == [[0, 1, 2, 3]]
        LOGGER.warning("rcpt", n=4)
        await next_turns()
        assert numbers(writes.new()) == [[4]]


async def test_a_line_has_the_time_of_its_event(writes: Writes) -> None:
    with log.gathered(asyncio.get_running_loop()):
        LOGGER.info("rcpt", n=0)
        LOGGER.info("rcpt", n=1)
        await next_turns()
    [write] = writes.new()
    first, second = (json.loads(line)["time"] for line in write.splitlines())
    assert first < second


async def test_writes_are_whole_lines_of_at_most_pipe_buf(writes: Writes) -> None:
    with log.gathered(asyncio.get_running_loop()):
        for n in range(40):
            LOGGER.info("rcpt", n=n, rcpt="x" * (137 * n % 1000))
        await next_turns()
    found = writes.new()
    assert all(len(write) <= select.PIPE_BUF and write.endswith(b"\n") for write in found)
    assert all(len(first + second) > select.PIPE_BUF for first, second in pairwise(found))
    assert [n for write in numbers(found) for n in write] == list(range(40))


@pytest.mark.parametrize("over", [-1, 0, 1])
async def test_a_write_may_be_of_pipe_buf_and_no_longer(writes: Writes, over: int) -> None:
    with log.gathered(asyncio.get_running_loop()):
        LOGGER.info("rcpt", n=0, rcpt="")
        await next_turns()
        [short] = writes.new()
        LOGGER.info("rcpt", n=1, rcpt="x" * (2000 - len(short)))
        LOGGER.info("rcpt", n=2, rcpt="x" * (select.PIPE_BUF - 2000 - len(short) + over))
        await next_turns()
    assert numbers(writes.new()) == ([[1, 2]] if over <= 0 else [[1], [2]])


async def test_a_longer_line_keeps_its_place(writes: Writes) -> None:
    with log.gathered(asyncio.get_running_loop()):
        for n in range(5):
            LOGGER.info("rcpt", n=n, rcpt="x" * (5000 if n == 2 else 10))
        await next_turns()
    log.finish()
    assert [n for write in numbers(writes.new()) for n in write] == [0, 1, 2, 3, 4]


async def test_a_stalled_reader_holds_no_turn_up_and_misses_nothing() -> None:
    pipe = Pipe()
    with log.gathered(asyncio.get_running_loop()):
        for n in range(1000):  # some 600 kB, where a pipe holds 64 KiB
            LOGGER.info("rcpt", n=n, rcpt="x" * (5000 if n % 300 == 0 else 500))
            if n % 10 == 9:
                await next_turns()
    assert [line["n"] for line in pipe.rest()] == list(range(1000))


@pytest.mark.parametrize("level", ["error", "exception", "critical"])
async def test_an_error_is_written_at_once_after_what_came_before_it(writes: Writes, level: str) -> None:
    with log.gathered(asyncio.get_running_loop()):
        LOGGER.info("mail", n=0)
        getattr(LOGGER, level)("session_failed", n=1)
        assert numbers(writes.new()) == [[0, 1]]
        LOGGER.info("mail", n=2)
        await next_turns()
        assert numbers(writes.new()) == [[2]]


async def test_lines_of_threads_keep_their_order(writes: Writes) -> None:
    with log.gathered(asyncio.get_running_loop()):
        LOGGER.info("mail", n=0)
        thread = threading.Thread(target=lambda: LOGGER.info("mail", n=1))
        thread.start()
        thread.join()
        assert numbers(writes.new()) == [[0, 1]]
        LOGGER.info("mail", n=2)
        await next_turns()
        assert numbers(writes.new()) == [[2]]


async def test_after_the_loop_lines_are_written_at_once(writes: Writes) -> None:
    with pytest.raises(ZeroDivisionError), log.gathered(asyncio.get_running_loop()):
        LOGGER.info("mail", n=0)
        raise ZeroDivisionError
    assert numbers(writes.new()) == [[0]]
    LOGGER.info("mail", n=1)
    assert numbers(writes.new()) == [[1]]


def ran(rest: str, status: int) -> list[int]:
    """The numbers of the lines that a program logs, which ends with this status."""
    run = subprocess.run([sys.executable, "-c", PROGRAM + rest], capture_output=True, text=True, check=False)
    assert (run.stderr, run.returncode) == ("", status)
    return [line["n"] for line in map(json.loads, run.stdout.splitlines()) if line["event"] != "uncaught"]


END = """
async def main():
    LOGGER.info("mail", n=0)
    {end}
{last}
"""


@pytest.mark.parametrize(
    ("end", "last", "status"),
    [
        ("pass", "asyncio.run(work())", 0),
        ("sys.exit(3)", "asyncio.run(work())", 3),
        ("1 / 0", "asyncio.run(work())", 1),
        ("log.finish(); os._exit(3)", "asyncio.run(work())", 3),
        ("pass", "loop = asyncio.new_event_loop(); log.gathered(loop).__enter__(); loop.run_until_complete(main())", 0),
    ],
)
def test_the_end_of_a_process_writes_what_it_has(end: str, last: str, status: int) -> None:
    assert ran(END.format(end=end, last=last), status) == [0]


def test_a_forked_process_does_not_write_the_lines_of_its_parent() -> None:
    program = """
async def main():
    LOGGER.info("mail", n=0)
    if os.fork() == 0:
        log.finish()
        os._exit(0)
    os.wait()
asyncio.run(work())
"""
    assert ran(program, 0) == [0]


def test_a_process_that_is_killed_loses_the_lines_of_one_turn_only() -> None:
    program = """
async def main():
    for n in range(5):
        LOGGER.info("mail", n=n)
        await turns()
    LOGGER.info("mail", n=5)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(work())
"""
    assert ran(program, -signal.SIGKILL) == [0, 1, 2, 3, 4]


def test_lines_of_several_processes_do_not_mix() -> None:
    program = """
async def main():
    for turn in range(200):
        for line in range(turn % 13):
            LOGGER.info("mail", n=worker, turn=turn, line=line, text=str(worker) * (turn * 37 % 900))
        await turns(1)
for worker in range(4):
    if os.fork() == 0:
        log.configure("json", "info", sys.stdout, for_good=True)
        asyncio.run(work())
        log.finish()
        os._exit(0)
for worker in range(4):
    os.wait()
"""
    reader, writer = os.pipe()
    with subprocess.Popen([sys.executable, "-c", PROGRAM + program], stdout=writer) as process:
        os.close(writer)
        with os.fdopen(reader) as lines:
            found = [json.loads(line) for line in lines]
    assert process.returncode == 0
    places = [(turn, line) for turn in range(200) for line in range(turn % 13)]
    for worker in range(4):
        assert [(one["turn"], one["line"]) for one in found if one["n"] == worker] == places
