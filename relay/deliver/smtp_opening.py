"""Opens a connection to a host as far as MAIL: TCP, greeting, EHLO, STARTTLS and AUTH."""

from __future__ import annotations

import asyncio
import datetime
import math
import ssl
from dataclasses import replace

import aiosmtplib
import structlog
from aiosmtplib.auth import auth_login_encode, auth_plain_encode

from relay.config.destinations import Leaving
from relay.config.sections import DeliverySection
from relay.deliver.classify import CLOSING, Phase, classify, is_negative, silence
from relay.deliver.client_tls import Level, client_context
from relay.deliver.deadline import Deadline
from relay.deliver.host_policy import HostPolicy, Untrusted, unsupported
from relay.deliver.mx import Host
from relay.deliver.next_hop import NextHop
from relay.deliver.reply_parser import NoReply, ServerReply
from relay.deliver.smtp_connection import Connection, HostFailed
from relay.deliver.tls_results import Shortfall, shortfall_of
from relay.mail.outcome import Outcome, deferral
from relay.mail.reply import printable
from relay.transport_security.dane import Mismatch, authenticate

_READY = 220
_COMPLETED = 250
_AUTHENTICATED = 235
_CONTINUE = 334
_UNSUPPORTED = "starttls-not-supported"  # RFC 8460 section 4.3.1
_NO_MAIL_HERE = (521, 554)  # a 5xx to EHLO that HELO would not change (RFC 7504 section 4, RFC 5321 section 3.1)

log = structlog.get_logger()


class _NoTls(Untrusted):
    """There is no TLS, or not as much as the level asks for. Where the level is not a must, the same host is tried
    again with less."""


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
        HostFailed: no connection, a refusal before MAIL, or the attempt was given up.
        Untrusted: less TLS than `policy` asks for.
    """
    bound = bound or Deadline()
    policy = policy or HostPolicy(hop.tls, hop.tls)
    opening = _Opening(hop, policy, leaving, delivery, bound, min(delivery.helo_timeout, patience))
    shortfall = policy.shortfall
    if policy.testing:
        try:
            return await opening.open(host, "verify")
        except _NoTls as failed:
            shortfall = shortfall or failed.shortfall
            _log_failure(for_id, host, failed.outcome.text, "not enforced")
    try:
        connection = await opening.open(host, policy.level)
    except _NoTls as failed:
        if policy.level != "may":
            raise
        shortfall = shortfall or failed.shortfall
        _log_failure(for_id, host, failed.outcome.text, "in clear")
        connection = await opening.open(host, "none", fallback=failed.outcome.text)
    else:
        if connection.fallback:
            _log_failure(for_id, host, connection.fallback, "in clear")
    connection.shortfall = shortfall or connection.shortfall
    return connection


class _Opening:
    """The steps before MAIL; `_phase` is that of the reply that is awaited."""

    def __init__(
        self,
        hop: NextHop,
        policy: HostPolicy,
        leaving: Leaving,
        delivery: DeliverySection,
        bound: Deadline,
        patience: float,
    ) -> None:
        self._hop = hop
        self._policy = policy
        self._leaving = leaving
        self._delivery = delivery
        self._bound = bound
        self._patience = patience
        self._phase: Phase = "connect"

    async def open(self, host: Host, level: Level, *, fallback: str = "") -> Connection:
        """A connection with this level of TLS. Raises HostFailed, Untrusted."""
        scheme = self._hop.endpoint.scheme if self._hop.endpoint else "smtp"
        connection = Connection(host, self._policy, lmtp=scheme == "lmtp", fallback=fallback)
        self._phase = "connect"
        try:
            await self._connect(connection, client_context(level == "verify") if scheme == "smtps" else None)
            await self._greeting(connection)
            await self._hello(connection)
            if scheme != "smtps" and await self._starttls(connection, level):
                await self._hello(connection)
            await self._check_requiretls(connection)
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

    async def _connect(self, connection: Connection, context: ssl.SSLContext | None) -> None:
        try:
            await connection.connect(context, self._leaving, self._delivery.connect_timeout)
        except ssl.SSLError as error:
            failed = self._no_tls(connection, deferral("4.7.5", f"TLS handshake failed: {error}"), shortfall_of(error))
            raise Untrusted(
                failed.outcome, failed.result, failed.reason, source=failed.source
            ) from error  # no way back

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
        if level == "none":
            return False
        if not connection.offers("starttls"):
            shortfall = Shortfall(_UNSUPPORTED)
            if level != "may":
                raise self._no_tls(connection, self._not_offered(connection), shortfall)
            connection.shortfall = shortfall
            return False
        self._phase = "starttls"
        wanted = "" if level == "verify" else self._policy.base  # RFC 7672 section 8.1
        try:
            await connection.start_tls(client_context(level == "verify"), self._patience, wanted)
        except aiosmtplib.SMTPResponseException as error:
            if error.code == CLOSING:
                raise self._refused(connection, ServerReply(error.code, error.message)) from error
            shortfall = Shortfall(_UNSUPPORTED, f"refused: {error.code}")
            if not is_negative(error.code):
                raise self._no_tls(connection, silence("starttls", "garbage"), shortfall) from error
            if level != "may":
                raise self._no_tls(connection, classify("starttls", error.code, error.message), shortfall) from error
            connection.fallback = f"STARTTLS was refused: {error.code} {printable(' '.join(error.message.split()))}"
            connection.shortfall = shortfall
            return False
        except NoReply as problem:
            shortfall = Shortfall("validation-failure", "no answer to STARTTLS")
            raise self._no_tls(connection, silence("starttls", problem.kind), shortfall) from problem
        except OSError as error:
            outcome = deferral("4.7.5", f"TLS handshake failed: {error}")
            raise self._no_tls(connection, outcome, shortfall_of(error)) from error
        if self._policy.tlsa:
            await self._authenticate(connection)
        return True

    async def _authenticate(self, connection: Connection) -> None:
        """Check the server's certificate against its TLSA records. Raises Untrusted."""
        policy, now = self._policy, datetime.datetime.now(datetime.UTC)
        names = policy.names or (policy.base,)
        try:
            await asyncio.to_thread(authenticate, policy.tlsa, connection.peer_chain(), names, now)
        except Mismatch as problem:
            outcome = deferral("4.7.5", f"DANE: {problem} (TLSA records of {policy.base})")
            raise Untrusted(connection.stamp(outcome), problem.result, source=connection.source) from problem

    def _not_offered(self, connection: Connection) -> Outcome:
        if self._policy.require_tls and not self._policy.demand:
            return unsupported(f"{connection.host.name} offers no TLS")
        return deferral("4.7.4", "TLS is required, but the server does not offer it")

    def _no_tls(self, connection: Connection, outcome: Outcome, shortfall: Shortfall) -> _NoTls:
        """The failure of TLS; its text names the policy that forbids to use the host without it."""
        policy = self._policy
        if demand := policy.demand:
            reply = f"{outcome.code} " if outcome.remote else ""
            outcome = deferral("4.7.5", f"{demand} forbids mail to {connection.host.name}: {reply}{outcome.text}")
        elif policy.level in ("require", "verify"):
            name = "REQUIRETLS" if policy.require_tls else f'tls = "{policy.level}"'
            outcome = replace(outcome, text=f"{outcome.text} ({name})")
        return _NoTls(connection.stamp(outcome), *shortfall, source=connection.source)

    async def _check_requiretls(self, connection: Connection) -> None:
        """Check that the server keeps REQUIRETLS (RFC 8689 section 4.2.1, step 5). Raises Untrusted."""
        if self._policy.require_tls and not connection.offers("requiretls"):
            outcome = connection.stamp(unsupported(f"{connection.host.name} does not offer it"))
            await connection.quit()
            raise Untrusted(outcome)

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


def _log_failure(for_id: str, host: Host, problem: str, effect: str) -> None:
    log.info("tls_failed", id=for_id, host=host.name, address=host.address, problem=problem, effect=effect)
