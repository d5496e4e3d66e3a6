"""One connection to a next hop, from the TCP handshake to QUIT, over SMTP or LMTP.

aiosmtplib stands behind this file and `wire.py`. Ours are a timeout and an outcome for each phase, a server's name that
differs from the address connected to, and LMTP.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
import re
import ssl
from collections.abc import Sequence

import aiosmtplib
import structlog
from aiosmtplib.auth import auth_login_encode, auth_plain_encode
from aiosmtplib.esmtp import parse_esmtp_extensions

from relay.config.sections import DeliverySection
from relay.deliver.classify import CLOSING, Phase, classify, is_negative, silence
from relay.deliver.client_tls import Level, client_context
from relay.deliver.deadline import Bound
from relay.deliver.mx import Hop, Host
from relay.deliver.reply_parser import ClientProtocol, NoReply, ServerReply
from relay.mail.outcome import Outcome, deferral
from relay.mail.reply import printable
from relay.tls import describe

QUIT_TIMEOUT = 5.0  # seconds; the mail is delivered by then, the server's goodbye is a courtesy

_READY = 220
_COMPLETED = 250
_AUTHENTICATED = 235
_CONTINUE = 334
_NO_MAIL_HERE = (521, 554)  # a 5xx to EHLO that HELO would not change (RFC 7504 section 4, RFC 5321 section 3.1)
_SIZE = re.compile(r"[0-9]{1,20}")  # RFC 1870 section 3

log = structlog.get_logger()


class HostFailed(Exception):
    """This host is of no use for the transaction, another of the next hop may be.

    Attributes:
        outcome: the deferral, where there is no other host.
        settled: what is certain already, one for each recipient of the job; None for those another host may still take.
    """

    def __init__(self, outcome: Outcome, settled: Sequence[Outcome | None] = ()) -> None:
        self.outcome = outcome
        self.settled = settled
        super().__init__(outcome.text)


class _HandshakeFailed(HostFailed):
    """TLS did not come about; under `may` the same host is asked again in clear."""


class Connection:
    """A session after EHLO, TLS and AUTH, ready for MAIL.

    Attributes:
        host: where it leads.
        tls: protocol version and cipher; empty in clear.
        fallback: why the connection is in clear although the server offers TLS and we wanted it; empty otherwise.
        lmtp: whether the end of DATA brings one reply for each recipient (RFC 2033 section 4.2).
        used: transactions that were begun.
        in_transaction: whether the next one has to begin with RSET.
    """

    def __init__(self, host: Host, *, lmtp: bool, fallback: str = "") -> None:
        self.host = host
        self.tls = ""
        self.fallback = fallback
        self.lmtp = lmtp
        self.used = 0
        self.in_transaction = False
        self._phase: Phase = "connect"  # what is waited for
        self._wire = ClientProtocol()
        self._offers: dict[str, str] = {}
        self._auth_methods: list[str] = []

    @classmethod
    async def open(
        cls,
        host: Host,
        hop: Hop,
        hostname: str,
        delivery: DeliverySection,
        *,
        for_id: str = "",
        bound: Bound | None = None,
        patience: float = math.inf,
    ) -> Connection:
        """Connect and go as far as MAIL.

        Args:
            hostname: ours, for EHLO.
            for_id: the message's, for the log.
            bound: what the attempt may be given up by.
            patience: seconds for each reply, where that is less than `delivery.helo_timeout`.

        Raises:
            HostFailed: no connection, a refusal before MAIL, less TLS than `hop` asks for, or the attempt was given up.
        """
        patience = min(delivery.helo_timeout, patience)
        bound = bound or Bound()
        try:
            connection = await cls._open(host, hop, hop.tls, hostname, delivery, bound, patience)
        except _HandshakeFailed as failed:
            if hop.tls != "may":
                raise
            _log_fallback(for_id, host, failed.outcome.text)
            return await cls._open(host, hop, "none", hostname, delivery, bound, patience, failed.outcome.text)
        if connection.fallback:
            _log_fallback(for_id, host, connection.fallback)
        return connection

    @classmethod
    async def _open(
        cls,
        host: Host,
        hop: Hop,
        level: Level,
        hostname: str,
        delivery: DeliverySection,
        bound: Bound,
        patience: float,
        fallback: str = "",
    ) -> Connection:
        scheme = hop.endpoint.scheme if hop.endpoint else "smtp"
        connection = cls(host, lmtp=scheme == "lmtp", fallback=fallback)
        try:
            await connection._connect(client_context(level == "verify") if scheme == "smtps" else None, delivery)
            await connection._greeting(patience)
            await connection._hello(hostname, patience)
            if scheme != "smtps" and await connection._starttls(level, patience):
                await connection._hello(hostname, patience)
            if hop.user:
                await connection._login(hop.user, hop.password, patience)
        except asyncio.CancelledError as cancelled:
            connection.abort()
            if bound.over:
                raise connection._failed(silence(connection._phase, "timeout")) from cancelled
            raise
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _connect(self, tls: ssl.SSLContext | None, delivery: DeliverySection) -> None:
        source = delivery.source_ipv6 if ":" in self.host.address else delivery.source_ipv4
        try:
            async with asyncio.timeout(delivery.connect_timeout):
                await asyncio.get_running_loop().create_connection(
                    lambda: self._wire,
                    self.host.address,
                    self.host.port,
                    ssl=tls,
                    server_hostname=self.host.name if tls else None,
                    local_addr=(str(source), 0) if source else None,
                )
        except ssl.SSLError as error:
            raise self._failed(deferral("4.7.5", f"TLS handshake failed: {error}")) from error
        except TimeoutError as error:
            raise self._failed(silence("connect", "timeout")) from error
        except OSError as error:
            detail = os.strerror(error.errno) if error.errno else ""
            raise self._failed(silence("connect", "lost", detail)) from error
        self._note_tls()

    async def _greeting(self, patience: float) -> None:
        self._phase = "greeting"
        try:
            greeting = await self.reply(patience)
        except NoReply as problem:
            raise self._failed(silence("greeting", problem.kind)) from problem
        if greeting.code != _READY:
            raise self._refused("greeting", greeting)

    async def _hello(self, hostname: str, patience: float) -> None:
        reply = await self._command("hello", f"{'LHLO' if self.lmtp else 'EHLO'} {hostname}", patience)
        if reply.code == _COMPLETED:
            self._offers, self._auth_methods = parse_esmtp_extensions(reply.message)
            return
        if 500 <= reply.code <= 599 and reply.code not in _NO_MAIL_HERE and not self.lmtp:
            # Whatever it dislikes about EHLO, HELO may do (RFC 5321 sections 3.2 and 4.1.4).
            try:
                reply = await self._command("hello", f"HELO {hostname}", patience)
            except HostFailed as failed:  # it has said why, and left
                raise self._refused("hello", reply) from failed
        if reply.code != _COMPLETED:
            raise self._refused("hello", reply)
        self._offers, self._auth_methods = {}, []

    async def _starttls(self, level: Level, patience: float) -> bool:
        """Whether the connection is encrypted now; False where `level` does not ask for it."""
        if level == "none" or (level == "may" and not self.offers("starttls")):
            return False
        if not self.offers("starttls"):
            raise self._failed(deferral("4.7.4", "TLS is required, but the server does not offer it"))
        self._phase = "starttls"
        try:
            await self._wire.start_tls(client_context(level == "verify"), self.host.name, patience)
        except aiosmtplib.SMTPResponseException as error:
            if not is_negative(error.code):
                raise _HandshakeFailed(self.stamp(silence("starttls", "garbage"))) from error
            if level == "may" and error.code != CLOSING:
                self.fallback = f"STARTTLS was refused: {error.code} {printable(' '.join(error.message.split()))}"
                return False
            raise self._refused("starttls", ServerReply(error.code, error.message)) from error
        except NoReply as problem:
            raise _HandshakeFailed(self.stamp(silence("starttls", problem.kind))) from problem
        except OSError as error:
            raise _HandshakeFailed(self.stamp(deferral("4.7.5", f"TLS handshake failed: {error}"))) from error
        self._note_tls()
        return True

    async def _login(self, user: str, password: str, patience: float) -> None:
        """AUTH PLAIN (RFC 4616) or LOGIN; both show the password to the server, so TLS comes first."""
        if not self.tls:
            raise self._failed(deferral("4.7.4", "credentials are sent inside TLS only"))
        if "plain" in self._auth_methods:
            lines = ["AUTH PLAIN " + auth_plain_encode(user, password).decode()]
        elif "login" in self._auth_methods:
            lines = ["AUTH LOGIN", *(part.decode() for part in auth_login_encode(user, password))]
        else:
            raise self._failed(deferral("4.7.0", "the server offers neither AUTH PLAIN nor LOGIN"))
        for line in lines:
            reply = await self._command("auth", line, patience)
            if reply.code != (_AUTHENTICATED if line is lines[-1] else _CONTINUE):
                raise self._refused("auth", reply)

    async def _command(self, phase: Phase, line: str, patience: float) -> ServerReply:
        self._phase = phase
        try:
            self.send(line.encode())
            return await self.reply(patience)
        except NoReply as problem:
            raise self._failed(silence(phase, problem.kind)) from problem

    def _note_tls(self) -> None:
        tls = self._wire.transport.get_extra_info("ssl_object") if self._wire.transport else None
        self.tls = describe(tls.cipher(), tls.version()) if tls else ""

    def _refused(self, phase: Phase, reply: ServerReply) -> HostFailed:
        if not is_negative(reply.code):
            return self._failed(silence(phase, "garbage"))
        return self._failed(classify(phase, reply.code, reply.message))

    def _failed(self, outcome: Outcome) -> HostFailed:
        return HostFailed(self.stamp(outcome))

    def stamp(self, outcome: Outcome) -> Outcome:
        """The outcome with the name and address of this server and the TLS it was told in; a deferral behind a fallback
        says why there was none."""
        text = outcome.text
        if self.fallback and outcome.status == "deferred":
            text = f"{text} (in clear, since TLS failed: {self.fallback})"
        return dataclasses.replace(
            outcome, text=text, host=self.host.name, address=self.host.address, tls=self.tls, dsn=self.offers("dsn")
        )

    def offers(self, extension: str) -> bool:
        """Whether the EHLO reply names the extension (lower case)."""
        return extension in self._offers

    def size_limit(self) -> int:
        """The largest message the server takes, in octets; 0 where it names none (RFC 1870 section 4)."""
        size = self._offers.get("size", "")
        return int(size) if _SIZE.fullmatch(size) else 0

    @property
    def idle(self) -> bool:
        """Whether it is still open and nothing unasked for (like 421) has come over it."""
        return self._wire.is_connected and not self._wire.unread

    def send(self, *commands: bytes) -> None:
        """Send the commands in one go; each wants its `reply` read. More than one only as RFC 2920 lets us.

        Raises:
            NoReply: the connection is gone, or the server has said something unasked, which may still be read.
        """
        self.send_raw(b"".join(command + b"\r\n" for command in commands))

    def send_raw(self, octets: bytes) -> None:
        """Send these octets without waiting for the server to take them.

        Raises:
            NoReply: as `send`.
        """
        if self._wire.unread:
            raise NoReply("garbage")
        try:
            self._wire.write(octets)
        except OSError as error:
            raise NoReply("lost") from error

    async def reply(self, timeout: float) -> ServerReply:
        """The next reply.

        Raises:
            NoReply: none within `timeout` seconds, the connection is gone, or what came is no SMTP. The connection is
                closed, for what comes late would be taken for the answer to something else.
        """
        try:
            return await self._wire.read_response(timeout)
        except NoReply:
            self.abort()
            raise

    async def drain(self, timeout: float) -> None:
        """Wait, at most `timeout` seconds, while the server is much slower than we are.

        Raises:
            NoReply: it takes nothing more.
        """
        try:
            await self._wire.drain(timeout)
        except TimeoutError as error:
            raise NoReply("timeout") from error

    async def quit(self) -> None:
        """Say QUIT, wait a moment for the answer, close."""
        try:
            self.send(b"QUIT")
            await self.reply(QUIT_TIMEOUT)
        except NoReply:
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        self._wire.abort()


def _log_fallback(for_id: str, host: Host, problem: str) -> None:
    log.info("tls_failed", id=for_id, host=host.name, address=host.address, problem=problem, effect="in clear")
