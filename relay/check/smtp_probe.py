"""Asks SMTP servers whether they greet, and whether they would take mail for an address. Nothing is ever sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Literal

from relay.config.file import NO_NAME
from relay.config.model import Config
from relay.deliver.classify import Phase, classify, is_negative, silence
from relay.deliver.client_tls import client_context
from relay.deliver.mx import Host
from relay.deliver.next_hop import NextHop
from relay.deliver.reply_parser import NoReply, ServerReply
from relay.deliver.smtp_connection import QUIT_TIMEOUT, Connection, HostFailed
from relay.deliver.smtp_opening import open_connection
from relay.mail.reply import printable
from relay.sending_addresses import kernel_choice

CONNECT_SECONDS = 10.0
REPLY_SECONDS = 30.0  # a Postfix that verifies a recipient answers within ten (`address_verify_poll_count`)
_ADDRESS = re.compile(r"<?[^\s<>]+@[^\s<>:;,]+>?")
_LINE_OCTETS = 4096  # of a greeting; RFC 5321 section 4.5.3.1.5 allows 512


class Unreachable(Exception):
    """The host could not be asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a host says of a recipient.

    Attributes:
        command: what it answers; a host may refuse the null sender, and is not asked about the recipient then.
        code: the reply code.
        detail: subject and detail of the enhanced status code (RFC 3463), the usual ones where the host gives none.
        text: the reply in one line.
    """

    command: Literal["MAIL", "RCPT"]
    code: int
    detail: str
    text: str

    @property
    def accepted(self) -> bool:
        return 200 <= self.code <= 299

    @property
    def words(self) -> str:
        """The text without the code, and without the addresses that were asked about."""
        return _ADDRESS.sub("", self.text.partition(" ")[2])

    @property
    def final(self) -> bool:
        """Whether it is a refusal for good."""
        return self.code >= 500

    def __str__(self) -> str:
        return self.text


class RecipientProbe:
    """A connection to one host, to ask it about recipients of bounces."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._first = True

    async def ask(self, recipient: str) -> Reply:
        """The reply to a recipient of mail from the null sender.

        Raises:
            Unreachable: the host gives no reply.
        """
        try:
            if not self._first:
                await self._command("RSET")
            self._first = False
            reply = await self._command("MAIL FROM:<>")
            if is_negative(reply.code):
                return _read("MAIL", reply)
            return _read("RCPT", await self._command(f"RCPT TO:<{recipient}>"))
        except NoReply as problem:
            raise Unreachable(silence("rcpt", problem.kind).text) from problem

    async def _command(self, line: str) -> ServerReply:
        self._connection.send(line.encode())
        return await self._connection.reply(REPLY_SECONDS)


@contextlib.asynccontextmanager
async def recipient_probe(host: Host, config: Config) -> AsyncIterator[RecipientProbe]:
    """A session with a host, from the address that our mail leaves from.

    Raises:
        Unreachable: it takes no connection, or refuses it before MAIL.
    """
    delivery = config.delivery.model_copy(update={"connect_timeout": CONNECT_SECONDS})
    hop = NextHop(domain=host.name, tls="none" if delivery.tls == "none" else "may")
    leaving = replace(config.destinations.leaving, helo=_own_name(host, config))
    try:
        connection = await open_connection(host, hop, leaving, delivery, patience=REPLY_SECONDS)
    except HostFailed as failed:
        outcome = failed.outcome
        raise Unreachable(f"{outcome.code} {outcome.text}" if outcome.remote else outcome.text) from failed
    try:
        yield RecipientProbe(connection)
    except BaseException:
        connection.abort()
        raise
    await connection.quit()


def _own_name(host: Host, config: Config) -> str:
    """The name for EHLO: with tables alone it may be unknown, and then it is our address (RFC 5321 section 4.1.4)."""
    if config.hostname != NO_NAME:
        return config.hostname
    own = kernel_choice(host.address)
    return config.hostname if own is None else f"[IPv6:{own}]" if ":" in own else f"[{own}]"


async def greeting(host: Host, source: str, *, implicit_tls: bool = False) -> str:
    """The first line that a server says to a source address; where that is empty, the kernel chooses it.

    Any line of SMTP will do, a refusal too: it shows that the way to the server is open.

    Raises:
        Unreachable: no connection, or nothing that SMTP begins with.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                host.address,
                host.port,
                limit=_LINE_OCTETS,
                ssl=client_context(verify=False) if implicit_tls else None,
                local_addr=(source, 0) if source else None,
            )
    except TimeoutError as error:
        raise Unreachable("connection timed out") from error
    except OSError as error:  # ssl.SSLError is one
        raise Unreachable(_words(error)) from error
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            first = line = await reader.readline()
            while line[:3].isdigit() and line[3:4] == b"-":
                line = await reader.readline()
        if not line[:3].isdigit():
            raise Unreachable("what answers there is no mail server")
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            async with asyncio.timeout(QUIT_TIMEOUT):
                writer.write(b"QUIT\r\n")
                await reader.readline()  # so that the server sees an end in order
    except (TimeoutError, OSError, ValueError) as error:
        raise Unreachable("no greeting") from error
    finally:
        writer.transport.abort()
    return printable(first.decode(errors="replace").strip())


def _read(command: Literal["MAIL", "RCPT"], reply: ServerReply) -> Reply:
    phase: Phase = "mail" if command == "MAIL" else "rcpt"
    detail = classify(phase, reply.code, reply.message).enhanced.partition(".")[2]
    return Reply(command, reply.code, detail, printable(f"{reply.code} {' '.join(reply.message.split())}"))


def _words(error: OSError) -> str:
    """What the system says of a connection that failed, without the address and Python's words around it."""
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake failed: {error.reason or error}"
    return os.strerror(error.errno) if error.errno else str(error)
