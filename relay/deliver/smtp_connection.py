"""One connection to a host of a next hop, over SMTP or LMTP: TCP, TLS, commands and replies, QUIT.

`smtp_opening` opens it, `smtp_transaction` sends mail over it. These files and `reply_parser` are built on aiosmtplib.
They add a timeout and an outcome for each phase, a server name that differs from the address connected to, and LMTP.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Coroutine, Sequence

from aiosmtplib.esmtp import parse_esmtp_extensions

from relay.config.destinations import Leaving
from relay.deliver.classify import silence
from relay.deliver.client_tls import peer_chain
from relay.deliver.host_policy import HostPolicy
from relay.deliver.mx import Host
from relay.deliver.reply_parser import ClientProtocol, NoReply, ServerReply
from relay.mail.outcome import Outcome
from relay.tls import describe

QUIT_TIMEOUT = 5.0  # seconds; the mail is delivered by then

_SIZE = re.compile(r"[0-9]{1,20}")  # RFC 1870 section 3


class HostFailed(Exception):
    """This host cannot take the transaction; another host of the next hop may.

    Attributes:
        outcome: the deferral, where there is no other host.
        settled: for each recipient of the job its final outcome, or None where another host may still take it.
    """

    def __init__(self, outcome: Outcome, settled: Sequence[Outcome | None] = ()) -> None:
        self.outcome = outcome
        self.settled = settled
        super().__init__(outcome.text)


class Connection:
    """A connection to one host.

    Attributes:
        host: the server.
        tls: protocol version and cipher; empty in clear.
        fallback: why the connection is in clear although the server offers TLS and we wanted it; empty otherwise.
        lmtp: whether the end of DATA brings one reply for each recipient (RFC 2033 section 4.2).
        used: how many transactions were begun.
        in_transaction: whether the next transaction has to begin with RSET.
        auth_methods: the AUTH methods that the server offers, in lower case.
        size_limit: the largest message that the server takes, in octets; 0 where it gives no limit (RFC 1870 section
            4).
        policy: the TLS policy under which it was opened.
        shortfall: what TLS lacks in the light of what the domain publishes, where that is not enforced; None for
            nothing.
    """

    def __init__(self, host: Host, policy: HostPolicy, *, lmtp: bool, fallback: str = "") -> None:
        self.host = host
        self.policy = policy
        self.shortfall = policy.shortfall
        self.tls = ""
        self.fallback = fallback
        self.lmtp = lmtp
        self.used = 0
        self.in_transaction = False
        self.auth_methods: list[str] = []
        self.size_limit = 0
        self._wire = ClientProtocol()
        self._offers: dict[str, str] = {}

    async def connect(self, tls: ssl.SSLContext | None, leaving: Leaving, timeout: float) -> None:
        """Open the connection, with TLS from the start where a context is given.

        Raises:
            HostFailed: no connection within `timeout` seconds.
            SSLError: the TLS handshake failed.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._connect(tls, leaving)
        except ssl.SSLError:
            raise
        except TimeoutError as error:
            raise self.failed(silence("connect", "timeout")) from error
        except OSError as error:
            raise self.failed(silence("connect", "lost", _reason(error, self.host))) from error
        self._note_tls()

    async def _connect(self, tls: ssl.SSLContext | None, leaving: Leaving) -> None:
        loop = asyncio.get_running_loop()
        if self.host.is_socket:
            await loop.create_unix_connection(lambda: self._wire, self.host.address)
            return
        source = leaving.source(self.host.address)
        await loop.create_connection(
            lambda: self._wire,
            self.host.address,
            self.host.port,
            ssl=tls,
            server_hostname=self.host.name if tls else None,
            local_addr=(source, 0) if source else None,
        )

    async def start_tls(self, context: ssl.SSLContext, timeout: float, name: str = "") -> None:
        """STARTTLS and the handshake, in which we say that we want `name` (SNI), or else the host's.

        Raises:
            SMTPResponseException, OSError, NoReply: see `ClientProtocol.start_tls`.
        """
        await self._wire.start_tls(context, name or self.host.name, timeout)
        self._note_tls()

    def peer_chain(self) -> tuple[bytes, ...]:
        """The certificates that the server has shown inside TLS, see `client_tls.peer_chain`."""
        tls = self._wire.transport.get_extra_info("ssl_object") if self._wire.transport else None
        return peer_chain(tls) if tls else ()

    def _note_tls(self) -> None:
        tls = self._wire.transport.get_extra_info("ssl_object") if self._wire.transport else None
        self.tls = describe(tls.cipher(), tls.version()) if tls else ""

    def note_offers(self, ehlo_reply: str) -> None:
        """Remember the extensions and AUTH methods of an EHLO reply; an empty text stands for the reply to HELO."""
        self._offers, self.auth_methods = parse_esmtp_extensions(ehlo_reply) if ehlo_reply else ({}, [])
        size = self._offers.get("size", "")
        self.size_limit = int(size) if _SIZE.fullmatch(size) else 0

    def failed(self, outcome: Outcome) -> HostFailed:
        """The exception for a host that gave this outcome."""
        return HostFailed(self.stamp(outcome))

    def stamp(self, outcome: Outcome) -> Outcome:
        """The outcome with this server's name, address and TLS; a deferral after a fallback says why TLS failed."""
        text = outcome.text
        if self.fallback and outcome.status == "deferred":
            text = f"{text} (in clear, since TLS failed: {self.fallback})"
        return Outcome(
            status=outcome.status,
            code=outcome.code,
            enhanced=outcome.enhanced,
            text=text,
            host=self.host.name,
            address=self.host.address,
            tls=self.tls,
            dsn=self.offers("dsn"),
            remote=outcome.remote,
            unreachable=outcome.unreachable,
            words=outcome.words,
            individual=outcome.individual,
            policy=self.policy.name,
            phase=outcome.phase,
        )

    def offers(self, extension: str) -> bool:
        """Whether the EHLO reply names the extension (lower case)."""
        return extension in self._offers

    @property
    def takes_requiretls(self) -> bool:
        """Whether REQUIRETLS may be given to the server: its name and certificate are proven, and inside TLS it offers
        the extension (RFC 8689 section 2)."""
        return bool(self.tls) and self.policy.authenticates and self.offers("requiretls")

    @property
    def source(self) -> str:
        """Our IP address; empty without a connection, and for a Unix socket."""
        name = self._wire.transport.get_extra_info("sockname") if self._wire.transport else None
        return str(name[0]) if isinstance(name, tuple) else ""

    @property
    def idle(self) -> bool:
        """Whether it is still open, and the server has sent nothing unasked (such as 421)."""
        return self._wire.is_connected and not self._wire.unread

    def send(self, *commands: bytes) -> None:
        """Send the commands in one go; the caller reads a `reply` for each. More than one only as RFC 2920 allows.

        Raises:
            NoReply: the connection is closed, or the server has sent something unasked, which may still be read.
        """
        self.send_raw(b"\r\n".join((*commands, b"")))

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

    def reply(self, timeout: float) -> Coroutine[None, None, ServerReply]:
        """The next reply, to be awaited, for at most `timeout` seconds; see `ClientProtocol.read_response`."""
        return self._wire.read_response(timeout)

    async def drain(self, timeout: float) -> None:
        """Wait, at most `timeout` seconds, until the server has taken enough of what was sent.

        Raises:
            NoReply: it has not.
        """
        try:
            await self._wire.drain(timeout)
        except TimeoutError as error:
            raise NoReply("timeout") from error

    async def quit(self) -> None:
        """Send QUIT, wait a moment for the reply, close."""
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


def _reason(error: OSError, host: Host) -> str:
    """Why there is no connection, in words for the administrator; empty where the system does not say."""
    if host.is_socket and isinstance(error, PermissionError):
        return "the relay's user may not connect to the socket"
    if host.is_socket and isinstance(error, FileNotFoundError):
        return "there is no such socket"
    return os.strerror(error.errno) if error.errno else ""
