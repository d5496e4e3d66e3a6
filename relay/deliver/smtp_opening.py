"""Opens a connection to a host as far as MAIL: TCP, greeting, EHLO, STARTTLS and AUTH."""

from __future__ import annotations

import asyncio
import math

import aiosmtplib
import structlog
from aiosmtplib.auth import auth_login_encode, auth_plain_encode

from relay.config.destinations import Leaving
from relay.config.sections import DeliverySection
from relay.deliver.classify import CLOSING, Phase, classify, is_negative, silence
from relay.deliver.client_tls import Level, client_context
from relay.deliver.deadline import Deadline
from relay.deliver.mx import Host
from relay.deliver.next_hop import NextHop
from relay.deliver.reply_parser import NoReply, ServerReply
from relay.deliver.smtp_connection import Connection, HostFailed
from relay.deliver.tls_policy import HostPolicy
from relay.mail.outcome import deferral
from relay.mail.reply import printable

_READY = 220
_COMPLETED = 250
_AUTHENTICATED = 235
_CONTINUE = 334
_NO_MAIL_HERE = (521, 554)  # a 5xx to EHLO that HELO would not change (RFC 7504 section 4, RFC 5321 section 3.1)

log = structlog.get_logger()


class _HandshakeFailed(HostFailed):
    """The TLS handshake failed; under `may` the same host is tried again in clear."""


async def open_connection(
    host: Host,
    hop: NextHop,
    leaving: Leaving,
    delivery: DeliverySection,
    *,
    policy: HostPolicy | None = None,
    for_id: str = "",
    bound: Deadline | None = None,
    patience: float = math.inf,
) -> Connection:
    """A connection to a host, ready for MAIL.

    Args:
        leaving: the address to connect from, and our name for EHLO.
        policy: how it has to be protected; by default as `hop` says.
        for_id: the queue id of the message, for the log.
        bound: the time limit of the attempt, which can also give it up.
        patience: seconds for each reply, where that is less than `delivery.helo_timeout`.

    Raises:
        HostFailed: no connection, a refusal before MAIL, less TLS than `policy` asks for, or the attempt was given up.
    """
    bound = bound or Deadline()
    policy = policy or HostPolicy(hop.tls, hop.tls)
    opening = _Opening(hop, leaving, delivery, bound, min(delivery.helo_timeout, patience))
    try:
        connection = await opening.open(host, policy.level)
    except _HandshakeFailed as failed:
        if policy.level != "may":
            raise
        _log_fallback(for_id, host, failed.outcome.text)
        return await opening.open(host, "none", fallback=failed.outcome.text)
    if connection.fallback:
        _log_fallback(for_id, host, connection.fallback)
    return connection


class _Opening:
    """The steps before MAIL; `_phase` is that of the reply that is awaited."""

    def __init__(
        self, hop: NextHop, leaving: Leaving, delivery: DeliverySection, bound: Deadline, patience: float
    ) -> None:
        self._hop = hop
        self._leaving = leaving
        self._delivery = delivery
        self._bound = bound
        self._patience = patience
        self._phase: Phase = "connect"

    async def open(self, host: Host, level: Level, *, fallback: str = "") -> Connection:
        """A connection with this level of TLS. Raises HostFailed."""
        scheme = self._hop.endpoint.scheme if self._hop.endpoint else "smtp"
        connection = Connection(host, lmtp=scheme == "lmtp", fallback=fallback)
        self._phase = "connect"
        try:
            tls = client_context(level == "verify") if scheme == "smtps" else None
            await connection.connect(tls, self._leaving, self._delivery.connect_timeout)
            await self._greeting(connection)
            await self._hello(connection)
            if scheme != "smtps" and await self._starttls(connection, level):
                await self._hello(connection)
            if self._hop.user:
                await self._login(connection)
        except asyncio.CancelledError as cancelled:
            connection.abort()
            if self._bound.over:
                raise connection.failed(silence(self._phase, "timeout")) from cancelled
            raise
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _greeting(self, connection: Connection) -> None:
        self._phase = "greeting"
        try:
            greeting = await connection.reply(self._patience)
        except NoReply as problem:
            raise connection.failed(silence("greeting", problem.kind)) from problem
        if greeting.code != _READY:
            raise self._refused(connection, greeting)

    async def _hello(self, connection: Connection) -> None:
        reply = await self._command(
            connection, "hello", f"{'LHLO' if connection.lmtp else 'EHLO'} {self._leaving.helo}"
        )
        if reply.code == _COMPLETED:
            connection.note_offers(reply.message)
            return
        if 500 <= reply.code <= 599 and reply.code not in _NO_MAIL_HERE and not connection.lmtp:
            # Whatever the server has against EHLO, HELO may work (RFC 5321 sections 3.2 and 4.1.4).
            try:
                reply = await self._command(connection, "hello", f"HELO {self._leaving.helo}")
            except HostFailed as failed:  # the reply to EHLO says why
                raise self._refused(connection, reply) from failed
        if reply.code != _COMPLETED:
            raise self._refused(connection, reply)
        connection.note_offers("")

    async def _starttls(self, connection: Connection, level: Level) -> bool:
        """STARTTLS, where `level` asks for it. Returns whether the connection is encrypted now."""
        if level == "none" or (level == "may" and not connection.offers("starttls")):
            return False
        if not connection.offers("starttls"):
            raise connection.failed(deferral("4.7.4", "TLS is required, but the server does not offer it"))
        self._phase = "starttls"
        try:
            await connection.start_tls(client_context(level == "verify"), self._patience)
        except aiosmtplib.SMTPResponseException as error:
            if not is_negative(error.code):
                raise _HandshakeFailed(connection.stamp(silence("starttls", "garbage"))) from error
            if level == "may" and error.code != CLOSING:
                connection.fallback = f"STARTTLS was refused: {error.code} {printable(' '.join(error.message.split()))}"
                return False
            raise self._refused(connection, ServerReply(error.code, error.message)) from error
        except NoReply as problem:
            raise _HandshakeFailed(connection.stamp(silence("starttls", problem.kind))) from problem
        except OSError as error:
            outcome = deferral("4.7.5", f"TLS handshake failed: {error}")
            raise _HandshakeFailed(connection.stamp(outcome)) from error
        return True

    async def _login(self, connection: Connection) -> None:
        """AUTH PLAIN (RFC 4616) or LOGIN; both show the password to the server, so TLS is required."""
        user, password = self._hop.user, self._hop.password
        if not connection.tls:
            raise connection.failed(deferral("4.7.4", "credentials are sent inside TLS only"))
        if "plain" in connection.auth_methods:
            lines = ["AUTH PLAIN " + auth_plain_encode(user, password).decode()]
        elif "login" in connection.auth_methods:
            lines = ["AUTH LOGIN", *(part.decode() for part in auth_login_encode(user, password))]
        else:
            raise connection.failed(deferral("4.7.0", "the server offers neither AUTH PLAIN nor LOGIN"))
        for line in lines:
            reply = await self._command(connection, "auth", line)
            if reply.code != (_AUTHENTICATED if line is lines[-1] else _CONTINUE):
                raise self._refused(connection, reply)

    async def _command(self, connection: Connection, phase: Phase, line: str) -> ServerReply:
        self._phase = phase
        try:
            connection.send(line.encode())
            return await connection.reply(self._patience)
        except NoReply as problem:
            raise connection.failed(silence(phase, problem.kind)) from problem

    def _refused(self, connection: Connection, reply: ServerReply) -> HostFailed:
        if not is_negative(reply.code):
            return connection.failed(silence(self._phase, "garbage"))
        return connection.failed(classify(self._phase, reply.code, reply.message))


def _log_fallback(for_id: str, host: Host, problem: str) -> None:
    log.info("tls_failed", id=for_id, host=host.name, address=host.address, problem=problem, effect="in clear")
