"""How many messages a second the relay takes: Postfix's smtp-source sends, its smtp-sink accepts and counts."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench import mail
from bench.running_relay import ALIAS, SENDER, free_port, program, relay

PATIENCE = 240.0  # seconds for one run


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


class Sink:
    """A running smtp-sink; `count` is the number of messages that have arrived."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.count = 0
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

    async def stop(self) -> None:
        """End it."""
        self._process.terminate()
        await self._process.wait()
        await self._reading


async def run(sessions: int, octets: int, messages: int, *, signed: bool, mode: str = "queue") -> Load:
    """Send `messages` of `octets` each over `sessions` connections at a time, one message a connection.

    Args:
        signed: whether the sender signs, so that there are a signature and a policy to check.
        mode: `delivery.mode`.
    """
    port = free_port()
    sink = await Sink.start(port)
    content = mail.signed(octets) if signed else b""
    try:
        async with relay(port, signed=signed, mode=mode) as running, asyncio.timeout(PATIENCE):
            await source(running.port, sessions, octets, 100, content)
            await until(sink, 100)
            cpu, started, memory = running.cpu(), time.monotonic(), [running.memory()]
            sending = asyncio.create_task(source(running.port, sessions, octets, messages, content))
            while sink.count < 100 + messages:
                await asyncio.sleep(0.02)
                if time.monotonic() - started > len(memory):
                    memory.append(running.memory())
            seconds = time.monotonic() - started
            await sending
            await asyncio.sleep(1)  # the work after the last delivery counts, too
            return Load(messages / seconds, (running.cpu() - cpu) / messages * 1000, max(memory))
    finally:
        await sink.stop()


async def source(port: int, sessions: int, octets: int, messages: int, content: bytes = b"") -> None:
    """Send messages, with this content or with one that smtp-source makes."""
    with tempfile.NamedTemporaryFile(prefix="srs-relay-bench-") as file:
        file.write(content.replace(b"\r\n", b"\n"))
        file.flush()
        process = await pushing(port, sessions, messages, ["-F", file.name] if content else ["-l", str(octets)])
        if await process.wait():
            raise SystemExit("smtp-source failed")


async def pushing(port: int, sessions: int, messages: int, content: Sequence[str]) -> asyncio.subprocess.Process:
    """A running smtp-source.

    Args:
        content: its options for the content.
    """
    return await asyncio.create_subprocess_exec(
        program("smtp-source"),
        *("-s", str(sessions), "-m", str(messages), *content),
        *("-f", SENDER, "-t", ALIAS, f"127.0.0.1:{port}"),
    )


async def until(sink: Sink, count: int) -> None:
    """Wait until so many messages have arrived."""
    while sink.count < count:
        await asyncio.sleep(0.02)
