"""Asks clamd whether there is a virus in a message: the command INSTREAM of clamd(8), through its socket.

The message goes over in chunks behind their lengths, and clamd answers with one line that ends with NUL.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from relay.config.values import Service
from relay.content_filter.scanned import NoOpinion, Unreachable
from relay.content_filter.service import CONNECT_SECONDS, addresses
from relay.dns import Resolver

ANSWER_OCTETS = 4096

_BLOCK = 65536  # octets of a message in one chunk

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TooLarge(NoOpinion):
    """The message is larger than clamd reads (StreamMaxLength of clamd.conf)."""


class Clamd:
    """One clamd."""

    def __init__(self, service: Service, resolver: Resolver) -> None:
        self._service = service
        self._resolver = resolver

    async def find_virus(self, content: bytes) -> str:
        """The name of the virus in a message; empty where there is none. The caller has the time limit.

        Raises:
            NoOpinion: clamd is away, or gives no answer that makes sense.
            TooLarge: it does not read messages of this size.
        """
        async with self._connection() as (reader, writer):
            answer = asyncio.create_task(_answer(reader))
            try:
                with suppress(ConnectionError):  # a clamd that has read enough answers, and closes
                    await _send(writer, content, answer)
                line = await answer
            finally:
                answer.cancel()
        return read_answer(line)

    async def ping(self) -> None:
        """Raises NoOpinion: it does not answer."""
        async with self._connection() as (reader, writer):
            writer.write(b"zPING\0")
            if await _answer(reader) != b"PONG":
                raise NoOpinion("the answer to PING is not PONG")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Streams]:
        reader, writer = await self._connect()
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _connect(self) -> _Streams:
        service = self._service
        failure = NoOpinion("no address")
        for address in [service.path] if service.path else await addresses(service, self._resolver):
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    if service.path:
                        return await asyncio.open_unix_connection(address, limit=ANSWER_OCTETS)
                    return await asyncio.open_connection(address, service.port, limit=ANSWER_OCTETS)
            except TimeoutError:
                failure = Unreachable(f"no connection within {CONNECT_SECONDS:g} s")
            except OSError as error:
                failure = NoOpinion(os.strerror(error.errno) if error.errno else str(error))
        raise failure


def read_answer(line: bytes) -> str:
    """The name of the virus in an answer without its NUL; empty where it says that there is none.

    Raises:
        NoOpinion, TooLarge: it says neither.
    """
    text = line.decode("utf-8", "replace").strip()
    if text == "stream: OK":
        return ""
    if text.startswith("stream: ") and text.endswith(" FOUND"):
        return text.removeprefix("stream: ").removesuffix(" FOUND").strip() or "unknown"
    if "size limit exceeded" in text:
        raise TooLarge("the message is larger than StreamMaxLength of clamd.conf")
    raise NoOpinion(f"the answer is {text[:200]!r}")


async def _send(writer: asyncio.StreamWriter, content: bytes, answer: asyncio.Task[bytes]) -> None:
    writer.write(b"zINSTREAM\0")
    view = memoryview(content)
    for start in range(0, len(view), _BLOCK):
        block = view[start : start + _BLOCK]
        writer.write(len(block).to_bytes(4, "big"))
        writer.write(block)
        await writer.drain()
        if answer.done():
            return
    writer.write(bytes(4))
    await writer.drain()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    try:
        return (await reader.readuntil(b"\0"))[:-1]
    except asyncio.IncompleteReadError as error:
        if error.partial.endswith(b"\n"):
            return error.partial  # an error before the command was understood
        raise NoOpinion("the connection ended without an answer") from None
    except asyncio.LimitOverrunError:
        raise NoOpinion(f"the answer has more than {ANSWER_OCTETS} octets") from None
    except OSError as error:
        raise NoOpinion(f"the connection was lost: {error.strerror or error}") from None
