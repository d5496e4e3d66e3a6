"""The HTTP endpoint for monitoring: /metrics, /healthz and /readyz, one request a connection.

It speaks just enough HTTP/1.1 (RFC 9112) for Prometheus, container health checks and load balancers. Size, time and
number of requests are limited, so that a client of this port cannot slow the mail down.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Generic, TypeVar

import structlog
from prometheus_client import CONTENT_TYPE_LATEST

from relay.metrics import Metrics

T = TypeVar("T")

log = structlog.get_logger()

REQUEST_OCTETS = 8192  # of request line and header
REQUEST_SECONDS = 10.0  # for a whole exchange
CHECK_SECONDS = 3.0  # for one question to the rest of the relay; below the time-outs of common health checks
COUNT_KEPT = 10.0  # seconds for which a count of the queue is used again: counting reads the whole queue
CONNECTIONS = 32

_REQUEST_LINE = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.[01]\r\n")

Ready = Callable[[], Awaitable[str]]
QueueSizes = Callable[[], Awaitable[Mapping[str, int] | None]]


async def serve(
    sock: socket.socket,
    metrics: Metrics,
    ready: Ready,
    queue_sizes: QueueSizes | None = None,
    bad_lines: Callable[[], Mapping[str, int]] = dict,
) -> asyncio.Server:
    """Answer on a listening socket until the server that is returned is closed.

    Args:
        sock: each worker has its own for the same address; the worker that gets a request answers for all.
        ready: why this host should get no mail for now (starting, draining, a full disk); empty where it should.
        queue_sizes: the number of deliveries by their state; None while the queue does not answer.
        bad_lines: the number of lines of each table that cannot be used, by its path.
    """
    count = _Inquiry(queue_sizes, COUNT_KEPT) if queue_sizes is not None else None
    endpoint = _Endpoint(metrics, _Inquiry(ready), count, bad_lines)
    return await asyncio.start_server(endpoint.connected, sock=sock, limit=REQUEST_OCTETS)


@dataclass(frozen=True, slots=True)
class _Response:
    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    extra: str = ""

    def encode(self, *, with_body: bool) -> bytes:
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n"
            f"Cache-Control: no-store\r\n{self.extra}"
            f"Connection: close\r\n\r\n"
        )
        return head.encode("ascii") + (self.body if with_body else b"")


def _problem(status: HTTPStatus, extra: str = "") -> _Response:
    return _Response(status, f"{status.phrase}\n".encode(), extra=extra)


@dataclass(slots=True)
class _Inquiry(Generic[T]):
    """A question to the rest of the relay; requests that come at the same time share one answer.

    Attributes:
        kept: seconds for which the last answer is used again.
    """

    ask: Callable[[], Awaitable[T]]
    kept: float = 0.0
    _asking: asyncio.Task[T] | None = field(default=None, init=False)
    _fresh_until: float = field(default=0.0, init=False)

    async def answer(self) -> T:
        """The answer.

        Raises:
            TimeoutError: it takes too long; the question goes on, and the next request may get its answer.
        """
        if self._asking is None or (self._asking.done() and time.monotonic() >= self._fresh_until):
            self._asking = asyncio.create_task(self._ask(), name="inquiry")
        async with asyncio.timeout(CHECK_SECONDS):
            return await asyncio.shield(self._asking)

    async def _ask(self) -> T:
        try:
            return await self.ask()
        finally:
            self._fresh_until = time.monotonic() + self.kept


@dataclass(slots=True)
class _Endpoint:
    metrics: Metrics
    ready: _Inquiry[str]
    queue: _Inquiry[Mapping[str, int] | None] | None
    bad_lines: Callable[[], Mapping[str, int]]
    _exchanges: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._exchanges) >= CONNECTIONS:
            writer.transport.abort()
            return
        exchange = asyncio.create_task(self._converse(reader, writer))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                answer = await self._exchange(reader)
                if writer.is_closing():  # uvloop raises RuntimeError where the client has gone
                    return
                writer.write(answer)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            pass  # a client that went away or stalled gets no answer
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader) -> bytes:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE).encode(with_body=True)
        request_line = _REQUEST_LINE.match(request)
        if not request_line:
            return _problem(HTTPStatus.BAD_REQUEST).encode(with_body=True)
        method, path = request_line[1], request_line[2].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _problem(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD\r\n").encode(with_body=True)
        return (await self._answer(path)).encode(with_body=method == b"GET")

    async def _answer(self, path: bytes) -> _Response:
        if path == b"/healthz":
            return _Response(HTTPStatus.OK, b"ok\n")
        if path == b"/readyz":
            problem = await self._problem()
            if problem:
                return _Response(HTTPStatus.SERVICE_UNAVAILABLE, f"{problem}\n".encode())
            return _Response(HTTPStatus.OK, b"ready\n")
        if path == b"/metrics":
            text = self.metrics.render(await self._queue(), self.bad_lines())
            return _Response(HTTPStatus.OK, text, CONTENT_TYPE_LATEST)
        return _problem(HTTPStatus.NOT_FOUND)

    async def _problem(self) -> str:
        try:
            return await self.ready.answer()
        except TimeoutError:
            log.warning("readiness", problem="the check takes too long")
            return "the check takes too long"
        except Exception:
            log.exception("readiness")
            return "the check failed"

    async def _queue(self) -> Mapping[str, int] | None:
        """The sizes of the queue; None while it does not answer, since the other metrics are useful without them."""
        try:
            return await self.queue.answer() if self.queue is not None else None
        except TimeoutError:
            log.warning("metrics", problem="counting the queue takes too long")
        except Exception:
            log.exception("metrics")
        return None
