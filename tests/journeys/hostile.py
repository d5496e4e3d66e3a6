"""Next hops that answer a few deliveries well and then hold on to what is sent to them, each in another phase."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from tests.journeys.loop_thread import LoopThread

PHASES = ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "body", "dot")


class HostileHops:
    """Hosts on neighbouring loopback addresses, from 127.0.1.1 on, each the MX of a domain: h0.example, h1.example …

    Args:
        count: how many.
        good: deliveries that each of them takes before it turns.

    Attributes:
        taken: how many deliveries each has taken, by domain.
        held: connections that are held at this moment, and the most that there were.
    """

    def __init__(self, count: int, port: int, good: int) -> None:
        self.domains = [f"h{n}.example" for n in range(count)]
        self.taken: Counter[str] = Counter()
        self.held = self.most_held = 0
        self._port = port
        self._good = good
        self._loop = LoopThread()
        self._servers: list[asyncio.Server] = []

    def address(self, number: int) -> str:
        return f"127.0.1.{number + 1}"

    def zone(self) -> dict[tuple[str, str], list[str]]:
        """Their MX, and SPF that lets 127.0.0.1 send for them."""
        zone: dict[tuple[str, str], list[str]] = {}
        for number, domain in enumerate(self.domains):
            zone[domain, "MX"] = [f"10 mx.{domain}."]
            zone[f"mx.{domain}", "A"] = [self.address(number)]
            zone[domain, "TXT"] = ['"v=spf1 ip4:127.0.0.1 -all"']
        return zone

    def start(self) -> None:
        self._loop.start()
        self._loop.run(self._listen())

    def stop(self) -> None:
        self._loop.run(self._close())
        self._loop.stop()

    async def _listen(self) -> None:
        for number, domain in enumerate(self.domains):
            phases = PHASES[number % len(PHASES) :]

            async def serve(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                domain: str = domain,
                phases: Sequence[str] = phases,
            ) -> None:
                try:
                    await self._serve(domain, phases[0], reader, writer)
                except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                    pass
                finally:
                    writer.close()

            self._servers.append(await asyncio.start_server(serve, self.address(number), self._port))

    async def _close(self) -> None:
        for server in self._servers:
            server.close()

    async def _serve(self, domain: str, phase: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One session; once the host has turned it goes as far as `phase`, and is silent from there."""

        async def reached(now: str) -> None:
            if now == phase and self.taken[domain] >= self._good:
                self.held += 1
                self.most_held = max(self.most_held, self.held)
                try:
                    while await reader.read(65536):
                        pass
                    raise OSError
                finally:
                    self.held -= 1

        writer.write(b"220 hostile\r\n")
        await reached("greeting")
        while line := await reader.readline():
            verb = line[:4].decode().upper()
            await reached(verb)
            if verb == "DATA":
                writer.write(b"354 go on\r\n")
                await reached("body")
                await reader.readuntil(b"\r\n.\r\n")
                await reached("dot")
                self.taken[domain] += 1
            writer.write(b"250 ok\r\n")
            if verb == "QUIT":
                return
