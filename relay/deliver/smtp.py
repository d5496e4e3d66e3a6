"""One connection to a next hop, from the TCP handshake to QUIT, over SMTP or LMTP; aiosmtplib stands behind this file.

aiosmtplib brings the reply parser, EHLO, STARTTLS and AUTH. Ours are the reading of several replies in one go
(PIPELINING, LMTP), a timeout for each phase, TLS names that differ from the address connected to, and DATA, which must
not be rewritten.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import ssl
from collections.abc import Sequence
from typing import cast

import aiosmtplib
import structlog
from aiosmtplib.protocol import SMTPProtocol

from relay.config import Delivery
from relay.deliver.mx import Hop, Host
from relay.deliver.reply import CLOSING, Outcome, Phase, Silence, classify, deferral, is_negative, silence
from relay.deliver.tls import Level, client_context, describe

QUIT_TIMEOUT = 5.0  # seconds; the mail is delivered by then, the server's goodbye is a courtesy
_UNREAD = (
    1 << 20
)  # octets of replies kept unread: a thousand pipelined RCPT at the 512 octets of RFC 5321 section 4.5.3.1.5
_READY = 220
_NOT_IMPLEMENTED = (500, 502)  # a server older than ESMTP (RFC 5321 section 4.1.4)

Reply = aiosmtplib.SMTPResponse

_log = structlog.get_logger(__name__)


class HostFailed(Exception):
    """This host is of no use for the transaction, another of the next hop may be.

    Attributes:
        outcome: the deferral, where there is no other host.
        phase: where it failed. A reused connection that fails at MAIL had only been closed meanwhile.
        settled: what is certain already, one for each recipient of the job; None for those another host may still take.
    """

    def __init__(self, phase: Phase, outcome: Outcome, settled: Sequence[Outcome | None] = ()) -> None:
        self.phase = phase
        self.outcome = outcome
        self.settled = settled
        super().__init__(outcome.text)


class NoReply(Exception):
    """The server went silent, away, or off the protocol."""

    def __init__(self, kind: Silence) -> None:
        self.kind = kind
        super().__init__(kind)


class _HandshakeFailed(HostFailed):
    """TLS did not come about; under `may` the same host is asked again in clear."""


class _Protocol(SMTPProtocol):
    """Keeps what arrives until it is read: PIPELINING and LMTP bring several replies at once."""

    was_connected = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.was_connected = True
        self._response_pending = False  # the greeting too waits in the buffer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        waiter = self._response_waiter
        if waiter is not None and self._response_pending and not waiter.done():
            try:
                response = self._read_response_from_buffer()
            except aiosmtplib.SMTPResponseException as error:
                self._set_response_exception(waiter, error)
            else:
                if response is not None:
                    waiter.set_result(response)
        if len(self._buffer) > _UNREAD:
            self.abort()

    async def read_response(self, timeout: float | None = None) -> Reply:
        return self._read_response_from_buffer() or await super().read_response(timeout)

    async def drain(self, timeout: float) -> None:
        """Wait, at most `timeout` seconds, until the server has taken enough of what was written."""
        if self._paused:
            async with asyncio.timeout(timeout):
                await self._drain_helper()

    def abort(self) -> None:
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).abort()

    @property
    def unread(self) -> bool:
        return bool(self._buffer)


class _Client(aiosmtplib.SMTP):
    """aiosmtplib's client on our protocol, connecting to an address under the name of a host."""

    AUTH_METHODS = ("plain", "login", "cram-md5")  # always inside TLS, where CRAM-MD5 only weakens the stored password

    def __init__(self, host: Host, hostname: str, delivery: Delivery, implicit_tls: ssl.SSLContext | None) -> None:
        super().__init__(hostname=host.name, local_hostname=hostname, timeout=delivery.helo_timeout, start_tls=False)
        self._host = host
        self._delivery = delivery
        self._implicit_tls = implicit_tls
        self.wire = _Protocol(asyncio.get_running_loop(), self._on_connection_lost)

    async def _create_connection(self, timeout: float | None) -> Reply:
        source = self._delivery.source_ipv6 if ":" in self._host.address else self._delivery.source_ipv4
        async with asyncio.timeout(self._delivery.connect_timeout):
            self.transport, self.protocol = await asyncio.get_running_loop().create_connection(
                lambda: self.wire,
                self._host.address,
                self._host.port,
                ssl=self._implicit_tls,
                server_hostname=self._host.name if self._implicit_tls else None,
                local_addr=(str(source), 0) if source else None,
            )
        return await self.wire.read_response(timeout)


class Connection:
    """A session after EHLO, TLS and AUTH, ready for MAIL.

    Attributes:
        host: where it leads.
        tls: protocol version and cipher; empty in clear.
        lmtp: whether the end of DATA brings one reply for each recipient (RFC 2033 section 4.2).
        used: transactions that were begun.
        in_transaction: whether the next one has to begin with RSET.
    """

    def __init__(self, client: _Client, host: Host, lmtp: bool) -> None:
        self.host = host
        self.lmtp = lmtp
        self.tls = ""
        self.used = 0
        self.in_transaction = False
        self._client = client
        self._wire = client.wire
        self._offers: dict[str, str] = {}

    @classmethod
    async def open(cls, host: Host, hop: Hop, hostname: str, delivery: Delivery) -> Connection:
        """Connect and go as far as MAIL. `hostname` is ours, for EHLO.

        Raises:
            HostFailed: no connection, a refusal before MAIL, or less TLS than `hop` asks for.
        """
        try:
            return await cls._open(host, hop, hop.tls, hostname, delivery)
        except _HandshakeFailed as failed:
            if hop.tls != "may":
                raise
            _log.info("tls handshake failed, going on in clear", host=host.name, problem=failed.outcome.text)
            return await cls._open(host, hop, "none", hostname, delivery)

    @classmethod
    async def _open(cls, host: Host, hop: Hop, level: Level, hostname: str, delivery: Delivery) -> Connection:
        scheme = hop.endpoint.scheme if hop.endpoint else "smtp"
        implicit = client_context(level == "verify") if scheme == "smtps" else None
        client = _Client(host, hostname, delivery, implicit)
        connection = cls(client, host, lmtp=scheme == "lmtp")
        try:
            await connection._greeting()
            await connection._hello(hostname)
            if implicit is None and level != "none":
                await connection._starttls(level, hostname)
            if hop.user:
                await connection._login(hop)
        except BaseException:
            connection.abort()
            raise
        connection._offers = dict(client.esmtp_extensions)
        return connection

    async def _greeting(self) -> None:
        try:
            greeting = await self._client.connect()
        except ssl.SSLError as error:
            raise self._failed("starttls", deferral("4.7.5", f"TLS handshake failed: {error}")) from error
        except (OSError, aiosmtplib.SMTPException) as error:
            if self._wire.was_connected:
                raise self._failed("greeting", silence("greeting", _kind(error))) from error
            number = getattr(error, "errno", None)
            raise self._failed(
                "connect", silence("connect", _kind(error), os.strerror(number) if number else "")
            ) from error
        if greeting.code != _READY:
            raise self._refused("greeting", greeting)
        self._note_tls()

    async def _hello(self, hostname: str) -> None:
        try:
            hello = await self._client.execute_command(b"LHLO" if self.lmtp else b"EHLO", hostname.encode())
            if hello.code == 250:
                self._client.last_ehlo_response = hello
                return
            if hello.code in _NOT_IMPLEMENTED and not self.lmtp:
                await self._client.helo()
                return
        except aiosmtplib.SMTPHeloError as error:
            raise self._refused("hello", Reply(error.code, error.message)) from error
        except (OSError, aiosmtplib.SMTPException) as error:
            raise self._failed("hello", silence("hello", _kind(error))) from error
        raise self._refused("hello", hello)

    async def _starttls(self, level: Level, hostname: str) -> None:
        if not self._client.supports_extension("starttls"):
            if level == "may":
                return
            raise self._failed("starttls", deferral("4.7.4", "TLS is required, but the server does not offer it"))
        try:
            await self._client.starttls(tls_context=client_context(level == "verify"))
        except aiosmtplib.SMTPResponseException as error:
            if level == "may" and is_negative(error.code) and error.code != CLOSING:
                return
            raise self._refused("starttls", Reply(error.code, error.message)) from error
        except (OSError, aiosmtplib.SMTPException) as error:
            outcome = deferral("4.7.5", f"TLS handshake failed: {str(error) or 'connection lost'}")
            raise _HandshakeFailed("starttls", self.stamp(outcome)) from error
        self._note_tls()
        await self._hello(hostname)

    async def _login(self, hop: Hop) -> None:
        if not self.tls:
            raise self._failed("auth", deferral("4.7.4", "credentials are sent inside TLS only"))
        try:
            await self._client.login(hop.user, hop.password)
        except aiosmtplib.SMTPResponseException as error:
            raise self._refused("auth", Reply(error.code, error.message)) from error
        except (OSError, aiosmtplib.SMTPServerDisconnected) as error:
            raise self._failed("auth", silence("auth", _kind(error))) from error
        except aiosmtplib.SMTPException as error:
            raise self._failed("auth", deferral("4.7.0", error.message)) from error

    def _note_tls(self) -> None:
        transport = self._wire.transport
        tls = transport.get_extra_info("ssl_object") if transport else None
        self.tls = describe(tls.cipher(), tls.version()) if tls else ""

    def _refused(self, phase: Phase, reply: Reply) -> HostFailed:
        if not is_negative(reply.code):
            return self._failed(phase, silence(phase, "garbage"))
        return self._failed(phase, classify(phase, reply.code, reply.message))

    def _failed(self, phase: Phase, outcome: Outcome) -> HostFailed:
        return HostFailed(phase, self.stamp(outcome))

    def stamp(self, outcome: Outcome) -> Outcome:
        """The outcome with the name and address of this server, and the TLS it was told in."""
        return dataclasses.replace(
            outcome, host=self.host.name, address=self.host.address, tls=self.tls, dsn=self.offers("dsn")
        )

    def offers(self, extension: str) -> bool:
        """Whether the EHLO reply names the extension (lower case)."""
        return extension in self._offers

    def size_limit(self) -> int:
        """The largest message the server takes, in octets; 0 where it names none (RFC 1870 section 4)."""
        size = self._offers.get("size", "")
        return int(size) if size.isdecimal() else 0

    @property
    def idle(self) -> bool:
        """Whether it is still open and nothing unasked for (like 421) has come over it."""
        return self._client.is_connected and not self._wire.unread

    async def exchange(self, commands: Sequence[bytes], replies: list[Reply], timeout: float) -> None:
        """Send the commands in one go and append their replies as they come; 421 ends the wait for the others.

        The caller pipelines only what the server lets him (RFC 2920). `timeout` is for each reply, in seconds.

        Raises:
            NoReply: too late, gone or garbage; the replies before that are in the list.
        """
        try:
            self._wire.write(b"".join(command + b"\r\n" for command in commands))
        except OSError as error:
            if not self._wire.unread:
                raise NoReply("lost") from error
        for _ in commands:
            replies.append(await self.reply(timeout))
            if replies[-1].code == CLOSING:
                return

    async def reply(self, timeout: float) -> Reply:
        """The next reply.

        Raises:
            NoReply: none within `timeout` seconds, the connection is gone, or what came is no SMTP.
        """
        try:
            reply = await self._wire.read_response(timeout)
        except (OSError, aiosmtplib.SMTPException) as error:
            raise NoReply(_kind(error)) from error
        if not 200 <= reply.code <= 599:
            raise NoReply("garbage")
        return reply

    async def write(self, block: bytes, timeout: float) -> None:
        """Send a block of DATA; waits while the server is slower than we are, at most `timeout` seconds.

        Raises:
            NoReply: the server takes nothing more. A reply that it left is still to be read.
        """
        try:
            self._wire.write(block)
            await self._wire.drain(timeout)
        except OSError as error:
            raise NoReply(_kind(error)) from error

    async def quit(self) -> None:
        """Say QUIT, wait a moment for the answer, close."""
        with contextlib.suppress(OSError, aiosmtplib.SMTPException):
            await self._client.quit(timeout=QUIT_TIMEOUT)
        self.abort()

    def abort(self) -> None:
        """Drop the connection at once, unsent octets included."""
        self._wire.abort()
        self._client.close()


def _kind(error: Exception) -> Silence:
    if isinstance(error, TimeoutError):
        return "timeout"
    return "lost" if isinstance(error, OSError) else "garbage"
