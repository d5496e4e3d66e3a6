"""What the commands of one SMTP session share: the client, as far as it is known by now, and what serves it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from structlog.typing import FilteringBoundLogger

from relay.config.model import Config
from relay.mail.envelope import Client
from relay.mail.reply import Reply
from relay.receive.authenticator import Authenticator
from relay.receive.handler import Handler
from relay.receive.limits import Account
from relay.receive.stream import Stream

log = structlog.get_logger()


class SessionOver(Exception):
    """The session ends after the replies that it has given."""


@dataclass(slots=True, kw_only=True)
class Connection:
    """One client connection, after PROXY and implicit TLS.

    Attributes:
        client: EHLO, STARTTLS and AUTH put another one in its place.
        handler: decides about its mail.
        account: the connection, memory and disk space that it takes.
        tls: returns the context for STARTTLS; None where it is not offered.
        require_tls: whether mail without TLS is refused (RFC 3207 section 4).
        authenticator: checks logins; None where the listener takes none.
        require_login: whether mail without a login is refused (RFC 4954 section 6).
        greeting_delay: seconds that the client has to wait for the greeting (`clients.greeting_delay`).
        log: names the client's address in every line.
    """

    stream: Stream
    client: Client
    handler: Handler
    config: Config
    account: Account
    tls: Callable[[], ssl.SSLContext] | None = None
    require_tls: bool = False
    authenticator: Authenticator | None = None
    require_login: bool = False
    greeting_delay: float = 0.0
    log: FilteringBoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self.log = log.bind(ip=self.client.ip)

    @property
    def offers_tls(self) -> bool:
        """Whether STARTTLS is offered now."""
        return self.tls is not None and not self.client.tls

    @property
    def takes_logins(self) -> bool:
        """Whether the client can log in now: RFC 4954 section 4 lets PLAIN be used inside TLS only."""
        return self.authenticator is not None and bool(self.client.tls)

    def reply(self, reply: Reply) -> None:
        """Adds a reply to those that the stream will send."""
        self.stream.write(f"{reply}\r\n".encode("ascii", "replace"))


def esmtp(*, tls: bool, login: bool) -> str:
    """The name of the protocol after EHLO, by whether the client uses TLS, and has logged in (RFC 3848)."""
    return "ESMTP" + "S" * tls + "A" * login
