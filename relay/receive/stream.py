"""The octets of one client connection, with bounds on how much is buffered and how long is waited.

The session above reads command lines and DATA blocks from here; it never sees the transport. Data that a client sends
ahead stays in the buffer (pipelining, RFC 2920), and reading from the socket pauses while the buffer is full.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from relay.tls import describe

HIGH_WATER = 64 * 1024  # octets buffered before reading from the socket pauses
BLOCK = 64 * 1024  # octets of DATA worked on at a time, whatever the socket brings: a few milliseconds at most
REPLIES_HELD = 16 * 1024  # octets of replies to pipelined commands that may wait for one another
LINES_IN_A_ROW = 16  # pipelined commands after which other sessions get their turn
WRITE_PATIENCE = 60.0  # seconds that a client may leave our replies unread
CLOSE_PATIENCE = 5.0  # seconds that a client may take to receive the last replies


class Disconnected(Exception):
    """The client is gone."""


class TimedOut(Exception):
    """The client sent nothing for as long as it was given."""


class LineTooLong(Exception):
    """A command line passed the limit; it was read to its end and dropped."""


class Stream(asyncio.Protocol):
    """One connection as the session reads and writes it."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._out = bytearray()
        self._lines = 0  # read since the last wait
        self._eof = False
        self._paused = False
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._closed = self._loop.create_future()
        self._transport: asyncio.Transport | None = None

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        return not self.tls  # a client that only stops sending still gets its replies; TLS cannot be half closed

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = True
        self._transport = None
        self._wake()
        self.resume_writing()
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # the session's side

    @property
    def tls(self) -> str:
        """Protocol version and cipher, like `TLSv1.3 TLS_AES_256_GCM_SHA384`; empty in clear."""
        found = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return describe(found.cipher(), found.version()) if found is not None else ""

    @property
    def corked(self) -> bool:
        """Whether replies may wait for those to commands that are here already (RFC 2920 section 3.2)."""
        return b"\n" in self._buffer and len(self._out) < REPLIES_HELD

    def write(self, data: bytes) -> None:
        """Queue a reply; `flush` sends it."""
        self._out += data

    async def flush(self) -> None:
        """Send what was written and wait while the client does not take it.

        Raises:
            Disconnected: also where the client leaves our replies unread for a minute.
        """
        self._send()
        if self._transport is None or self._transport.is_closing():
            raise Disconnected
        if self._writable is not None:
            try:
                await asyncio.wait_for(asyncio.shield(self._writable), WRITE_PATIENCE)
            except TimeoutError:
                self.abort()
                raise Disconnected from None

    def _send(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(bytes(self._out))
        self._out.clear()

    async def _more(self, timeout: float) -> None:
        if self._eof:
            raise Disconnected
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout, _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None
            self._lines = 0

    async def read_line(self, limit: int, timeout: float) -> bytes:
        """The next line with its line end, whatever that is.

        Raises:
            LineTooLong: more than `limit` octets; the next line can be read.
            TimedOut: no whole line within `timeout` seconds.
            Disconnected
        """
        deadline = self._loop.time() + timeout
        start = 0
        too_long = False
        while (end := self._buffer.find(b"\n", start)) < 0:
            if len(self._buffer) > limit:
                too_long = True
                self._buffer.clear()
            start = len(self._buffer)
            left = deadline - self._loop.time()
            if left <= 0:  # data that never stops would always be earlier than a timer
                raise TimedOut
            await self._more(left)
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._lines += 1
        if self._lines == LINES_IN_A_ROW:
            self._lines = 0
            await asyncio.sleep(0)
        if too_long or len(line) > limit:
            raise LineTooLong
        return line

    async def read_block(self, timeout: float) -> bytes:
        """What has arrived, from one octet to `BLOCK`.

        Raises:
            TimedOut: nothing within `timeout` seconds.
            Disconnected
        """
        if self._buffer:
            await asyncio.sleep(0)
        while not self._buffer:
            await self._more(timeout)
        block = bytes(self._buffer[:BLOCK])
        del self._buffer[:BLOCK]
        return block

    def unread(self, rest: bytes) -> None:
        """Put back what was read past the end of DATA."""
        self._buffer[:0] = rest

    async def start_tls(self, context: ssl.SSLContext, timeout: float) -> None:
        """Turn to TLS as the server. What was sent ahead in clear is dropped (RFC 3207 section 4.2).

        Raises:
            OSError: the handshake failed, and the connection is closed. ssl.SSLError is one.
        """
        transport, self._transport = self._transport, None
        self._buffer.clear()
        self._paused = False
        if transport is None:
            raise ConnectionResetError("connection lost")
        self._transport = await self._loop.start_tls(
            transport, self, context, server_side=True, ssl_handshake_timeout=timeout
        )
        if self._transport is None:
            raise ConnectionResetError("connection lost during the TLS handshake")

    def interrupt(self, error: Exception) -> None:
        """Raise `error` in the read that is waiting for the client."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def abort(self) -> None:
        """Drop the connection and what was not sent."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Send what is left and close. A client that does not take it keeps the connection for seconds at most."""
        self._send()
        if self._transport is None:
            return
        self._transport.close()
        timer = self._loop.call_later(CLOSE_PATIENCE, self.abort)
        try:
            await self._closed
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            timer.cancel()


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimedOut())
