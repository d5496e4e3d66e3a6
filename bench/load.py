"""As much as it takes: Postfix's smtp-source pushes, its smtp-sink swallows and counts."""

from __future__ import annotations

import asyncio
import os
import re
import time
from dataclasses import dataclass

from bench.house import ALIAS, SENDER, free_port, program, relay

PATIENCE = 240.0  # seconds for one run


@dataclass(frozen=True, slots=True)
class Load:
    """One run's figures.

    Attributes:
        rate: messages a second, from the first connection to the arrival of the last message.
        cpu: milliseconds of processor time a message, over all processes of the relay.
        memory: octets (PSS) at the worst moment seen.
    """

    rate: float
    cpu: float
    memory: int


class _Sink:
    """smtp-sink, whose running counter tells how many messages have arrived."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.count = 0
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, port: int) -> _Sink:
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
        self._process.terminate()
        await self._process.wait()
        await self._reading


async def run(sessions: int, octets: int, messages: int) -> Load:
    """Send `messages` of `octets` each over `sessions` connections at a time, one message a connection."""
    port = free_port()
    sink = await _Sink.start(port)
    try:
        async with relay(port) as house, asyncio.timeout(PATIENCE):
            await _source(house.port, sessions, octets, 100)
            await _until(sink, 100)
            cpu, started, memory = house.cpu(), time.monotonic(), [house.memory()]
            source = asyncio.create_task(_source(house.port, sessions, octets, messages))
            while sink.count < 100 + messages:
                await asyncio.sleep(0.02)
                if time.monotonic() - started > len(memory):
                    memory.append(house.memory())
            seconds = time.monotonic() - started
            await source
            await asyncio.sleep(1)  # what is left to clean up counts
            return Load(messages / seconds, (house.cpu() - cpu) / messages * 1000, max(memory))
    finally:
        await sink.stop()


async def _source(port: int, sessions: int, octets: int, messages: int) -> None:
    process = await asyncio.create_subprocess_exec(
        program("smtp-source"),
        *("-s", str(sessions), "-l", str(octets), "-m", str(messages)),
        *("-f", SENDER, "-t", ALIAS, f"127.0.0.1:{port}"),
    )
    if await process.wait():
        raise SystemExit("smtp-source failed")


async def _until(sink: _Sink, count: int) -> None:
    while sink.count < count:
        await asyncio.sleep(0.02)
