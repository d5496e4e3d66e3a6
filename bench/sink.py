"""Next hops in this process that take every message, for benchmarks that must know when it came, where and for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

LARGEST = 1 << 22  # octets of a message

Took = Callable[[str, int, bytes], None]


class OwnSink:
    """Listens on one or many addresses of loopback, on one port.

    Args:
        took: called for each message with the address that it came to, its number of recipients, and its content.

    Attributes:
        count: of recipients whose message has arrived.
    """

    def __init__(self, took: Took = lambda address, recipients, content: None) -> None:
        self._took = took
        self._servers: list[asyncio.Server] = []
        self._more = asyncio.Event()
        self.count = 0

    async def start(self, addresses: Sequence[str] = ("127.0.0.1",)) -> int:
        """Listen; returns the port."""
        port = 0
        for address in addresses:
            server = await asyncio.start_server(self._serve, address, port, limit=LARGEST, backlog=200)
            port = server.sockets[0].getsockname()[1]
            self._servers.append(server)
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address: str = writer.get_extra_info("sockname")[0]
        recipients = 0
        writer.write(b"220 sink ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb in (b"EHLO", b"HELO"):
                writer.write(b"250-sink\r\n250 PIPELINING\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                self._took(address, recipients, content)
                self.count += recipients
                self._more.set()
                recipients = 0
                writer.write(b"250 ok\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                recipients += verb == b"RCPT"
                writer.write(b"250 ok\r\n")
        writer.close()

    async def reach(self, count: int) -> None:
        """Wait until so many have arrived."""
        while self.count < count:
            self._more.clear()
            await self._more.wait()

    def stop(self) -> None:
        """Accept no more connections."""
        for server in self._servers:
            server.close()
