"""A next hop that follows a script: an SMTP or LMTP server on loopback that answers, hangs up or stalls as it is told.

`play` says what happens in a phase; a phase that is not named goes as it would at a real server. What the client did is
kept, a session at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias, cast

from tests.peers import free_port

ESMTP = ("PIPELINING", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES", "SMTPUTF8")


class Act(Enum):
    """What can happen instead of a reply."""

    FINE = "goes well"
    HANG_UP = "closes the connection"
    STALL = "says nothing more"
    DEAF = "neither says nor reads anything more"


FINE, HANG_UP, STALL, DEAF = Act

Play: TypeAlias = "str | Act | tuple[str, Act]"
"""A reply without its final CRLF, an act, or both."""

Part: TypeAlias = "Play | Sequence[Play] | Callable[[str], Play]"
"""The same each time; a list: one after the other, the last one from then on; or by the command line."""

_FINE = {
    "greeting": "220 scripted.test ESMTP",
    "HELO": "250 scripted.test",
    "STARTTLS": "220 2.0.0 go on",
    "AUTH": "235 2.7.0 you are",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 go on",
    "body": "",
    "dot": "250 2.0.0 taken",
    "RSET": "250 2.0.0 Ok",
    "QUIT": "221 2.0.0 bye",
}
_OUT_OF_ORDER = "503 5.5.1 not now"


class _Over(Exception):
    """The script has ended the session."""


@dataclass
class Session:
    """One connection, as the server saw it.

    Attributes:
        commands: the lines that came, AUTH's answers included, the content not.
        contents: each content as it crossed the wire, with its stuffing and without the final dot.
        pipelined: whether a command came before the reply to the one before it.
        encrypted: whether TLS was on when the last command came.
        over: set when the connection is closed.
    """

    client: str
    commands: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    pipelined: bool = False
    encrypted: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def verbs(self) -> list[str]:
        return [re.split(r"[ :]", line, maxsplit=1)[0] for line in self.commands]


class ScriptedServer:
    """Serves between `async with server(...)`; `port` is its port then.

    Args:
        offers: the EHLO keywords.
        tls: for STARTTLS, or with `implicit` from the first octet.
        body_octets: of the content that are read before the part `body` is played.
        script, play: the parts that do not go well: greeting, the commands in capitals, body, dot.
    """

    def __init__(
        self,
        *,
        offers: Sequence[str] = ESMTP,
        lmtp: bool = False,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        body_octets: int = 1,
        script: Mapping[str, Part] | None = None,
        **play: Part,
    ) -> None:
        self.offers = tuple(offers)
        self.sessions: list[Session] = []
        self.port = 0
        self.open = 0
        self.most_open = 0
        self._answering = asyncio.Event()
        self._answering.set()
        self._lmtp = lmtp
        self._tls = tls
        self._implicit = implicit
        self._body_octets = body_octets
        self._play = {**(script or {}), **play}
        self._played: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def hold(self) -> None:
        """Answer no final dot until `release`."""
        self._answering.clear()

    def release(self) -> None:
        self._answering.set()

    @contextlib.asynccontextmanager
    async def __call__(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[ScriptedServer]:
        self.port = port or free_port()  # another server of the test may listen there, at another address
        server = await asyncio.start_server(self._serve, host, self.port, ssl=self._tls if self._implicit else None)
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def contents(self) -> list[bytes]:
        """Every content taken, without its stuffing."""
        return [re.sub(rb"(?:\A|(?<=\r\n))\.", b"", raw) for session in self.sessions for raw in session.contents]

    @property
    def commands(self) -> list[str]:
        return [line for session in self.sessions for line in session.commands]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session = Session(writer.get_extra_info("peername")[0])
        self.sessions.append(session)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await _Conversation(self, session, reader, writer).run()
        except (_Over, OSError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            session.over.set()
            writer.transport.abort()
            self._tasks.discard(task)

    def part(self, name: str, line: str = "", *, in_order: bool = True) -> Play:
        """What comes next in a phase."""
        part = self._play.get(name, FINE)
        if isinstance(part, list):
            number = self._played.get(name, 0)
            self._played[name] = number + 1
            part = part[min(number, len(part) - 1)]
        play = cast(Play, part(line) if callable(part) else part)
        if play is not FINE:
            return play
        if name in ("EHLO", "LHLO"):
            return self.hello()
        return _FINE[name] if in_order else _OUT_OF_ORDER

    def hello(self) -> str:
        lines = ["scripted.test", *self.offers, *(["STARTTLS"] if self._tls and not self._implicit else [])]
        return "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])


class _Conversation:
    def __init__(
        self, server: ScriptedServer, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._session = session
        self._reader = reader
        self._writer = writer
        self._read = b""
        self._in_transaction = False
        self._accepted = 0

    async def run(self) -> None:
        await self._act(self._server.part("greeting"))
        while True:
            line = await self._line()
            verb = re.split(r"[ :]", line.upper(), maxsplit=1)[0]
            in_order = {"MAIL": not self._in_transaction, "RCPT": self._in_transaction, "DATA": self._accepted > 0}
            said = await self._act(self._server.part(verb, line, in_order=in_order.get(verb, True)))
            if verb == "RSET" or (verb == "MAIL" and said.startswith("2")):
                self._in_transaction, self._accepted = verb == "MAIL", 0
            if verb == "QUIT":
                raise _Over
            if verb == "STARTTLS" and said.startswith("220"):
                await self._handshake()
            elif verb == "AUTH":
                while said.startswith("334"):
                    said = await self._act(self._server.part(verb, await self._line()))
            elif verb == "RCPT" and said.startswith("2"):
                self._accepted += 1
            elif verb == "DATA" and said.startswith("3"):
                await self._content()

    async def _line(self) -> str:
        while b"\n" not in self._read:
            await self._more()
        line, _, self._read = self._read.partition(b"\n")
        self._session.pipelined |= bool(self._read)
        self._session.encrypted = self._writer.get_extra_info("ssl_object") is not None
        self._session.commands.append(line.decode().removesuffix("\r"))
        return self._session.commands[-1]

    async def _more(self) -> None:
        octets = await self._reader.read(65536)
        if not octets:
            raise _Over
        self._read += octets

    async def _content(self) -> None:
        parts = [b"\r\n", self._read]  # the line end before the content is the one of DATA
        octets, tail = len(self._read), b"\r\n" + self._read
        self._read = b""
        played = False
        while b"\r\n.\r\n" not in tail:
            if not played and octets >= self._server._body_octets:
                played = True
                await self._act(self._server.part("body"))
            await self._more()
            parts.append(self._read)
            octets += len(self._read)
            tail = tail[-4:] + self._read
            self._read = b""
        content, _, self._read = b"".join(parts).partition(b"\r\n.\r\n")
        self._session.contents.append((content + b"\r\n")[2:])
        await self._server._answering.wait()
        for _ in range(self._accepted if self._server._lmtp else 1):
            await self._act(self._server.part("dot"))
        self._in_transaction, self._accepted = False, 0

    async def _handshake(self) -> None:
        if self._server._tls is None:
            raise _Over
        await self._writer.start_tls(self._server._tls)
        self._read = b""

    async def _act(self, play: Play) -> str:
        said, act = play if isinstance(play, tuple) else ("", play) if isinstance(play, Act) else (play, FINE)
        if said:
            self._writer.write(said.encode() + b"\r\n")
            await self._writer.drain()
        if act is HANG_UP:
            self._writer.close()
            await self._writer.wait_closed()
            raise _Over
        while act is STALL:
            self._read = b""
            await self._more()
        if act is DEAF:
            await asyncio.Event().wait()
        return said
