"""The MAIL and RCPT commands for a server, with the parameters that its EHLO reply offers."""

from __future__ import annotations

import re
from collections.abc import Callable

from relay.deliver.job import Job
from relay.mail.address import normal_domain, split
from relay.mail.envelope import Recipient

Offers = Callable[[str], bool]
"""Whether the EHLO reply names an extension (lower case)."""

# An address that stays inside its angle brackets: a quoted local part or one without specials, no control characters.
_SAFE = re.compile(
    r"""(?:"(?:[^"\\\x00-\x1f\x7f\ud800-\udfff]|\\[^\x00-\x1f\x7f\ud800-\udfff])*"|[^\s<>"\x00-\x1f\x7f\ud800-\udfff]+)"""
    r"""(?:@[^\s<>"\x00-\x1f\x7f\ud800-\udfff]+)?"""
)
_PARAMETER = re.compile(r"[!-~]+")  # RFC 3461 section 4: xtext, and the keywords of NOTIFY and RET


def is_safe(address: str) -> bool:
    """Whether an address can stand on a command line without changing the command."""
    return _SAFE.fullmatch(address) is not None


def needs_smtputf8(address: str) -> bool:
    """Whether only SMTPUTF8 can carry an address: its local part is not ASCII."""
    return not (address.isascii() or _ascii_form(address).isascii())


def mail_command(job: Job, offers: Offers, *, utf8: bool, require_tls: bool = False) -> bytes:
    """MAIL with SIZE, BODY, SMTPUTF8, REQUIRETLS and the DSN parameters.

    Args:
        require_tls: whether REQUIRETLS is given (RFC 8689 section 2).
    """
    command = [b"MAIL FROM:" + _path(job.sender, utf8)]
    if job.size and offers("size"):
        command.append(b"SIZE=%d" % job.size)
    if job.is_8bit and offers("8bitmime"):
        command.append(b"BODY=8BITMIME")
    if utf8:
        command.append(b"SMTPUTF8")
    if require_tls:
        command.append(b"REQUIRETLS")
    return b" ".join(command + _dsn_parameters(offers, RET=job.ret, ENVID=job.envid))


def rcpt_command(recipient: Recipient, offers: Offers, *, utf8: bool) -> bytes:
    """RCPT with the DSN parameters."""
    parameters = _dsn_parameters(offers, NOTIFY=recipient.notify, ORCPT=recipient.orcpt)
    return b" ".join([b"RCPT TO:" + _path(recipient.address, utf8), *parameters])


def _dsn_parameters(offers: Offers, **parameters: str) -> list[bytes]:
    """The parameters of RFC 3461 that the sender gave, where the server offers DSN and the value is well-formed."""
    if not offers("dsn"):
        return []
    return [f"{name}={value}".encode() for name, value in parameters.items() if value and _PARAMETER.fullmatch(value)]


def _path(address: str, utf8: bool) -> bytes:
    return b"<%b>" % (address if utf8 else _ascii_form(address)).encode()


def _ascii_form(address: str) -> str:
    """The address with its domain in A-labels (RFC 5890); still not ASCII where the local part is not."""
    if address.isascii():
        return address
    mailbox = split(address)
    return f"{mailbox.local}@{normal_domain(mailbox.domain)}"
