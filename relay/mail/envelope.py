"""The envelope of a message (RFC 5321 section 2.3.1): the client, MAIL and RCPT with their parameters."""

from __future__ import annotations

from typing import Literal, NamedTuple

BodyType = Literal["7BIT", "8BITMIME"]  # RFC 6152
TlsWish = Literal["", "require", "prefer", "no"]
"""What a message asks of TLS on its way (RFC 8689): nothing; REQUIRETLS; REQUIRETLS where the next hop can, which is
what it means for a bounce (section 5); or `TLS-Required: No`."""


class Client(NamedTuple):
    """The host that connects to us, as known before MAIL.

    Attributes:
        ip: its address as text, without zone or IPv4 mapping; behind a proxy the one in the PROXY header.
        helo: the argument of EHLO or HELO, as sent; empty before either.
        ptr: the name of the address, confirmed by its own address records (iprev); empty where there is none.
        trusted: whether it is one of `clients.trusted`, or has logged in.
        user: the name with which it has logged in; empty without a login.
        known: False where the address is that of a proxy which does not name its client.
        protocol: the `with` keyword of Received (RFC 3848): SMTP, ESMTP, ESMTPS or ESMTPSA.
        tls: protocol version and cipher, with a blank between them; empty without TLS.
        cipher_bits: the bits of secret that the cipher uses, and those of its algorithm; zeros without TLS.
        local: our address that it connected to; empty where there is no connection.
        local_port: our port; 0 likewise.
    """

    ip: str
    port: int
    helo: str = ""
    ptr: str = ""
    trusted: bool = False
    known: bool = True
    protocol: str = "SMTP"
    tls: str = ""
    cipher_bits: tuple[int, int] = (0, 0)
    local: str = ""
    local_port: int = 0
    user: str = ""


class MailFrom(NamedTuple):
    """The MAIL command: the envelope sender in normal form (empty for `<>`) and the parameters.

    Attributes:
        size: octets announced by SIZE= (RFC 1870); 0 where it is not given.
        ret, envid: DSN parameters (RFC 3461).
        require_tls: whether REQUIRETLS was given (RFC 8689 section 2).
    """

    sender: str
    size: int = 0
    body: BodyType = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    require_tls: bool = False


class RcptTo(NamedTuple):
    """The RCPT command: the recipient and its DSN parameters (RFC 3461).

    Attributes:
        recipient: in normal form; `postmaster` may stand without a domain (RFC 5321 section 4.5.1).
        given: the recipient as the client wrote it.
    """

    recipient: str
    notify: str = ""
    orcpt: str = ""
    given: str = ""


class Recipient(NamedTuple):
    """A recipient of an outgoing transaction: its address and DSN parameters (RFC 3461)."""

    address: str
    notify: str = ""
    orcpt: str = ""
