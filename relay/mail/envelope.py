"""The envelope of a message (RFC 5321 section 2.3.1): the client, MAIL and RCPT with their parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

BodyType = Literal["7BIT", "8BITMIME"]  # RFC 6152


@dataclass(frozen=True, slots=True)
class Client:
    """Who speaks to us, as known before MAIL.

    Attributes:
        ip: textual address (from PROXY where a proxy vouches for it), without zone or IPv4 mapping.
        helo: the argument of EHLO or HELO, as sent; empty before either.
        ptr: the name of the address, confirmed by its own address records; empty where there is none.
        trusted: one of `clients.trusted`.
        known: False where the address is that of a proxy which does not say whom it speaks for.
        protocol: the `with` word of RFC 3848 for Received: SMTP, ESMTP, ESMTPS.
        tls: protocol version and cipher, for the log; empty in clear.
        local: the address of ours that the connection came to; empty where there is no connection.
    """

    ip: str
    port: int
    helo: str = ""
    ptr: str = ""
    trusted: bool = False
    known: bool = True
    protocol: str = "SMTP"
    tls: str = ""
    local: str = ""


@dataclass(frozen=True, slots=True)
class MailFrom:
    """MAIL: the reverse-path in normal form (empty for `<>`) and its parameters."""

    sender: str
    size: int = 0
    body: BodyType = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class RcptTo:
    """RCPT: the forward-path and its DSN parameters. `<postmaster>` alone has no domain (RFC 5321 section 4.5.1).

    Attributes:
        recipient: in normal form.
        given: as the client wrote it.
    """

    recipient: str
    notify: str = ""
    orcpt: str = ""
    given: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Recipient:
    """One RCPT that was accepted: the address given, and its DSN parameters (RFC 3461)."""

    address: str
    notify: str = ""
    orcpt: str = ""
