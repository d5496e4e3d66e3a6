"""The octets of one client connection, with bounds on how much is buffered and how long is waited.

The session above reads command lines and DATA blocks from here; it never sees the transport. Data that a client sends
ahead stays in the buffer (pipelining, RFC 2920), and reading from the socket pauses while the buffer is full.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

HIGH_WATER = 256 * 1024  # octets buffered before reading from the socket pauses
WRITE_PATIENCE = 60.0  # seconds that a client may leave our replies unread


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
        self._out: list[bytes] = []
        self._eof = False
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

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
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = True
        self._transport = None
        self._wake()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

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
    def pending(self) -> bool:
        """Whether a whole line waits in the buffer: replies are held together until none does."""
        return b"\n" in self._buffer

    def write(self, data: bytes) -> None:
        """Queue a reply; `flush` sends it."""
        self._out.append(data)

    async def flush(self) -> None:
        """Send what was written and wait while the client does not take it.

        Raises:
            Disconnected: also where the client leaves our replies unread for a minute.
        """
        if self._transport is None or self._transport.is_closing():
            raise Disconnected
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()
        if self._writable is not None:
            try:
                await asyncio.wait_for(asyncio.shield(self._writable), WRITE_PATIENCE)
            except TimeoutError:
                self._transport.abort()
                raise Disconnected from None

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
            await self._more(max(0.0, deadline - self._loop.time()))
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if too_long or len(line) > limit:
            raise LineTooLong
        return line

    async def read_block(self, timeout: float) -> bytes:
        """Whatever has arrived, at least one octet.

        Raises:
            TimedOut: nothing within `timeout` seconds.
            Disconnected
        """
        while not self._buffer:
            await self._more(timeout)
        block = bytes(self._buffer)
        self._buffer.clear()
        return block

    def unread(self, rest: bytes) -> None:
        """Put back what was read past the end of DATA."""
        self._buffer[:0] = rest

    async def start_tls(self, context: ssl.SSLContext, timeout: float) -> ssl.SSLObject:
        """Turn to TLS as the server. What was sent ahead in clear is dropped (RFC 3207 section 4.2).

        Raises:
            OSError, ssl.SSLError: the handshake failed; the connection is of no more use.
        """
        if self._transport is None:
            raise ConnectionResetError("connection lost")
        self._buffer.clear()
        transport = await self._loop.start_tls(
            self._transport, self, context, server_side=True, ssl_handshake_timeout=timeout
        )
        if transport is None:
            raise ConnectionResetError("connection lost during the TLS handshake")
        self._transport = transport
        return cast(ssl.SSLObject, transport.get_extra_info("ssl_object"))

    def interrupt(self, error: Exception) -> None:
        """Raise `error` in the read that is waiting for the client."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    async def close(self) -> None:
        """Send what is left and close; does not wait for the client."""
        if self._transport is not None and not self._transport.is_closing():
            if self._out:
                self._transport.write(b"".join(self._out))
                self._out.clear()
            self._transport.close()


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimedOut())
