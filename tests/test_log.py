"""The log as an administrator reads it and as a collector parses it, with bad data in it and slow readers behind it."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog

from relay import log

LOGGER = structlog.get_logger()
HOSTILE = 'x\r\n{"event":"forged"}\x1b[2J\x7f\x9b31m\u2028\u202e end'


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    handlers, level, hook, thread_hook = logging.root.handlers, logging.root.level, sys.excepthook, threading.excepthook
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.root.handlers, logging.root.level, sys.excepthook = handlers, level, hook
    threading.excepthook = thread_hook


def written(format: Literal["console", "json"], level: Literal["info", "warning"] = "info") -> io.StringIO:
    stream = io.StringIO()
    log.configure(format, level, stream)
    return stream


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_step_on_the_terminal_is_one_line() -> None:
    stream = written("console")
    LOGGER.info("queued", id="4F7K2Q", sender="a@b.example", recipient=["c@d.example", "e@f.example"], size=123)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d 4F7K2Q +queued +from=<a@b.example> to=<c@d.example>,<e@f.example> size=123\n",
        stream.getvalue(),
    )


def test_the_terminal_marks_what_is_not_ordinary_and_quotes_what_holds_spaces() -> None:
    stream = written("console")
    LOGGER.warning("deferred", sender="", reply='450 4.2.0 "later"', tls=None)
    assert stream.getvalue()[9:] == f'{"":12} {"deferred":13} warning from=<> reply="450 4.2.0 \\"later\\""\n'


FORGERIES = [
    ("helo", "x reply=550", 'helo="x reply=550"'),
    ("helo", "x=y", 'helo="x=y"'),
    ("helo", 'x" reply="550', r'helo="x\" reply=\"550"'),
    ("helo", 'x\\" reply=550 "', r'helo="x\\\" reply=550 \""'),
    ("helo", "x\\", r'helo="x\\"'),
    ("helo", "x\u202ey", r'helo="x\u202ey"'),
    ("helo", r"x\u202ey", r'helo="x\\u202ey"'),
    ("helo", "x\u00a0reply", r'helo="x\xa0reply"'),
    ("helo", "<x>", 'helo="<x>"'),
    ("helo", "", 'helo=""'),
    ("helo", "b\u00fccher.example", "helo=b\u00fccher.example"),
    ("sender", "a@b> to=<c@d", 'from="a@b> to=<c@d"'),
    ("sender", "a@b>\u2003to=<c@d", r'from="a@b>\u2003to=<c@d"'),
    ("sender", '"a b"@c.example', r'from="\"a b\"@c.example"'),
    ("sender", r'"a\.b"@c.example', r'from="\"a\\.b\"@c.example"'),
    ("sender", "SRS0=HHHH=TT=c.example=a@b.example", "from=<SRS0=HHHH=TT=c.example=a@b.example>"),
    ("to", ["a@b.example", "c@d>,<e@f"], 'to=<a@b.example>,"c@d>,<e@f"'),
    ("to", ["a,b@c.example"], "to=<a,b@c.example>"),
    ("hosts", ["a", "b,c", "d e"], 'hosts=a,"b,c","d e"'),
]


@pytest.mark.parametrize(("name", "value", "shown"), FORGERIES)
def test_no_value_passes_for_another_field(name: str, value: object, shown: str) -> None:
    stream = written("console")
    LOGGER.info("mail", **{name: value})
    assert stream.getvalue()[9:] == f"{'':12} {'mail':13} {shown}\n"


def test_a_step_in_json_is_one_object() -> None:
    stream = written("json")
    LOGGER.bind(id="4F7K2Q").info("queued", sender="ä@b.example", recipient="c@d.example", size=123, tls=None)
    [line] = objects(stream)
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    del line["time"]
    assert line == {
        "level": "info",
        "event": "queued",
        "id": "4F7K2Q",
        "from": "ä@b.example",
        "to": "c@d.example",
        "size": 123,
    }


@pytest.mark.parametrize("format", ["console", "json"])
def test_control_characters_never_reach_the_reader(format: Literal["console", "json"]) -> None:
    stream = written(format)
    LOGGER.info("mail", id=HOSTILE, sender=HOSTILE, helo=HOSTILE, surrogate="\udc80", many=[HOSTILE])
    text = stream.getvalue()
    assert text.endswith("\n") and text[:-1].isprintable()
    if format == "json":
        assert objects(stream)[0]["helo"] == HOSTILE


@pytest.mark.parametrize("format", ["console", "json"])
def test_secrets_and_content_stay_out(format: Literal["console", "json"]) -> None:
    stream = written(format)
    password = "hunter" + "2"  # in two parts: a traceback shows the lines of its source
    try:
        raise ValueError(f"no answer from postgresql://relay:{password}@db/queue")
    except ValueError:
        LOGGER.exception("queue", password=password, url=f"smtp://me:{password}@host:587", body=password.encode())
    text = stream.getvalue()
    assert password not in text
    assert "postgresql://relay:***@db/queue" in text
    assert "[7 octets]" in text


def test_an_address_after_a_url_is_not_taken_for_a_password() -> None:
    stream = written("json")
    LOGGER.info("attempt", hop="smtp://host:25", recipient="c@d.example")
    assert objects(stream)[0]["hop"] == "smtp://host:25"


def test_the_level_holds() -> None:
    stream = written("json", "warning")
    LOGGER.info("connect")
    LOGGER.warning("deferred")
    assert [line["event"] for line in objects(stream)] == ["deferred"]


def test_what_json_has_no_form_for_does_not_raise() -> None:
    stream = written("json")
    LOGGER.info("x", path=Path("/a"), names={"b", "a"}, error=OSError(5, "oh"), odd={(1, 2): 3})
    [line] = objects(stream)
    assert (line["path"], line["names"], line["error"]) == ("/a", ["a", "b"], "[Errno 5] oh")


def test_an_exception_is_a_field() -> None:
    stream = written("json")
    try:
        raise KeyError("missing")
    except KeyError:
        LOGGER.exception("session")
    [line] = objects(stream)
    assert line["level"] == "error"
    assert line["exception"][0]["exc_type"] == "KeyError"
    assert line["exception"][0]["frames"][0]["name"] == "test_an_exception_is_a_field"


def test_records_of_libraries_come_the_same_way() -> None:
    stream = written("json")
    logger = logging.getLogger("some.library")
    logger.info("too quiet to be heard")
    logger.warning("slow %s", "query")
    logger.error("bad format %d", "x")
    logger.log(35, "odd level")
    lines = objects(stream)
    assert [(line["level"], line["message"]) for line in lines] == [
        ("warning", "slow query"),
        ("error", "bad format %d"),
        ("warning", "odd level"),
    ]
    assert {(line["event"], line["logger"]) for line in lines} == {("library", "some.library")}


def test_uncaught_exceptions_are_logged() -> None:
    program = (
        "import threading, relay.log\n"
        "relay.log.configure()\n"
        "thread = threading.Thread(target=lambda: 1 / 0)\n"
        "thread.start(); thread.join()\n"
        "raise RuntimeError('the end')\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == ""
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert [(line["event"], line["exception"][0]["exc_type"]) for line in lines] == [
        ("uncaught", "ZeroDivisionError"),
        ("uncaught", "RuntimeError"),
    ]


def test_auto_is_for_people_on_a_terminal_and_json_elsewhere() -> None:
    primary, secondary = pty.openpty()
    with os.fdopen(secondary, "w") as terminal:
        log.configure("auto", "info", terminal)
        LOGGER.info("connect", ip="192.0.2.1")
        assert b"ip=192.0.2.1" in os.read(primary, 1000)
    os.close(primary)
    stream = io.StringIO()
    log.configure("auto", "info", stream)
    LOGGER.info("connect", ip="192.0.2.1")
    assert objects(stream)[0]["ip"] == "192.0.2.1"


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
            found = [json.loads(line) for line in lines]
        closing.join()
        return found


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


def test_past_the_bound_lines_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "BACKLOG_OCTETS", 10_000)
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
        log._finish()
        os._exit(0)
    lines = pipe.rest()
    os.waitpid(child, 0)
    assert [line["n"] for line in lines if line["event"] == "before"] == list(range(2000))
    assert sum(line["event"] == "worker" for line in lines) == 1
