"""Serves one table: connections are accepted, and each is answered in turn until it is idle for too long.

Postfix keeps connections open and sends one request at a time. Others may send many at once, in pieces of any size, or
may not read the answers. What a connection holds in memory is bounded (`KEPT_OCTETS`, `_BUFFER_OCTETS`), and so are the
time for a request and the number of connections. At the limit the connection that has been quiet for longest is
closed: Postfix connects again for its next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket

import structlog

from relay.config.sections import TablesSection
from relay.network import plain_ip
from relay.postfix_tables.lookups import Lookups
from relay.postfix_tables.request import BadRequest, Dialect
from relay.postfix_tables.socketmap import Socketmap
from relay.postfix_tables.tcp_table import TcpTable

log = structlog.get_logger()

CONNECTIONS = 500  # of one table in one worker
IDLE_SECONDS = 1800.0  # as PostSRSd 1.x; Postfix's socketmap client hangs up after 10 seconds
REQUEST_SECONDS = 100.0  # for one request and for one reply (tcp_table(5))
GRACE_SECONDS = 1.0  # for a request that is on its way while the worker stops
_BUFFER_OCTETS = 2048  # read at once; twice as many may wait to be read, and to be sent
_LINGER_OCTETS = 2**20  # read after a bad request, so that the client gets our reply and no reset
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_OUT_OF_FILES_PAUSE = 1.0  # seconds without accepting
_ACCEPT_AT_ONCE = 16


class TableServer:
    """Answers on the listening socket of one table, which other workers may share."""

    def __init__(
        self, sock: socket.socket, table: TablesSection, lookups: Lookups, connections: int = CONNECTIONS
    ) -> None:
        self._socket = sock
        self._table = table
        self._lookups = lookups
        self._most = connections
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._by_quiet: dict[_Connection, None] = {}  # the one that has been quiet for longest comes first

    def start(self) -> None:
        """Accept connections from now on."""
        if not self._stopping:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    async def stop(self, patience: float) -> None:
        """Accept no more. Connections end with their next answer, at the latest after `patience` seconds.

        The socket is closed here and stays open in the other processes: who connects from now on is theirs.
        """
        self._stopping = True
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for connection in tuple(self._by_quiet):
            connection.drain()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=patience)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("accept_failed", problem=error.strerror)
                if error.errno in _OUT_OF_FILES:
                    self._loop.remove_reader(self._socket.fileno())
                    self._loop.call_later(_OUT_OF_FILES_PAUSE, self.start)
                return
            if self._table.path is None and not self._table.admits(plain_ip(address[0])):
                log.warning("table_refused", address=self._table.address, ip=plain_ip(address[0]))
                sock.close()
                continue
            sock.setblocking(False)
            task = self._loop.create_task(self._serve(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        reader = asyncio.StreamReader(limit=_BUFFER_OCTETS)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, sock)
        except OSError:
            sock.close()
            return
        transport.set_write_buffer_limits(high=_BUFFER_OCTETS)
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        connection = _Connection(reader, writer, self._dialect(), self._lookups)
        self._make_room()
        self._by_quiet[connection] = None
        if self._stopping:
            connection.drain()
        try:
            while await connection.answer_some():
                self._by_quiet.pop(connection, None)
                self._by_quiet[connection] = None
        except OSError:
            pass  # the client has gone
        except Exception:
            log.exception("table_failed", address=self._table.address)
        finally:
            self._by_quiet.pop(connection, None)
            transport.abort()

    def _dialect(self) -> Dialect:
        if self._table.protocol == "socketmap":
            return Socketmap(self._table.direction)
        assert self._table.direction is not None, "the configuration demands it"
        return TcpTable(self._table.direction)

    def _make_room(self) -> None:
        if len(self._by_quiet) >= self._most:
            log.info("table_full", address=self._table.address, connections=self._most)
            quietest = next(iter(self._by_quiet))
            del self._by_quiet[quietest]
            quietest.abort()


class _Connection:
    """One client."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dialect: Dialect, lookups: Lookups
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._dialect = dialect
        self._lookups = lookups
        self._loop = asyncio.get_running_loop()
        self._begun_at = 0.0  # when the request began that is not complete; 0 between requests
        self._draining = False
        self._waiting: asyncio.Timeout | None = None

    def drain(self) -> None:
        """End with the next answer, or soon without one."""
        self._draining = True
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(self._loop.time() + GRACE_SECONDS)

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    async def answer_some(self) -> bool:
        """Read what there is and answer it; returns whether the connection goes on.

        Raises:
            OSError: the client has gone.
        """
        data = await self._read()
        if not data:
            await self._close()
            return False
        for request in self._dialect.feed(data):
            if not isinstance(request, BadRequest):
                self._send(self._dialect.answer(await self._lookups.answer(request)))
                continue
            log.info("table_bad_request", problem=request.problem)
            self._send(self._dialect.refusal(request))
            if request.final:
                await self._close(linger=True)
                return False
        self._begun_at = (self._begun_at or self._loop.time()) if self._dialect.begun else 0.0
        async with asyncio.timeout(REQUEST_SECONDS):
            await self._writer.drain()
        if self._draining and not self._dialect.begun:
            await self._close()
            return False
        await asyncio.sleep(0)  # neither reading nor writing needs to have waited
        return True

    def _send(self, reply: bytes) -> None:
        if not self._writer.is_closing():  # uvloop raises RuntimeError where the client has gone
            self._writer.write(reply)

    async def _read(self) -> bytes:
        """What the client sends next; empty at its end, and when it has been quiet or slow for too long."""
        if self._draining:
            seconds = GRACE_SECONDS
        elif self._begun_at:
            seconds = self._begun_at + REQUEST_SECONDS - self._loop.time()
        else:
            seconds = IDLE_SECONDS
        try:
            async with asyncio.timeout(seconds) as self._waiting:
                return await self._reader.read(_BUFFER_OCTETS)
        except TimeoutError:
            return b""
        finally:
            self._waiting = None

    async def _close(self, linger: bool = False) -> None:
        """Send what is still to be sent, and close.

        Args:
            linger: read on for a moment, since the system discards what was sent when it closes a connection with
                something left to read.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                if linger and not self._writer.is_closing():
                    self._writer.write_eof()
                    left = _LINGER_OCTETS
                    while left > 0 and (data := await self._reader.read(_BUFFER_OCTETS)):
                        left -= len(data)
                self._writer.close()
                await self._writer.wait_closed()
