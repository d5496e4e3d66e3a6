"""How long one message takes at a low, fixed rate; sender and sink use one clock."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field

from bench.running_relay import ALIAS, SENDER, relay


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the first connection of the sender until the next hop has the whole message."""

    p50: float
    p99: float


@dataclass(slots=True)
class _Sink:
    """Accepts every message and notes its time, by the number in its Subject."""

    arrived: dict[int, float] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb in (b"EHLO", b"HELO"):
                writer.write(b"250-sink\r\n250 PIPELINING\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                self.arrived[int(content.partition(b"Subject: ")[2].split(b"\r\n")[0])] = time.monotonic()
                writer.write(b"250 ok\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 ok\r\n")
        writer.close()


async def run(rate: float, octets: int, messages: int, mode: str = "queue") -> Latency:
    """Send `messages` of `octets` each, `rate` a second, each over its own connection; `mode` is `delivery.mode`."""
    sink = _Sink()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0, limit=1 << 22)
    port = server.sockets[0].getsockname()[1]
    started: dict[int, float] = {}
    async with relay(port, mode=mode) as running, asyncio.timeout(messages / rate + 60):
        sending = []
        for number in range(messages):
            started[number] = time.monotonic()
            sending.append(asyncio.create_task(_send(running.port, number, octets)))
            await asyncio.sleep(1 / rate)
        await asyncio.gather(*sending)
        while len(sink.arrived) < messages:
            await asyncio.sleep(0.02)
    server.close()
    times = sorted((sink.arrived[n] - started[n]) * 1000 for n in range(messages))
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
