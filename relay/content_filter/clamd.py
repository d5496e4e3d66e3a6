"""Asks clamd whether there is a virus in a message: the command INSTREAM of clamd(8), through its socket.

The message goes over in chunks behind their lengths, and clamd answers with one line that ends with NUL.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from relay.config.values import Service
from relay.content_filter.scanned import NoOpinion, Unreachable
from relay.content_filter.service import CONNECT_SECONDS, addresses
from relay.dns import Resolver

ANSWER_OCTETS = 4096

_BLOCK = 65536  # octets of a message in one chunk
_END = bytes(4)  # a chunk without octets


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
        async with self._connection() as connection:
            answer = asyncio.create_task(_answer(connection))
            try:
                with suppress(ConnectionError):  # a clamd that has read enough answers, and closes
                    await _send(connection, content, answer)
                line = await answer
            finally:
                answer.cancel()
                await asyncio.gather(answer, return_exceptions=True)  # nothing reads a socket that is closed
        return read_answer(line)

    async def ping(self) -> None:
        """Raises NoOpinion: it does not answer."""
        async with self._connection() as connection:
            await asyncio.get_running_loop().sock_sendall(connection, b"zPING\0")
            if await _answer(connection) != b"PONG":
                raise NoOpinion("the answer to PING is not PONG")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[socket.socket]:
        """A connection as a socket, and not as streams: those lose an answer that stands behind a failed write."""
        connection = await self._connect()
        try:
            yield connection
        finally:
            connection.close()

    async def _connect(self) -> socket.socket:
        service = self._service
        failure = NoOpinion("no address")
        for address in [service.path] if service.path else await addresses(service, self._resolver):
            family = socket.AF_UNIX if service.path else socket.AF_INET6 if ":" in address else socket.AF_INET
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    place = address if service.path else (address, service.port)
                    await asyncio.get_running_loop().sock_connect(connection, place)
                    return connection
            except TimeoutError:
                failure = Unreachable(f"no connection within {CONNECT_SECONDS:g} s")
            except OSError as error:
                failure = NoOpinion(os.strerror(error.errno) if error.errno else str(error))
            except BaseException:
                connection.close()
                raise
            connection.close()
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


async def _send(connection: socket.socket, content: bytes, answer: asyncio.Task[bytes]) -> None:
    """Send the message as far as clamd reads it; a small one in one piece, with the command and the end."""
    loop, command = asyncio.get_running_loop(), b"zINSTREAM\0"
    for start in range(0, len(content), _BLOCK):
        block = content[start : start + _BLOCK]
        end = _END if start + _BLOCK >= len(content) else b""
        await loop.sock_sendall(connection, b"".join((command, len(block).to_bytes(4, "big"), block, end)))
        if answer.done():
            return
        command = b""
    if not content:
        await loop.sock_sendall(connection, command + _END)


async def _answer(connection: socket.socket) -> bytes:
    loop, answer = asyncio.get_running_loop(), bytearray()
    while len(answer) <= ANSWER_OCTETS:
        try:
            piece = await loop.sock_recv(connection, ANSWER_OCTETS)
        except OSError as error:
            raise NoOpinion(f"the connection was lost: {error.strerror or error}") from None
        answer += piece
        line, end, _ = answer.partition(b"\0")
        if end:
            return bytes(line)
        if not piece:
            if answer.endswith(b"\n"):
                return bytes(answer)  # an error before the command was understood
            raise NoOpinion("the connection ended without an answer")
    raise NoOpinion(f"the answer has more than {ANSWER_OCTETS} octets")
