"""`python -m bench.soak`: the relay under mixed load for half an hour. Memory has to stay flat.

A thousand sessions say nothing but a NOOP now and then, two hundred send their messages slowly, and fifty are busy.
Every minute it prints how long the busy ones waited for their replies, and the memory of the relay. At the end it
compares the memory of the last third of the time with that of the middle third: the first third fills the caches.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import statistics
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field

import uvloop

from bench.load import Sink
from bench.running_relay import ALIAS, SENDER, RunningRelay, free_port, relay

IDLE_PAUSE = 120.0  # seconds between two commands of an idle session: less than `limits.command_timeout`
SLOW_PIECE, SLOW_PAUSE = 512, 2.0  # octets that a slow session sends at once, and the seconds until the next ones
OCTETS = 10_240  # of each message
START_PAUSE = 0.005  # seconds between two connections, so that the start is no flood
LINE = b"The quick brown fox jumps over the lazy dog.\r\n"


@dataclass
class Minute:
    """What one minute brought: seconds from MAIL to the reply to the final dot, and the memory in octets."""

    waited: list[float] = field(default_factory=list)
    memory: int = 0


class Peer:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Peer:
        """A connection, after EHLO."""
        peer = cls(*await asyncio.open_connection("127.0.0.1", port))
        await peer.reply()
        await peer.say(b"EHLO sender.test")
        return peer

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def say(self, line: bytes) -> None:
        """Send a command and read its reply."""
        self._writer.write(line + b"\r\n")
        await self.reply()

    async def reply(self) -> None:
        """Read a reply. Raises SystemExit: it is a refusal, or the connection is lost."""
        while True:
            line = await self._reader.readline()
            if not line or line[:1] not in b"23":
                raise SystemExit(f"refused: {line.decode().strip() or 'connection lost'}")
            if line[3:4] == b" ":
                return

    async def message(self, octets: int, *, slowly: bool = False) -> None:
        """Send one message."""
        for line in (b"MAIL FROM:<%b>" % SENDER.encode(), b"RCPT TO:<%b>" % ALIAS.encode(), b"DATA"):
            await self.say(line)
        content = b"From: <%b>\r\nSubject: soak\r\n\r\n%b.\r\n" % (SENDER.encode(), LINE * (octets // len(LINE)))
        if slowly:
            for start in range(0, len(content), SLOW_PIECE):
                self._writer.write(content[start : start + SLOW_PIECE])
                await asyncio.sleep(SLOW_PAUSE)
        else:
            self._writer.write(content)
        await self.reply()


class Soak:
    """The clients, and what they measure minute by minute."""

    def __init__(self, port: int, rate: float) -> None:
        self._port = port
        self._rate = rate
        self.minutes = [Minute()]
        self.slow_messages = 0

    async def idle(self) -> None:
        """A session without mail."""
        peer = await Peer.connect(self._port)
        while True:
            await asyncio.sleep(random.uniform(0.5, 1) * IDLE_PAUSE)
            await peer.say(b"NOOP")

    async def slow(self) -> None:
        """Sessions, one after the other, that send one message slowly."""
        while True:
            peer = await Peer.connect(self._port)
            await peer.message(OCTETS, slowly=True)
            await peer.say(b"QUIT")
            self.slow_messages += 1

    async def busy(self, sessions: int) -> None:
        """A session that sends message after message, at its share of the rate."""
        peer = await Peer.connect(self._port)
        while True:
            await asyncio.sleep(random.expovariate(self._rate / sessions))
            began = time.monotonic()
            await peer.message(OCTETS)
            self.minutes[-1].waited.append(time.monotonic() - began)

    async def watch(self, running: RunningRelay, minutes: int) -> None:
        """Print a line a minute."""
        for minute in range(1, minutes + 1):
            await asyncio.sleep(60)
            current = self.minutes[-1]
            current.memory = await asyncio.to_thread(running.memory)
            self.minutes.append(Minute())
            print(
                f"minute {minute:>3}: {len(current.waited):>6} messages of the busy sessions, "
                f"{_waits(current.waited)}, "
                f"{self.slow_messages} slow messages so far, {current.memory / 2**20:.1f} MiB",
                flush=True,
            )
        self.minutes.pop()


def _waits(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return "no figures"
    cuts = statistics.quantiles(seconds, n=100)
    return f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"


async def run(minutes: int, idle: int, slow: int, busy: int, rate: float) -> None:
    """Run the soak and print its figures."""
    sink_port = free_port()
    sink = await Sink.start(sink_port)
    try:
        async with relay(sink_port, connections=2 * (idle + slow + busy)) as running:
            soak = Soak(running.port, rate)
            clients: list[Coroutine[None, None, None]] = [
                *(soak.idle() for _ in range(idle)),
                *(soak.slow() for _ in range(slow)),
                *(soak.busy(busy) for _ in range(busy)),
            ]
            tasks = []
            for client in clients:
                tasks.append(asyncio.create_task(client))
                await asyncio.sleep(START_PAUSE)
            watching = asyncio.create_task(soak.watch(running, minutes))
            try:
                done, _ = await asyncio.wait([watching, *tasks], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # a client that was refused ends the run
            finally:
                for task in [watching, *tasks]:
                    task.cancel()
                await asyncio.gather(watching, *tasks, return_exceptions=True)
            _summary(soak, sink.count)
    finally:
        await sink.stop()


def _summary(soak: Soak, delivered: int) -> None:
    waited = [seconds for minute in soak.minutes for seconds in minute.waited]
    print(f"in all: {len(waited)} messages of the busy sessions, {_waits(waited)}; {delivered} delivered")
    third = len(soak.minutes) // 3
    if third:
        middle, last = (
            statistics.median(minute.memory for minute in part) / 2**20
            for part in (soak.minutes[third : 2 * third], soak.minutes[-third:])
        )
        print(f"memory: {middle:.1f} MiB in the middle third, {last:.1f} MiB in the last ({last - middle:+.1f} MiB)")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--idle", type=int, default=1000, help="sessions without mail")
    parser.add_argument("--slow", type=int, default=200, help="sessions that send slowly")
    parser.add_argument("--busy", type=int, default=50, help="sessions that send message after message")
    parser.add_argument("--rate", type=float, default=50.0, help="messages a second of the busy sessions together")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(run(options.minutes, options.idle, options.slow, options.busy, options.rate))


if __name__ == "__main__":
    main()
