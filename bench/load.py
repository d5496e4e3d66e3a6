"""How many messages a second the relay takes: Postfix's smtp-source sends, its smtp-sink accepts and counts."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from bench import mail
from bench.running_relay import ALIAS, SENDER, RunningRelay, free_port, program, relay

PATIENCE = 240.0  # seconds for one burst


@dataclass(frozen=True, slots=True)
class Load:
    """One run's figures.

    Attributes:
        rate: messages a second, from the first connection to the arrival of the last message.
        cpu: milliseconds of processor time a message, over all processes of the relay.
        memory: octets (PSS), the highest of one measurement a second.
    """

    rate: float
    cpu: float
    memory: int


class Counts(Protocol):
    """A next hop that counts what arrives there."""

    count: int

    async def reach(self, count: int) -> None:
        """Wait until so many have arrived."""


class Sink:
    """A running smtp-sink; `count` is the number of messages that have arrived."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.count = 0
        self._more = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, port: int) -> Sink:
        """Start it on a port of loopback."""
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        return cls(
            await asyncio.create_subprocess_exec(
                program("smtp-sink"), "-c", *user, f"127.0.0.1:{port}", "1000", stdout=asyncio.subprocess.PIPE
            )
        )

    async def _read(self) -> None:
        assert self._process.stdout is not None
        pending = b""
        while block := await self._process.stdout.read(65536):
            pending = (pending + block)[-200:]
            if found := re.findall(rb"mesg=(\d+)\r", pending):
                self.count = int(found[-1])
                self._more.set()

    async def reach(self, count: int) -> None:
        """Wait until so many messages have arrived."""
        while self.count < count:
            self._more.clear()
            await self._more.wait()

    async def stop(self) -> None:
        """End it."""
        self._process.terminate()
        await self._process.wait()
        await self._reading


@dataclass(frozen=True, slots=True)
class Workload:
    """What is sent, one message a connection.

    Attributes:
        sessions: connections at a time.
        octets: of each message.
        signed: whether the sender signs, so that there are a signature and a policy to check.
    """

    sessions: int
    octets: int
    signed: bool = False

    def __str__(self) -> str:
        return f"{self.sessions} sessions, {self.octets // 1024} KiB{', signed' if self.signed else ''}"


WORKLOADS = {
    "W1": Workload(20, 10_240),
    "W2": Workload(100, 10_240),
    "W3": Workload(20, 102_400),
    "AUTH": Workload(20, 10_240, signed=True),
}


@asynccontextmanager
async def content_of(workload: Workload) -> AsyncIterator[list[str]]:
    """The options of smtp-source for its content."""
    if not workload.signed:
        yield ["-l", str(workload.octets)]
        return
    with tempfile.NamedTemporaryFile(prefix="srs-relay-bench-") as file:
        file.write(mail.signed(workload.octets).replace(b"\r\n", b"\n"))
        file.flush()
        yield ["-F", file.name]


async def run(workload: Workload, messages: int, settings: Sequence[str] = ()) -> Load:
    """Send so many messages to a relay of its own.

    Args:
        settings: lines of TOML that change its configuration.
    """
    port = free_port()
    sink = await Sink.start(port)
    try:
        async with (
            content_of(workload) as content,
            relay(port, signed=workload.signed, settings=settings) as running,
        ):
            await burst(running, sink, workload.sessions, 100, content)
            return await burst(running, sink, workload.sessions, messages, content)
    finally:
        await sink.stop()


async def burst(
    running: RunningRelay, sink: Counts, sessions: int, messages: int, content: Sequence[str], arrivals: int = 1
) -> Load:
    """Send so many messages to a relay that is running, and wait until it has done all the work for them.

    Args:
        content: the options of smtp-source for it.
        arrivals: how many of each arrive at the sink.

    Raises:
        SystemExit: not all was sent, or has arrived in time.
    """
    goal = sink.count + messages * arrivals
    memory = [running.memory()]
    cpu, started = running.cpu(), time.monotonic()
    process = await pushing(running.port, sessions, messages, content)
    arriving = asyncio.create_task(sink.reach(goal))
    try:
        while not (await asyncio.wait([arriving], timeout=1))[0]:
            memory.append(running.memory())
            if process.returncode:
                raise SystemExit("smtp-source failed")
            if time.monotonic() - started > PATIENCE:
                raise SystemExit(f"{goal - sink.count} messages have not arrived")
        seconds = time.monotonic() - started
        await process.wait()
    finally:
        arriving.cancel()
        if process.returncode is None:
            process.kill()
    await running.quiet()  # the work after the last delivery counts, too
    return Load(messages / seconds, (running.cpu() - cpu) / messages * 1000, max(memory))


async def source(port: int, sessions: int, octets: int, messages: int) -> None:
    """Send messages that smtp-source makes."""
    process = await pushing(port, sessions, messages, ["-l", str(octets)])
    if await process.wait():
        raise SystemExit("smtp-source failed")


async def pushing(port: int, sessions: int, messages: int, content: Sequence[str]) -> asyncio.subprocess.Process:
    """A running smtp-source.

    Args:
        content: its options for the content; others win over ours.
    """
    return await asyncio.create_subprocess_exec(
        program("smtp-source"),
        *("-s", str(sessions), "-m", str(messages), "-f", SENDER, "-t", ALIAS, *content, f"127.0.0.1:{port}"),
    )
