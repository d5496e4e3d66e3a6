"""A relay that was started on a terminal ends with it, unless somebody has taken care that it does not."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.journeys.relay_process import ROOT, RelayProcess
from tests.peers import free_port, wait_until

pytestmark = pytest.mark.slow


class OnTerminal:
    """A relay that a command starts in a session of its own, on a terminal that can be closed."""

    def __init__(self, folder: Path, command: str, typed: str = "") -> None:
        port = free_port()
        config = {
            "hostname": "mx.fwd.example",
            "workers": 1,
            "listen": [{"address": f"127.0.0.1:{port}"}],
            "srs": {"domain": "fwd.example", "secrets_file": "srs.secret"},
        }
        self.relay = RelayProcess(folder, config)
        (folder / "srs.secret").write_text("an SRS secret of the tests\n")
        serve = [sys.executable, "-m", "relay", "serve", "--config", str(self.relay.config_file)]
        self._ours, theirs = os.openpty()

        def take_the_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        with (folder / "log").open("wb") as log, (folder / "stderr").open("wb") as stderr:
            self.shell = subprocess.Popen(
                command.replace("SERVE", shlex.join(serve)),
                shell=True,
                executable="/bin/bash",
                stdin=theirs,
                stdout=log,
                stderr=stderr,
                cwd=ROOT,
                start_new_session=True,
                preexec_fn=take_the_terminal,
            )
        os.close(theirs)
        os.write(self._ours, typed.replace("SERVE", f"{shlex.join(serve)} >> {folder}/log").encode())
        wait_until(self._is_ready, "the relay", 30)
        self.pid = int((folder / "queue.db.lock").read_text())

    def _is_ready(self) -> bool:
        return '"event":"ready"' in self.relay.log_text

    def lines(self, event: str) -> list[dict[str, object]]:
        return [line for line in self.relay.log if line["event"] == event]

    def close_the_terminal(self) -> None:
        os.close(self._ours)
        self._ours = -1

    def is_alive(self) -> bool:
        try:
            return "\nState:\tZ" not in Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return False

    def reload(self) -> None:
        before = len(self.lines("reloaded"))
        os.kill(self.pid, signal.SIGHUP)
        wait_until(lambda: len(self.lines("reloaded")) > before, "a reload")

    def end(self) -> None:
        for pid in (self.pid, self.shell.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        if self._ours >= 0:
            self.close_the_terminal()
        self.shell.wait(20)
        wait_until(lambda: not self.is_alive(), "the end of the relay", 20)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[list[OnTerminal]]:
    started: list[OnTerminal] = []
    yield started
    for each in started:
        each.end()


@pytest.mark.parametrize("command", ["exec SERVE", "SERVE; true", "sh -c 'SERVE; true'; true"])
def test_it_ends_with_the_terminal(start: list[OnTerminal], tmp_path: Path, command: str) -> None:
    running = OnTerminal(tmp_path / "relay", command)
    start.append(running)
    running.reload()
    running.close_the_terminal()
    wait_until(lambda: not running.is_alive(), "the end of the relay", 20)
    assert len(running.lines("stopped")) == 1
    assert len(running.lines("reloaded")) == 1
    assert running.lines("stopping")[0]["reason"] == "the terminal has hung up"


def test_a_job_in_the_background_of_a_shell_ends_with_the_terminal(start: list[OnTerminal], tmp_path: Path) -> None:
    """Its shell passes the signal on."""
    running = OnTerminal(tmp_path / "relay", "exec bash --norc -i", "SERVE &\n")
    start.append(running)
    running.reload()
    running.close_the_terminal()
    wait_until(lambda: not running.is_alive(), "the end of the relay", 20)
    assert running.lines("stopping")[0]["reason"] == "the terminal has hung up"


@pytest.mark.parametrize(
    "command", ["nohup SERVE", "exec nohup SERVE", "setsid --wait SERVE", "set -m; SERVE & disown; sleep 1"]
)
def test_it_outlives_the_terminal_where_it_was_told_to(start: list[OnTerminal], tmp_path: Path, command: str) -> None:
    running = OnTerminal(tmp_path / "relay", command)
    start.append(running)
    running.close_the_terminal()
    if "nohup" not in command:
        running.shell.wait(20)
    running.reload()
    running.reload()
    assert running.is_alive() and not running.lines("stopping")
