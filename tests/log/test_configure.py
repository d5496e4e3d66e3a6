"""What is logged and where: levels, libraries, uncaught exceptions, terminals."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys

import structlog
from structlog.testing import capture_logs

from relay import log
from tests.log.reading import objects, written

LOGGER = structlog.get_logger()


def test_the_level_holds() -> None:
    stream = written("json", "warning")
    LOGGER.info("connect")
    LOGGER.warning("deferred")
    assert [line["event"] for line in objects(stream)] == ["deferred"]


def test_tests_capture_events_of_a_configured_log() -> None:
    stream = written("json")
    with capture_logs() as logs:
        LOGGER.bind(ip="192.0.2.1").info("connect", port=25)
        LOGGER.error("queue_unavailable")
    assert logs == [
        {"ip": "192.0.2.1", "event": "connect", "port": 25, "log_level": "info"},
        {"event": "queue_unavailable", "log_level": "error"},
    ]
    assert objects(stream) == []


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
