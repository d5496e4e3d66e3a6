"""The octets of one client connection, with limits on buffers and waiting times.

The session reads command lines and DATA blocks from here and never uses the transport. Data that a client sends ahead
(pipelining, RFC 2920) stays in the buffer, and reading from the socket pauses while the buffer is full.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from relay.tls import cipher_bits, describe
from relay.wait_timer import WaitTimer

HIGH_WATER = 64 * 1024  # octets buffered before reading from the socket pauses
BLOCK = 64 * 1024  # octets of DATA that are processed at a time, which takes a few milliseconds at most
REPLIES_HELD = 16 * 1024  # octets of replies to pipelined commands that may be sent together
BEGINNING = 128  # octets that are kept of a command line that is too long: they tell the verb
LINES_IN_A_ROW = 16  # pipelined commands after which other sessions run
WRITE_PATIENCE = 60.0  # seconds that a client may leave our replies unread
CLOSE_PATIENCE = 5.0  # seconds that a client may take to receive the last replies


T = TypeVar("T")


class Disconnected(Exception):
    """The connection is lost."""


class TimedOut(Exception):
    """The client did not send in time."""


class LineTooLong(Exception):
    """A command line was longer than the limit; it was read to its end and dropped.

    Attributes:
        beginning: its first `BEGINNING` octets.
    """

    def __init__(self, beginning: bytes) -> None:
        super().__init__()
        self.beginning = beginning


class Stream(asyncio.Protocol):
    """One client connection, for the session to read from and write to.

    Args:
        sock: its socket, which the transport owns.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self._out = b""
        self._lines = 0  # that were read since the last wait
        self._eof = False
        self._gone = False
        self._end: asyncio.Future[None] | None = None
        self._paused = False
        self._ends_with_reply = False
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._timer = WaitTimer(self._loop, self._time_out)
        self._writable: asyncio.Future[None] | None = None
        self._closed = self._loop.create_future()
        self._transport: asyncio.Transport | None = None

    # called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._note_end(lost=False)
        return not self.tls  # a client that closes its side still gets replies; not with TLS, which has no half close

    def connection_lost(self, exc: Exception | None) -> None:
        self._note_end(lost=True)
        self._transport = None
        self.resume_writing()
        if not self._closed.done():
            self._closed.set_result(None)

    def _note_end(self, *, lost: bool) -> None:
        self._eof = True
        self._gone = lost or not self._buffer
        self._wake()
        if self._gone and self._end is not None and not self._end.done():
            self._end.set_result(None)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            self._timer.end()
            waiter.set_result(None)

    # called by the session

    @property
    def tls(self) -> str:
        """Protocol version and cipher, like `TLSv1.3 TLS_AES_256_GCM_SHA384`; empty without TLS."""
        tls = self._ssl_object
        return describe(tls.cipher(), tls.version()) if tls is not None else ""

    @property
    def cipher_bits(self) -> tuple[int, int]:
        """The bits of secret that the cipher uses, and those of its algorithm; zeros without TLS."""
        tls = self._ssl_object
        return cipher_bits(tls.cipher() if tls is not None else None)

    @property
    def _ssl_object(self) -> ssl.SSLObject | None:
        return self._transport.get_extra_info("ssl_object") if self._transport is not None else None

    @property
    def beginning(self) -> bytes:
        """The first octets that have come and were not read, up to the end of the line."""
        return bytes(self._buffer[:BEGINNING]).partition(b"\r\n")[0]

    @property
    def corked(self) -> bool:
        """Whether replies may wait, because the next command is in the buffer already (RFC 2920 section 3.2)."""
        return b"\n" in self._buffer and len(self._out) < REPLIES_HELD

    def write(self, data: bytes) -> None:
        """Adds a reply to those that `flush` sends."""
        self._out += data

    async def flush(self) -> None:
        """Sends the replies, and waits as long as the client does not read.

        Raises:
            Disconnected: the connection is lost, or the client has read nothing for a minute.
        """
        transport, out = self._transport, self._out
        self._out = b""
        if transport is None or transport.is_closing():
            raise Disconnected
        if out:
            transport.write(out)
        if self._writable is not None:
            try:
                await asyncio.wait_for(asyncio.shield(self._writable), WRITE_PATIENCE)
            except TimeoutError:
                self.abort()
                raise Disconnected from None

    def _more(self, deadline: float) -> asyncio.Future[None]:
        """The next data, to be awaited; `deadline` is by the clock of the loop.

        Raises:
            Disconnected: the connection is lost. What ends the wait otherwise comes out of the future: TimedOut, or the
                error of `interrupt`.
        """
        if self._eof:
            raise Disconnected
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self._lines = 0
        self._timer.begin(deadline)
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def _time_out(self) -> None:
        self.interrupt(TimedOut())

    async def read_line(self, limit: int, timeout: float) -> bytes:
        """The next line up to its LF.

        Raises:
            LineTooLong: it had more than `limit` octets; the next line can be read.
            TimedOut: there was no whole line within `timeout` seconds.
            Disconnected: the connection is lost.
        """
        start = 0
        deadline = 0.0
        beginning = b""  # of a line that is too long
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > limit:
                beginning = beginning or bytes(self._buffer[:BEGINNING])
                self._buffer.clear()
                start = 0
            now = self._loop.time()
            deadline = deadline or now + timeout
            if now >= deadline:  # checked here, because data that never stops always comes before a timer
                raise TimedOut
            await self._more(deadline)
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._lines += 1
        if self._lines == LINES_IN_A_ROW:
            self._lines = 0
            await asyncio.sleep(0)
        if beginning or end >= limit:
            raise LineTooLong(beginning or line[:BEGINNING])
        return line

    async def read_block(self, timeout: float, most: int = BLOCK) -> bytes:
        """The octets that have arrived, at least one and at most `most`.

        Raises:
            TimedOut: there were none within `timeout` seconds.
            Disconnected: the connection is lost.
        """
        if self._buffer:
            await asyncio.sleep(0)
        while not self._buffer:
            await self._more(self._loop.time() + timeout)
        if len(self._buffer) <= most:
            block = bytes(self._buffer)
            self._buffer.clear()
        else:
            block = bytes(self._buffer[:most])
            del self._buffer[:most]
        return block

    async def is_silent_for(self, seconds: float) -> bool:
        """Whether the client says nothing for so long; what it says stays to be read.

        Raises:
            Disconnected: the connection is lost, or the client has closed its side and said nothing.
        """
        try:
            while not self._buffer:
                await self._more(self._loop.time() + seconds)
        except TimedOut:
            return True
        return False

    async def unless_lost(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which is cancelled as soon as the connection is lost.

        Raises:
            Disconnected: the connection is lost.
        """
        task = self._loop.create_task(work)
        try:
            await asyncio.wait((task, self._closed), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Disconnected
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def unread(self, rest: bytes) -> None:
        """Puts octets that were read past the end of DATA back into the buffer."""
        if rest:
            self._buffer[:0] = rest

    async def start_tls(self, context: ssl.SSLContext, timeout: float) -> None:
        """Starts TLS as the server. Data that was sent ahead in clear is dropped (RFC 3207 section 4.2).

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

    def ended(self) -> asyncio.Future[None]:
        """Done once the connection is lost, or the client has closed its side and waits for nothing.

        A client that has sent commands ahead, such as QUIT, before it closed its side waits for the replies. What it
        sends meanwhile stays in the buffer; where that is full, the end is not seen.
        """
        if self._end is None:
            self._end = self._loop.create_future()
            if self._gone:
                self._end.set_result(None)
        return self._end

    def interrupt(self, error: Exception) -> None:
        """Raises `error` in the read that waits for the client, if one does."""
        if self._waiter is not None and not self._waiter.done():
            self._timer.end()
            self._waiter.set_exception(error)

    def abort(self) -> None:
        """Drops the connection and the replies that were not sent."""
        if self._transport is not None:
            self._transport.abort()

    def end_with_reply(self) -> None:
        """Says that the client sends nothing more: `close` sends the last reply and the end in one segment.

        The kernel keeps the reply until the end. It would drop it where octets of the client were left unread (RFC 1122
        section 4.2.2.13), so this is for QUIT only.
        """
        self._ends_with_reply = not self._buffer

    async def close(self) -> None:
        """Sends the last replies and closes the connection. A client that does not read has `CLOSE_PATIENCE`."""
        transport, out = self._transport, self._out
        self._out = b""
        self._timer.close()
        if transport is None:
            return
        encrypted = self._ssl_object is not None
        if out and not transport.is_closing():
            if self._ends_with_reply and not encrypted:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            transport.write(out)
        waits = encrypted or transport.get_write_buffer_size() > 0  # with TLS, for the client's end
        transport.close()
        timer = self._loop.call_later(CLOSE_PATIENCE, self.abort) if waits else None
        try:
            await self._closed
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            if timer is not None:
                timer.cancel()
