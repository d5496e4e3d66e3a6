"""The mail servers of the demo, on both sides of the relay: each accepts every message, and can send messages.

aiosmtpd receives, which nothing else imports, and aiosmtplib sends. Each server has its own address in 127.0.0.0/8, so
that SPF can tell them apart.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import aiosmtplib
from aiosmtpd.smtp import SMTP, Envelope, Session
from aiosmtpd.smtp import log as aiosmtpd_log

PATIENCE = 10.0  # seconds for each reply


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
        self._sessions: list[_Session] = []

    async def start(self, port: int) -> int:
        """Listen; port 0 takes a free one. Returns the port.

        Raises:
            OSError: the address or the port cannot be had.
        """
        aiosmtpd_log.setLevel(logging.CRITICAL)  # what it thinks of its clients does not belong between the tables
        self._server = await asyncio.get_running_loop().create_server(self._session, self.ip, port)
        return int(self._server.sockets[0].getsockname()[1])

    def _session(self) -> _Session:
        self._sessions = [session for session in self._sessions if not session.over]
        session = _Session(self, self.name)
        self._sessions.append(session)
        return session

    async def close(self) -> None:
        """Stop listening, and close all connections."""
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*(session.hang_up() for session in self._sessions))

    async def next_message(self, timeout: float | None = None) -> Received:
        """The oldest message not yet handed out.

        Raises:
            TimeoutError: none came within `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            return await self._arrived.get()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Called by aiosmtpd for each message."""
        content = envelope.original_content or b""
        sender, recipients = (envelope.mail_from or "").removeprefix("<>"), tuple(envelope.rcpt_tos)
        client = session.peer[0] if session.peer is not None else ""
        self._arrived.put_nowait(Received(client, session.host_name or "", sender, recipients, content))
        return "250 2.0.0 Ok"

    async def send(self, server: tuple[str, int], sender: str, recipient: str, content: bytes) -> str:
        """Send a message from this host's address; returns the last reply, which may be a refusal.

        Raises:
            OSError: no connection, or it was lost.
        """
        client = aiosmtplib.SMTP(
            hostname=server[0],
            port=server[1],
            local_hostname=self.name,
            source_address=(self.ip, 0),
            timeout=PATIENCE,
            use_tls=False,
            start_tls=False,
        )
        async with client:
            try:
                await client.mail(sender)
                await client.rcpt(recipient)
                reply = await client.data(content)
            except aiosmtplib.SMTPResponseException as refusal:
                return f"{refusal.code} {refusal.message}"
        return f"{reply.code} {reply.message}"


class _Session(SMTP):
    """One connection to a server, which can close it."""

    def __init__(self, server: MailServer, name: str) -> None:
        super().__init__(server, hostname=name, ident="ESMTP", loop=asyncio.get_running_loop())

    @property
    def over(self) -> bool:
        return self._handler_coroutine is not None and self._handler_coroutine.done()

    async def hang_up(self) -> None:
        """Close the connection, and wait for the end of its session."""
        if self.transport is not None:
            self.transport.close()
        if self._handler_coroutine is not None:
            await asyncio.wait([self._handler_coroutine])
