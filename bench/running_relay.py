"""Starts the relay for a benchmark, with its DNS: real processes on loopback, stopped at the end of the run.

SPF, DKIM, DMARC, SRS, RSA-2048 signature, ARC seal and the durable queue are on, as in production; TLS is off on both
sides.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from bench import mail
from relay.cli.zone import ZoneServer
from relay.sign.keys import generate

SENDER, ALIAS, MAILBOX = "bob@sender.test", "alice@fwd.test", "alice@mailbox.test"
START_SECONDS = 20.0
QUIET_SECONDS, QUIET_CPU = 0.1, 0.001  # a relay that uses no more in that time has finished its work
ROOT = Path(__file__).parents[1]

Prepare = Callable[[Path], Awaitable[None]]  # called with the folder of a relay's files before it starts

_CONFIG = """
hostname = "mx.fwd.test"
[[listen]]
address = "127.0.0.1:{port}"
[dns]
nameservers = ["{dns}"]
[limits]
connections = {connections}
connections_per_client = {connections}
[senders]
local_domains = ["fwd.test"]
[srs]
domain = "fwd.test"
secrets_file = "srs.secret"
[[dkim]]
domain = "fwd.test"
selector = "s1"
private_key = "s1.pem"
[routes]
aliases = "aliases"
[delivery.smarthost]
url = "smtp://127.0.0.1:{sink}"
[queue]
url = "sqlite:///queue.db"
"""


@dataclass(frozen=True, slots=True)
class Program:
    """A relay that can be run.

    Attributes:
        python: the interpreter.
        tree: the checkout whose modules it runs; None where the interpreter has the package installed.
    """

    python: str = sys.executable
    tree: Path | None = ROOT

    @classmethod
    def at(cls, place: str) -> Program:
        """The program of a checkout, run by this Python; or that of a virtual environment or of another Python.

        Raises:
            SystemExit: there is none.
        """
        path = Path(place).absolute()  # not resolved: a virtual environment is known by the link to its Python
        if (path / "relay" / "__init__.py").exists():
            return cls(tree=path)
        python = path / "bin" / "python" if path.is_dir() else path
        if not os.access(python, os.X_OK):
            raise SystemExit(f"{place}: neither a checkout of the relay, nor a Python, nor a virtual environment")
        return cls(str(python), None)

    def __str__(self) -> str:
        return f"{self.python} in {self.tree}" if self.tree is not None else self.python

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which its Python finds it."""
        rest = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return rest if self.tree is None else {**rest, "PYTHONPATH": str(self.tree)}


HERE = Program()


@dataclass
class RunningRelay:
    """The relay under test.

    Attributes:
        port: of its listener.
        pid: of its supervisor; the workers are its children.
    """

    port: int
    pid: int
    _seen: list[int] = field(default_factory=list)

    @property
    def workers(self) -> list[int]:
        """The processes that do the work."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def _processes(self) -> list[int]:
        """All its processes. Raises SystemExit: one has ended, and with it what it had used."""
        running = [self.pid, *self.workers]
        if not set(self._seen) <= set(running):
            raise SystemExit("a worker of the relay has died")
        self._seen = running
        return running

    def cpu(self) -> float:
        """Seconds of processor time used so far by all its processes, to the nanosecond."""
        return sum(time.clock_gettime(_processor_clock(pid)) for pid in self._processes())

    def memory(self) -> int:
        """Octets of memory in use by all its processes, shared pages counted once (PSS)."""
        total = 0
        for pid in self._processes():
            pss = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(pss[1]) * 1024 if pss else 0
        return total

    async def quiet(self) -> None:
        """Wait until the work is done that is left after the last delivery, for three seconds at most."""
        for _ in range(30):
            used = self.cpu()
            await asyncio.sleep(QUIET_SECONDS)
            if self.cpu() - used < QUIET_CPU:
                return


def _processor_clock(pid: int) -> int:
    """The clock of a process's processor time, as clock_getcpuclockid(3) makes it."""
    return ~pid << 3 | 2


def program(name: str) -> str:
    """The path of a program of the postfix package.

    Raises:
        SystemExit: it is not installed.
    """
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/libexec/postfix")
    if path is None:
        raise SystemExit(f"{name} is missing: apt-get install postfix")
    return path


def free_port() -> int:
    """A TCP port of loopback that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def relay(
    sink_port: int,
    *,
    signed: bool = False,
    connections: int = 1000,
    settings: Sequence[str] = (),
    program: Program = HERE,
    wrapper: Sequence[str] = ("-m", "relay"),
    prepare: Prepare | None = None,
) -> AsyncIterator[RunningRelay]:
    """A relay with an empty queue that forwards to a sink on loopback.

    Args:
        signed: the sender publishes a DKIM key and a DMARC policy, besides SPF.
        connections: how many it takes at a time; nine in ten of them from one client that is not trusted.
        settings: lines of TOML that change its configuration.
        wrapper: what the interpreter runs.
        prepare: called with the folder of its files before it starts.
    """
    zone = ZoneServer(mail.records() if signed else {("sender.test", "TXT"): ['"v=spf1 ip4:127.0.0.1 -all"']})
    host, dns_port = await zone.start()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(zone.close)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="srs-relay-bench-", dir="/var/tmp"))
        port = free_port()
        write_files(Path(folder), port, f"{host}:{dns_port}", sink_port, connections, settings)
        if prepare is not None:
            await prepare(Path(folder))
        with Path(folder, "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(program.python, *wrapper, "serve", "--config", f"{folder}/relay.toml"),
                stdout=log,
                cwd=folder,
                env=program.environment,
            )
            try:
                await wait_for_greeting(port, process)
                yield RunningRelay(port, process.pid)
            finally:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                await asyncio.wait_for(process.wait(), 30)


def write_files(
    folder: Path, port: int, dns: str, sink_port: int, connections: int = 1000, settings: Sequence[str] = ()
) -> None:
    """Write the configuration of a relay on a port of loopback, and the files that it names."""
    base = _CONFIG.format(port=port, dns=dns, sink=sink_port, connections=connections)
    (folder / "relay.toml").write_text(changed(base, settings))
    (folder / "aliases").write_text(f"{ALIAS} {MAILBOX}\n")
    for name, content in (("srs.secret", b"bench secret\n"), ("s1.pem", generate("rsa2048"))):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)


def changed(config: str, settings: Sequence[str]) -> str:
    """A configuration with some keys changed by lines such as `arc.seal = false`; all of it is TOML.

    Raises:
        SystemExit: a line is no TOML.
    """
    tables = tomllib.loads(config)
    for line in settings:
        try:
            _merge(tables, tomllib.loads(line))
        except tomllib.TOMLDecodeError as error:
            raise SystemExit(f"{line}: {error}") from None
    return tomlkit.dumps(tables)


def _merge(tables: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(tables.get(key), dict):
            _merge(tables[key], value)
        else:
            tables[key] = value


async def wait_for_greeting(port: int, process: asyncio.subprocess.Process | None = None) -> None:
    """Return when a relay answers on a port of loopback.

    Raises:
        SystemExit: `process`, which is to answer there, has ended.
    """
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                if process is not None and process.returncode is not None:
                    raise SystemExit("the relay did not start") from None
                await asyncio.sleep(0.05)
                continue
            await reader.readline()
            writer.close()
            return
