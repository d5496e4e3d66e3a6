"""How long one message takes at a low, fixed rate; sender and sink use one clock."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.running_relay import ALIAS, SENDER, relay
from bench.sink import OwnSink


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the first connection of the sender until the next hop has the whole message."""

    p50: float
    p99: float


async def run(rate: float, octets: int, messages: int, settings: Sequence[str] = ()) -> Latency:
    """Send `messages` of `octets` each, `rate` a second, each over its own connection.

    Args:
        settings: lines of TOML that change the configuration.
    """
    arrived: dict[int, float] = {}

    def took(address: str, recipients: int, content: bytes) -> None:
        arrived[int(content.partition(b"Subject: ")[2].split(b"\r\n")[0])] = time.monotonic()

    sink = OwnSink(took)
    started: dict[int, float] = {}
    async with relay(await sink.start(), settings=settings) as running, asyncio.timeout(messages / rate + 60):
        sending = []
        for number in range(messages):
            started[number] = time.monotonic()
            sending.append(asyncio.create_task(_send(running.port, number, octets)))
            await asyncio.sleep(1 / rate)
        await asyncio.gather(*sending)
        await sink.reach(messages)
    sink.stop()
    times = sorted((arrived[n] - started[n]) * 1000 for n in range(messages))
    cuts = statistics.quantiles(times, n=100)
    return Latency(cuts[49], cuts[98])


async def _send(port: int, number: int, octets: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b"The quick brown fox jumps over the lazy dog.\r\n" * (octets // 46)
    content = b"From: <%b>\r\nSubject: %d\r\n\r\n%b.\r\n" % (SENDER.encode(), number, body)
    await reader.readline()
    for command in (b"HELO sender.test", f"MAIL FROM:<{SENDER}>".encode(), f"RCPT TO:<{ALIAS}>".encode(), b"DATA"):
        writer.write(command + b"\r\n")
        await reader.readline()
    writer.write(content)
    reply = await reader.readline()
    if not reply.startswith(b"250"):
        raise SystemExit(f"message {number} was refused: {reply.decode().strip()}")
    writer.write(b"QUIT\r\n")
    await reader.read()
    writer.close()
