"""The relay as it is run: `python -m relay serve --config FILE` in a process group of its own.

Tests see only what an administrator sees: the config file, the ports, the log on stdout, the `queue` commands, signals.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any

from tests.peers import answers, wait_until

ROOT = Path(__file__).parents[2]


def toml(tables: Mapping[str, Any], name: str = "") -> str:
    """TOML text of nested mappings, lists and scalars; a list of mappings is an array of tables."""
    lines, rest = [f"[{name}]"] if name else [], []
    for key, value in tables.items():
        path = f"{name}.{json.dumps(key)}" if name else json.dumps(key)
        if isinstance(value, Mapping):
            rest.append(toml(value, path))
        elif isinstance(value, Sequence) and value and all(isinstance(entry, Mapping) for entry in value):
            rest.extend(toml(entry, path).replace(f"[{path}]", f"[[{path}]]", 1) for entry in value)
        else:
            lines.append(f"{json.dumps(key)} = {_inline(value)}")
    return "\n".join([*lines, *rest]) + "\n"


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{json.dumps(key)} = {_inline(each)}' for key, each in value.items())} }}"
    return f"[{', '.join(map(_inline, value))}]" if isinstance(value, list) else json.dumps(value)


class RelayProcess:
    """One relay. `start` before use, `stop` after.

    Args:
        folder: holds its config, secrets, queue and log.
        config: the tables of relay.toml; the first listener, if there is one, must answer without PROXY.
        wrapper: a command to run it under.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], wrapper: Sequence[str] = ()) -> None:
        self.folder = folder
        self._wrapper = wrapper
        self.config_file = folder / "relay.toml"
        self._listens = "listen" in config
        self.address, _, port = str(config["listen"][0]["address"] if self._listens else ":0").rpartition(":")
        self.port = int(port)
        self._http = str(config.get("http", {}).get("address"))
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)
        self.config_file.write_text(toml(config))

    def start(self) -> RelayProcess:
        """Start, or start again on the same folder, and return when the listener greets, or without one when it says
        that it is ready."""
        before = len(self.events("ready"))
        with self._open("log") as log, self._open("stderr") as stderr:
            command = [*self._wrapper, sys.executable, "-m", "relay", "serve", "--config", str(self.config_file)]
            self._process = process = subprocess.Popen(
                command, stdout=log, stderr=stderr, stdin=subprocess.DEVNULL, cwd=ROOT, start_new_session=True
            )

        def is_up() -> bool:
            return answers(self.address, self.port) if self._listens else self.has_events("ready", before + 1)

        up = wait_until(lambda: process.poll() is not None or is_up(), "the relay's greeting", 30)
        assert up and process.poll() is None, f"serve gave up with exit code {process.returncode}: {self.stderr}"
        return self

    def _open(self, name: str) -> IO[bytes]:
        return (self.folder / name).open("ab")

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def stop(self) -> None:
        """End it for good, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.terminate()

    def terminate(self, timeout: float = 30.0) -> int:
        """SIGTERM; the exit code. What has not stopped by then is killed, and that is an error."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"still running {timeout:g} s after SIGTERM") from None

    def kill9(self) -> None:
        """SIGKILL to every process of the relay at once, and wait until none of them is left."""
        assert self._process is not None
        tree = [self.pid, *_descendants(self.pid)]
        for pid in tree:
            _kill(pid)
        self._process.wait(10)
        wait_until(lambda: not any(_alive(pid) for pid in tree), "the end of the killed processes", 10)

    def workers(self) -> list[int]:
        """The process ids of the workers (multiprocessing's own helpers are none)."""
        return [pid for pid in _children(self.pid) if b"resource_tracker" not in _command_line(pid)]

    def kill_worker(self, pid: int) -> None:
        """SIGKILL to one worker."""
        _kill(pid)

    @property
    def stderr(self) -> str:
        return self._read("stderr")

    @property
    def log_text(self) -> str:
        """The log so far, with the lines of the turns that are under way in the loops of the workers."""
        if self._process is not None and self._process.poll() is None:
            end = time.monotonic() + 0.2
            while any(map(_runs, self.workers())) and time.monotonic() < end:
                time.sleep(0.005)
        return self._read("log")

    def _read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log lines so far; a last line still being written is left out."""
        return _whole_lines(self.log_text)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one step."""
        return [line for line in self.log if line["event"] == name]

    def has_events(self, name: str, count: int) -> bool:
        """Tells whether the log has at least `count` lines of one step."""
        return len([line for line in _whole_lines(self._read("log")) if line["event"] == name]) >= count

    def command(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a `srs-relay` command with this relay's configuration."""
        command = [sys.executable, "-m", "relay", *arguments, "--config", str(self.config_file)]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=ROOT, timeout=60)

    def http(self, path: str) -> tuple[int, str]:
        """Status and body of what the monitoring endpoint answers; the configuration has `http.address`."""
        connection = HTTPConnection(self._http, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def queue(self) -> list[dict[str, Any]]:
        """What `queue list --json` says."""
        done = self.command("queue", "list", "--json")
        assert done.returncode == 0, done.stderr
        listed: list[dict[str, Any]] = json.loads(done.stdout)
        return listed

    def wait_for_empty_queue(self, timeout: float = 30.0) -> None:
        wait_until(lambda: not self.queue(), "the queue to be empty", timeout)


def _whole_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue  # the process has ended meanwhile
        if f"\nPPid:\t{pid}\n" in text:
            found.append(int(status.parent.name))
    return found


def _descendants(pid: int) -> list[int]:
    return [found for child in _children(pid) for found in (child, *_descendants(child))]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _runs(pid: int) -> bool:
    """Whether a process runs, or would if the machine had a processor for it."""
    try:
        return "\nState:\tR" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
