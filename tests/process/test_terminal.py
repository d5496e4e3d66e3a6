"""What SIGHUP means to a process: `tests/journeys/test_terminal.py` closes real terminals."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from relay.process import terminal
from relay.process.terminal import Terminal

KERNEL = 0x80


def received(code: int, pid: int) -> Any:
    return SimpleNamespace(si_code=code, si_pid=pid)


@pytest.mark.parametrize(
    ("at_start", "now", "code", "pid", "gone"),
    [
        (True, False, KERNEL, 0, True),
        (True, False, 0, os.getppid(), True),
        (True, False, 0, os.getsid(0), True),
        (True, False, 0, 1_000_000, False),
        (True, True, KERNEL, 0, False),
        (False, False, KERNEL, 0, False),
    ],
)
def test_it_is_gone_where_it_was_and_says_so_itself(
    at_start: bool, now: bool, code: int, pid: int, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "_is_there", lambda: at_start)
    ours = Terminal()
    monkeypatch.setattr(terminal, "_is_there", lambda: now)
    if pid == os.getpid():  # a test run that leads its session
        gone = False
    assert ours.has_hung_up(received(code, pid)) is gone


def test_under_nohup_nothing_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_is_there", lambda: True)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ours = Terminal()
    finally:
        signal.signal(signal.SIGHUP, before)
    monkeypatch.setattr(terminal, "_is_there", lambda: False)
    assert not ours.has_hung_up(received(KERNEL, 0))
