"""Parses the replies of a server. What it sends is kept until it is read, line by line.

aiosmtplib's protocol brings the transport and STARTTLS. It drops replies that come before they are awaited, as with
PIPELINING and LMTP, and it parses all that has come so far again with every segment, which a hostile server can make
expensive. So the parsing is ours.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import cast

from aiosmtplib import SMTPResponse as ServerReply
from aiosmtplib.protocol import SMTPProtocol

from relay.deliver.classify import Silence
from relay.wait_timer import WaitTimer

__all__ = ["ClientProtocol", "NoReply", "ServerReply"]

REPLY_OCTETS = 32 * 1024  # of one reply with all its lines: a long EHLO reply has two or three KiB
UNREAD_OCTETS = 1024 * 1024  # of replies not read yet: a thousand pipelined RCPT fit several times over

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:(-)|(?![0-9]))(.*)", re.DOTALL)  # RFC 5321 section 4.2


class NoReply(Exception):
    """The server gave no reply in time, closed the connection, or sent something that is no reply."""

    def __init__(self, kind: Silence) -> None:
        self.kind = kind
        super().__init__(kind)


class ClientProtocol(SMTPProtocol):
    """The client's end of one connection. The caller writes commands and reads one reply for each."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self._received = bytearray()
        self._scanned = 0  # octets at the front of `_received` that hold no line end
        self._lines: list[bytes] = []  # of the reply whose last line is not there yet
        self._octets = 0  # of those lines
        self._wakeup: asyncio.Future[None] | None = None  # awaited by `read_response`
        self._late = False
        self._timer = WaitTimer(self._loop, self._time_out)
        self._writable = asyncio.Event()
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > UNREAD_OCTETS:
            self.abort()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._timer.close()
        self._wake()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    @property
    def unread(self) -> bool:
        """Whether the server has sent something that was not read."""
        return bool(self._received or self._lines)

    async def read_response(self, timeout: float | None = None) -> ServerReply:
        """The next reply, waited for at most `timeout` seconds.

        Raises:
            NoReply: none in time, the connection is closed, or what came is no reply. The connection is closed then,
                since a late reply would count as the reply to another command.
        """
        try:
            reply = self._next()
            if reply is not None:
                return reply
            self._late = False
            if timeout is not None:
                self._timer.begin(self._loop.time() + timeout)
            while reply is None:
                if self._late or not self.is_connected:
                    raise NoReply("timeout" if self._late else "lost")
                self._wakeup = self._loop.create_future()
                await self._wakeup
                reply = self._next()
        except NoReply:
            self.abort()
            raise
        finally:
            self._timer.end()
        return reply

    def _time_out(self) -> None:
        self._late = True
        self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def _next(self) -> ServerReply | None:
        while (end := self._received.find(b"\n", self._scanned)) >= 0:
            line = _LINE.match(self._received[:end])
            del self._received[: end + 1]
            self._scanned = 0
            self._octets += end + 1
            if line is None or self._octets > REPLY_OCTETS:
                raise NoReply("garbage")
            self._lines.append(line[3].strip())
            if not line[2]:
                text = b"\n".join(self._lines).decode(errors="replace")
                self._lines, self._octets = [], 0
                return ServerReply(int(line[1]), text)
        self._scanned = len(self._received)
        if self._octets + self._scanned > REPLY_OCTETS:
            raise NoReply("garbage")
        return None

    async def drain(self, timeout: float) -> None:
        """Wait until the server has taken enough of what was written.

        Raises:
            TimeoutError: it has not within `timeout` seconds.
        """
        if not self._writable.is_set():
            async with asyncio.timeout(timeout):
                await self._writable.wait()

    async def start_tls(
        self, tls_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> ServerReply:
        """STARTTLS and the handshake. Octets that came in clear after the 220 are dropped (RFC 3207 section 4.2).

        Raises:
            aiosmtplib.SMTPResponseException: another reply than 220.
            OSError: the handshake failed; `ssl.SSLError` and `aiosmtplib.SMTPServerDisconnected` are kinds of it.
            NoReply: none to STARTTLS.
        """
        reply = await super().start_tls(tls_context, server_hostname, timeout)
        # Nothing can have come inside TLS yet: the server waits for EHLO.
        self._received.clear()
        self._lines.clear()
        self._scanned = self._octets = 0
        return reply

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).abort()
