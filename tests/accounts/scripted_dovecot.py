"""A server on a Unix socket that says what a test writes for it, in place of Dovecot's authentication process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from relay.accounts.dovecot import DovecotAuthenticator
from relay.mail.envelope import Client
from tests.peers import wait_for

PATIENCE = 20.0
GREETING = (
    "VERSION\t1\t2",
    "MECH\tPLAIN\tplaintext",
    "MECH\tLOGIN\tplaintext",
    "MECH\tXOAUTH2\tactive\tdictionary\tplaintext",
    "MECH\tSCRAM-SHA-256\tmutual-auth",
    "SPID\t4711",
    "CUID\t1",
    "COOKIE\t0123456789abcdef0123456789abcdef",
    "DONE",
)
CLIENT = Client("192.0.2.7", 40123, tls="TLSv1.3 TLS_AES_256_GCM_SHA384", local="192.0.2.1", local_port=587)


class Talk:
    """One connection of the relay, seen from Dovecot's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def line(self) -> str:
        """The next line of the relay; empty at the end."""
        async with asyncio.timeout(PATIENCE):
            return (await self._reader.readline()).decode().removesuffix("\n")

    async def greet(self, lines: Iterable[str] = GREETING) -> None:
        assert await self.line() == "VERSION\t1\t2"
        assert (await self.line()).startswith("CPID\t")
        self.say(*lines)

    def say(self, *lines: str) -> None:
        self.send("".join(f"{line}\n" for line in lines).encode())

    def send(self, octets: bytes) -> None:
        if not self._writer.is_closing():  # uvloop raises RuntimeError where the relay has hung up
            self._writer.write(octets)

    def hang_up(self) -> None:
        self._writer.close()

    @property
    def stream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return self._reader, self._writer


class ScriptedDovecot:
    """The socket, and the connections that came."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections = 0
        self._came: asyncio.Queue[Talk] = asyncio.Queue()
        self._talks: list[Talk] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self.path)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        talk = Talk(reader, writer)
        self._talks.append(talk)
        self._came.put_nowait(talk)

    async def next(self) -> Talk:
        """The next connection of the relay."""
        async with asyncio.timeout(PATIENCE):
            return await self._came.get()

    async def greeted(self) -> Talk:
        """The next connection, after an ordinary handshake."""
        talk = await self.next()
        await talk.greet()
        return talk

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self.path.unlink(missing_ok=True)
        for talk in self._talks:
            talk.stream[1].transport.abort()


@contextlib.asynccontextmanager
async def running(path: Path, *, quiet: bool = False) -> AsyncIterator[DovecotAuthenticator]:
    """An authenticator that keeps its connection, as in a worker."""
    authenticator = DovecotAuthenticator(path, quiet=quiet)
    task = asyncio.create_task(authenticator.run())
    try:
        yield authenticator
    finally:
        task.cancel()
        await asyncio.wait([task])


async def ready(authenticator: DovecotAuthenticator) -> None:
    await wait_for(authenticator.mechanisms, "a handshake")
