"""A log whose reader is slow, stalls or goes away."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import pytest
import structlog

from relay import log

LOGGER = structlog.get_logger()


class Pipe:
    """A log whose reader reads when it is told to."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.stream = os.fdopen(writer, "w")
        log.configure("json", "info", self.stream)

    def rest(self) -> list[dict[str, Any]]:
        """What has been and will be written, once the backlog has drained."""
        sink = log._sink
        assert sink is not None

        def close() -> None:
            sink.close(patience=10)
            self.stream.close()

        closing = threading.Thread(target=close)
        closing.start()
        with os.fdopen(self.reader) as lines:
            objects = [json.loads(line) for line in lines]
        closing.join()
        return objects


def test_a_line_is_written_before_the_call_returns() -> None:
    pipe = Pipe()
    LOGGER.info("queued", n=1)
    os.set_blocking(pipe.reader, False)
    assert json.loads(os.read(pipe.reader, 1000))["n"] == 1
    os.set_blocking(pipe.reader, True)
    assert pipe.rest() == []


def test_a_reader_that_stalls_holds_nobody_up_and_misses_nothing() -> None:
    pipe = Pipe()

    def write() -> None:
        for n in range(3000):  # some 250 kB, where a pipe holds 64 KiB
            LOGGER.info("queued", n=n, long="x" * (5000 if n % 1000 == 0 else 10))

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(10)
    assert not writer.is_alive()
    assert [line["n"] for line in pipe.rest()] == list(range(3000))


def writes_without_waiting() -> bool:
    """Whether the kernel can write to a pipe without waiting for its reader."""
    reader, writer = os.pipe()
    try:
        return os.pwritev(writer, [b"x"], -1, os.RWF_NOWAIT) == 1
    except OSError:
        return False
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.skipif(not writes_without_waiting(), reason="Linux can since 6.4")
def test_another_worker_that_takes_the_last_room_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe()
    monkeypatch.setattr("relay.log.sink.Sink._has_room", lambda *_: True)  # as it was a moment ago

    def write() -> None:
        for n in range(3000):
            LOGGER.info("queued", n=n)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(10)
    assert not writer.is_alive()
    assert [line["n"] for line in pipe.rest()] == list(range(3000))


def test_past_the_bound_lines_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.log.sink.BACKLOG_OCTETS", 10_000)
    pipe = Pipe()
    for n in range(3000):
        LOGGER.info("queued", n=n)
    lines = pipe.rest()
    kept = [line["n"] for line in lines if line["event"] == "queued"]
    lost = [line["lost"] for line in lines if line["event"] == "log"]
    assert kept == sorted(set(kept))
    assert 0 < len(kept) < 3000
    assert sum(lost) == 3000 - len(kept)


def test_a_reader_that_is_gone_is_no_error() -> None:
    pipe = Pipe()
    os.close(pipe.reader)
    LOGGER.info("queued")
    pipe.stream.close()


def test_a_forked_worker_logs_on_its_own() -> None:
    pipe = Pipe()
    for n in range(2000):
        LOGGER.info("before", n=n)
    child = os.fork()
    if child == 0:
        log.configure("json", "info", pipe.stream)
        LOGGER.info("worker")
        log.finish()
        os._exit(0)
    lines = pipe.rest()
    os.waitpid(child, 0)
    assert [line["n"] for line in lines if line["event"] == "before"] == list(range(2000))
    assert sum(line["event"] == "worker" for line in lines) == 1
