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
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench import mail
from relay.cli.zone import ZoneServer
from relay.sign.keys import generate

SENDER, ALIAS, MAILBOX = "bob@sender.test", "alice@fwd.test", "alice@mailbox.test"
START_SECONDS = 20.0

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
[delivery]
mode = "{mode}"
[delivery.smarthost]
url = "smtp://127.0.0.1:{sink}"
[queue]
url = "sqlite:///queue.db"
"""


@dataclass
class RunningRelay:
    """The relay under test.

    Attributes:
        port: of its listener.
        pid: of its supervisor; the workers are its children.
    """

    port: int
    pid: int

    def _processes(self) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def cpu(self) -> float:
        """Seconds of processor time used so far by all its processes."""
        ticks = 0
        for pid in self._processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Octets of memory in use by all its processes, shared pages counted once (PSS)."""
        total = 0
        for pid in self._processes():
            pss = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(pss[1]) * 1024 if pss else 0
        return total


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
    sink_port: int, *, signed: bool = False, connections: int = 1000, mode: str = "queue"
) -> AsyncIterator[RunningRelay]:
    """A relay with an empty queue that forwards to a sink on loopback.

    Args:
        signed: the sender publishes a DKIM key and a DMARC policy, besides SPF.
        mode: `delivery.mode`.
        connections: how many it takes at a time; nine in ten of them from one client that is not trusted.
    """
    zone = ZoneServer(mail.records() if signed else {("sender.test", "TXT"): ['"v=spf1 ip4:127.0.0.1 -all"']})
    host, dns_port = await zone.start()
    with tempfile.TemporaryDirectory(prefix="srs-relay-bench-", dir="/var/tmp") as folder:
        port = free_port()
        write_files(Path(folder), port, f"{host}:{dns_port}", sink_port, connections, mode)
        with Path(folder, "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "relay", "serve", "--config", f"{folder}/relay.toml", stdout=log
            )
            try:
                await _answers(port)
                yield RunningRelay(port, process.pid)
            finally:
                process.send_signal(signal.SIGTERM)
                await asyncio.wait_for(process.wait(), 30)
    await zone.close()


def write_files(
    folder: Path, port: int, dns: str, sink_port: int, connections: int = 1000, mode: str = "queue"
) -> None:
    """Write the configuration of a relay on a port of loopback, and the files that it names."""
    (folder / "relay.toml").write_text(
        _CONFIG.format(port=port, dns=dns, sink=sink_port, connections=connections, mode=mode)
    )
    (folder / "aliases").write_text(f"{ALIAS} {MAILBOX}\n")
    for name, content in (("srs.secret", b"bench secret\n"), ("s1.pem", generate("rsa2048"))):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)


async def _answers(port: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            await reader.readline()
            writer.close()
            return
