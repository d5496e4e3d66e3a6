"""Servers in the place of rspamd and clamd that answer as a test says, also as no real one would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Script = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Request:
    """What a client sent: the first line, the headers in their order, and the body."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for one, value in self.headers if one.lower() == name.lower()]


@dataclass
class Answering:
    """A server; `requests` are those that came whole.

    Attributes:
        connections: how many were opened.
        closed: how many of them have ended.
    """

    url: str = ""
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    closed: int = 0


@asynccontextmanager
async def rspamd(script: Script) -> AsyncIterator[Answering]:
    """A server of HTTP that reads a request and then does what the script says."""
    server = Answering()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
            length = int(next((value for name, value in headers if name.lower() == "content-length"), "0"))
            request = Request(head[0], headers, await reader.readexactly(length))
            server.requests.append(request)
            await _until_closed(script(request, writer), reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            server.closed += 1
            writer.close()

    async with _listening(serve, server):
        server.url = f"http://127.0.0.1:{server.port}"
        yield server


async def _until_closed(script: Awaitable[None], reader: asyncio.StreamReader) -> None:
    """Runs a script until the client closes the connection."""
    running, closing = asyncio.ensure_future(script), asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait((running, closing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        running.cancel()
        closing.cancel()
        await asyncio.gather(running, closing, return_exceptions=True)


@asynccontextmanager
async def clamd(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Answering]:
    """A server that does what the script says from the first octet on."""
    server = Answering()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            server.closed += 1
            writer.close()

    async with _listening(run, server):
        server.url = f"127.0.0.1:{server.port}"
        yield server


@asynccontextmanager
async def _listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], server: Answering
) -> AsyncIterator[None]:
    tasks: set[asyncio.Task[None]] = set()

    async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(asyncio.CancelledError):  # a script that waits when the test is over
                await serve(reader, writer)
        finally:
            tasks.discard(task)

    listening = await asyncio.start_server(tracked, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        listening.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def says(action: str = "no action", score: float = 0.0, **more: Any) -> Script:
    """The answer of an rspamd."""
    answer = {"is_skipped": False, "score": score, "required_score": 15.0, "action": action, "symbols": {}, **more}
    return sends(http(json.dumps(answer).encode()))


def http(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status.encode(), len(body), body)


def sends(octets: bytes) -> Script:
    async def script(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(octets)
        await writer.drain()

    return script


async def is_silent(_: Request, writer: asyncio.StreamWriter) -> None:
    """Reads a request, and says nothing."""
    await asyncio.sleep(60)


async def dribbles(_: Request, writer: asyncio.StreamWriter) -> None:
    """An octet now and then, without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def floods(_: Request, writer: asyncio.StreamWriter) -> None:
    """An answer without an end, as fast as it is taken."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()
