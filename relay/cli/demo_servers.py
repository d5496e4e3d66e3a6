"""The mail servers of the demo, on both sides of the relay: each accepts every message, and can send messages.

They do the minimum of SMTP. Each has its own address in 127.0.0.0/8, so that SPF can tell them apart.
"""

from __future__ import annotations

import asyncio
import smtplib
from dataclasses import dataclass

LINE_LIMIT = 2**20  # octets; longer than any line that is sent here


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it came over the wire: the client's address and EHLO, the envelope, the octets."""

    client: str
    helo: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes


class MailServer:
    """A mail server with its own name and address."""

    def __init__(self, name: str, ip: str) -> None:
        self.name = name
        self.ip = ip
        self._arrived: asyncio.Queue[Received] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, port: int) -> int:
        """Listen; port 0 takes a free one. Returns the port.

        Raises:
            OSError: the address or the port cannot be had.
        """
        self._server = await asyncio.start_server(self._serve, self.ip, port, limit=LINE_LIMIT)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and close all connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._connections.values():
            writer.close()
        await asyncio.gather(*self._connections)

    async def next_message(self, timeout: float | None = None) -> Received:
        """The oldest message not yet handed out.

        Raises:
            TimeoutError: none came within `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            return await self._arrived.get()

    async def send(self, server: tuple[str, int], sender: str, recipient: str, content: bytes) -> str:
        """Send a message from this host's address; returns the last reply, which may be a refusal.

        Raises:
            OSError: no connection, or it was lost.
        """
        return await asyncio.to_thread(self._send, server, sender, recipient, content)

    def _send(self, server: tuple[str, int], sender: str, recipient: str, content: bytes) -> str:
        with smtplib.SMTP(*server, local_hostname=self.name, timeout=10, source_address=(self.ip, 0)) as client:
            client.ehlo()
            for verb in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
                code, text = client.docmd(verb)
                if code != 250:
                    break
            else:
                code, text = client.data(content)
        return f"{code} {text.decode('ascii', 'replace')}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            await self._converse(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left without QUIT, or we closed the connection
        finally:
            writer.close()
            del self._connections[task]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        helo = sender = ""
        recipients: list[str] = []
        reply = f"220 {self.name} ESMTP"
        while True:
            writer.write(reply.encode("ascii") + b"\r\n")
            await writer.drain()
            line = (await reader.readuntil(b"\n")).decode("utf-8", "replace").strip()
            verb, _, argument = line.partition(" ")
            path = argument.partition("<")[2].partition(">")[0]
            reply = "250 2.0.0 Ok"
            match verb.upper():
                case "EHLO" | "HELO":
                    helo, reply = argument, f"250-{self.name}\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES"
                case "MAIL":
                    sender, recipients = path, []
                case "RCPT":
                    recipients.append(path)
                case "DATA":
                    writer.write(b"354 Go ahead\r\n")
                    content = await _read_data(reader)
                    client = writer.get_extra_info("peername")[0]
                    self._arrived.put_nowait(Received(client, helo, sender, tuple(recipients), content))
                case "QUIT":
                    writer.write(b"221 2.0.0 Bye\r\n")
                    return
                case "RSET" | "NOOP":
                    pass
                case _:
                    reply = "500 5.5.2 Command unknown"


async def _read_data(reader: asyncio.StreamReader) -> bytes:
    lines = []
    while (line := await reader.readuntil(b"\n")) != b".\r\n":
        lines.append(line.removeprefix(b"."))
    return b"".join(lines)
