"""Delivery status notifications: what a sender reads when a message failed, is late, or has arrived.

One multipart/report (RFC 6522) for all recipients of a message: a letter for people, the fields of RFC 3464 for
programs, and the message, or its header, as it was received. A recipient is named as the sender gave it; the mailbox
behind an alias, its host and its host's words appear nowhere, only the codes of its reply do.
"""

from __future__ import annotations

import binascii
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Literal

from relay.bounce.reasons import reason, span
from relay.mail.address import BadAddress, is_ascii, parse
from relay.mail.message import Message

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]  # RFC 3464 section 2.3.3

RETURN_OCTETS = 50_000  # of the message or its header; Postfix's bounce_size_limit
_LINE_OCTETS = 998  # RFC 5322 section 2.1.1
_ORCPT_CHARACTERS = 500  # RFC 3461 section 3: by so much it lets a RCPT line grow
_ENVID_CHARACTERS = 100  # RFC 3461 section 4.4

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})+")  # RFC 3461 section 4
_UNITEXT = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")  # RFC 6533 section 3, EmbeddedUnicodeChar
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")  # RFC 3463 section 2
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{3,900}>")


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """What became of one recipient. Times are seconds since the epoch.

    Attributes:
        address: as the sender gave it, never what an alias expands to.
        code: the reply code of the last attempt; 0 where the remote gave none.
        enhanced: its enhanced status code, or ours for what went wrong without a reply.
        expired: failed because `retry_for` ran out.
        aliased: whether it leads to another address, which is what the codes speak of.
        orcpt: the ORCPT parameter, as received.
        retry_until: when a delayed delivery will be given up.
    """

    address: str
    action: Action
    code: int = 0
    enhanced: str = ""
    expired: bool = False
    aliased: bool = False
    orcpt: str = ""
    last_attempt: float | None = None
    retry_until: float | None = None

    @property
    def status(self) -> str:
        """The Status field. An expired delivery shows the actual problem where one is known (RFC 3463, X.4.7)."""
        allowed = {"failed": "54", "delayed": "4"}.get(self.action, "2")
        if _STATUS.fullmatch(self.enhanced) and self.enhanced[0] in allowed:
            return self.enhanced
        if self.action == "failed" and self.expired:
            return "4.4.7"
        return f"{allowed[0]}.0.0"


@dataclass(frozen=True, slots=True)
class Report:
    """One notification about one message.

    Attributes:
        hostname: the reporting MTA.
        from_domain: the domain of MAILER-DAEMON, in ASCII; one whose DKIM key we hold.
        to: the true sender of the message, never empty.
        arrived, now: seconds since the epoch.
        original: the message as it was received.
        unique: what makes the Message-ID unique, of letters, digits and dots.
        ret, envid: the parameters of MAIL (RFC 3461 sections 4.3 and 4.4), as received.
    """

    hostname: str
    from_domain: str
    to: str
    queue_id: str
    arrived: float
    now: float
    original: Message
    unique: str
    recipients: tuple[RecipientReport, ...]
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class _Part:
    content_type: str
    description: str
    encoding: Literal["7bit", "8bit", "quoted-printable"]
    body: bytes

    def __bytes__(self) -> bytes:
        return (
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Description: {self.description}\r\n"
            f"Content-Transfer-Encoding: {self.encoding}\r\n\r\n"
        ).encode("ascii") + self.body


def build(report: Report) -> bytes:
    """The whole notification, header and body, CRLF line endings, no line over 998 octets.

    It is 7-bit unless an address or what is returned is not; its own header needs SMTPUTF8 only where `to` does.
    """
    returned = _returned(report)
    letter = "\r\n".join(_letter(report, returned)).encode() + b"\r\n"
    charset = "us-ascii" if letter.isascii() else "utf-8"
    parts = [_Part(f"text/plain; charset={charset}", "Notification", _identity(letter), letter)]
    parts.append(_delivery_status(report))
    if returned.body:
        parts.append(returned)
    boundary = f"=_{report.unique}"
    while any(boundary.encode() in part.body for part in parts):
        boundary += "="
    encoding = "8bit" if any(part.encoding == "8bit" for part in parts) else "7bit"
    header = [
        f"From: Mail Delivery System <MAILER-DAEMON@{report.from_domain}>",
        f"To: <{report.to}>",
        f"Subject: {_subject(report)}",
        f"Date: {_date(report.now)}",
        f"Message-ID: <{report.unique}@{report.hostname}>",
        *_thread(report.original),
        "Auto-Submitted: auto-replied",  # RFC 3834 section 5
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        f"Content-Transfer-Encoding: {encoding}",
    ]
    delimiter = f"\r\n--{boundary}".encode()
    body = b"".join(delimiter + b"\r\n" + bytes(part) for part in parts)
    return "\r\n".join(header).encode() + b"\r\n" + body + delimiter + b"--\r\n"


def _date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(int(seconds), UTC))


def _thread(original: Message) -> Iterator[str]:
    """RFC 3834 section 3.1.6: the notification is shown beside the message that it is about."""
    found = [_MESSAGE_ID.fullmatch(field.value) for field in original.all("message-id")]
    if len(found) == 1 and found[0]:
        message_id = found[0].group().decode("ascii")
        yield f"In-Reply-To: {message_id}"
        yield f"References: {message_id}"


# The letter.

_OPENINGS: dict[Action, tuple[str, str]] = {
    "failed": ("Your message could not be delivered", "could not be delivered to:"),
    "delayed": ("Your message is delayed", "has not been delivered yet to:"),
    "delivered": ("Your message was delivered", "was delivered to:"),
    "relayed": ("Your message was passed on", "was passed on to a system that sends no confirmations, for:"),
    "expanded": ("Your message was passed on", "was passed on to the members of:"),
}


def _subject(report: Report) -> str:
    return next(subject for action, (subject, _) in _OPENINGS.items() if _with(report, action))


def _with(report: Report, action: Action) -> list[RecipientReport]:
    return [recipient for recipient in report.recipients if recipient.action == action]


def _letter(report: Report, returned: _Part) -> Iterator[str]:
    yield f"This is the mail system at {report.hostname}."
    for action, (_, opening) in _OPENINGS.items():
        recipients = _with(report, action)
        if recipients:
            yield ""
            yield from textwrap.wrap(f"Your message of {_date(report.arrived)} {opening}", 76)
        for recipient in recipients:
            yield ""
            yield f"    {recipient.address}"
            for sentences in _account(recipient, report):
                yield from textwrap.wrap(sentences, 76, initial_indent=" " * 8, subsequent_indent=" " * 8)
    yield ""
    yield from textwrap.wrap(
        f"Questions? Write to postmaster@{report.from_domain}, and quote {report.queue_id} at {report.hostname}. "
        f"For mail programs and administrators, the details{_and_what(returned)} follow.",
        76,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _and_what(returned: _Part) -> str:
    if not returned.body:
        return ""
    return " and its header" if "headers" in returned.content_type else " and your message"


def _account(recipient: RecipientReport, report: Report) -> Iterator[str]:
    if recipient.action not in ("failed", "delayed"):
        return
    why = reason(recipient.status, recipient.aliased)
    codes = _codes(recipient)
    yield f"{why.cause[:-1]} ({codes})." if codes else why.cause
    if recipient.expired:
        yield f"This was tried again and again for {span(report.now - report.arrived)}, and is now given up."
    if recipient.action == "failed":
        yield why.remedy
    elif recipient.retry_until is not None:
        yield f"Attempts go on until {_date(recipient.retry_until)}; you need not send it again."
    else:
        yield "Attempts go on; you need not send it again."


def _codes(recipient: RecipientReport) -> str:
    """The remote's codes without its words; an enhanced code of another class than the reply is not its own."""
    if not recipient.code:
        return ""
    own = _STATUS.fullmatch(recipient.enhanced) and recipient.enhanced[0] == str(recipient.code)[0]
    return f"{recipient.code} {recipient.enhanced}" if own else str(recipient.code)


# The fields for programs.


def _delivery_status(report: Report) -> _Part:
    groups = [list(_message_fields(report)), *(list(_recipient_fields(r)) for r in report.recipients)]
    body = "\r\n".join("".join(f"{name}: {value}\r\n" for name, value in group) for group in groups).encode()
    kind = "message/delivery-status" if body.isascii() else "message/global-delivery-status"  # RFC 6533 section 4
    return _Part(kind, "Delivery report", _identity(body), body)


def _message_fields(report: Report) -> Iterator[tuple[str, str]]:
    """RFC 3464 section 2.2."""
    envid = _unxtext(report.envid) if len(report.envid) <= _ENVID_CHARACTERS else ""
    if envid:
        yield "Original-Envelope-Id", envid
    yield "Reporting-MTA", f"dns; {report.hostname}"
    yield "Arrival-Date", _date(report.arrived)


def _recipient_fields(recipient: RecipientReport) -> Iterator[tuple[str, str]]:
    """RFC 3464 section 2.3. There is no Remote-MTA: it would name the host behind an alias."""
    original = original_recipient(recipient.orcpt)
    if original:
        yield "Original-Recipient", original
    kind = "rfc822" if is_ascii(recipient.address) else "utf-8"
    yield "Final-Recipient", f"{kind}; {recipient.address}"
    yield "Action", recipient.action
    yield "Status", recipient.status
    codes = _codes(recipient)
    if codes:
        yield "Diagnostic-Code", f"smtp; {codes}"
    if recipient.last_attempt is not None:
        yield "Last-Attempt-Date", _date(recipient.last_attempt)
    if recipient.action == "delayed" and recipient.retry_until is not None:
        yield "Will-Retry-Until", _date(recipient.retry_until)


def original_recipient(orcpt: str) -> str:
    """The value of Original-Recipient for an ORCPT parameter: `type; address`, its encoding undone.

    Empty where there was no ORCPT, it is malformed, or what it encodes is not printable.
    """
    kind, separator, encoded = orcpt.partition(";")
    if not separator or not re.fullmatch(r"[A-Za-z0-9-]+", kind) or len(orcpt) > _ORCPT_CHARACTERS:
        return ""
    address = _ununitext(encoded) if kind.lower() == "utf-8" else _unxtext(encoded)
    return f"{kind.lower()}; {address}" if address else ""


def names_a_mailbox(orcpt: str) -> bool:
    """Whether an ORCPT parameter is the address of a mailbox, and not any other text."""
    try:
        parse(original_recipient(orcpt).partition("; ")[2])
    except BadAddress:
        return False
    return True


def _unxtext(text: str) -> str:
    """RFC 3461 section 4: decoded xtext; empty where it is none, or hides what section 4.2 forbids."""
    if not _XTEXT.fullmatch(text):
        return ""
    decoded = re.sub(r"\+(..)", lambda found: chr(int(found[1], 16)), text)
    return decoded if decoded.isascii() and decoded.isprintable() else ""


def _ununitext(text: str) -> str:
    """RFC 6533 section 3: utf-8-addr-xtext, -unitext or a plain address; empty where a character is not printable."""
    points = [int(point, 16) for point in _UNITEXT.findall(text)]
    if any(point > 0x10FFFF for point in points):
        return ""
    decoded = _UNITEXT.sub(lambda found: chr(int(found[1], 16)), text)
    return decoded if decoded.isprintable() else ""


# What comes back of the message.


def _returned(report: Report) -> _Part:
    """The message itself after a failure, if it is small and nobody asked otherwise; its header in any other case.

    RFC 3461 section 4.3: RET speaks of failures only. A message with lines that SMTP does not allow cannot be returned
    whole, since message/rfc822 must not be encoded (RFC 2046 section 5.2.1); a header can (RFC 6522 section 4).
    """
    original = report.original
    content = b"".join(original.wire())
    wanted = report.ret.upper() != "HDRS" and _with(report, "failed")
    if wanted and len(content) <= RETURN_OCTETS and _transportable(content):
        kind = "message/global" if _is_utf8(original.content[: original.body_offset]) else "message/rfc822"
        return _Part(kind, "Undelivered message", _identity(content), content)
    header = _bounded_header(original)
    if _is_utf8(header):
        kind, encodable = "message/global-headers", not _transportable(header)
    else:
        kind, encodable = "text/rfc822-headers", not _transportable(header) or not header.isascii()
    if encodable:
        return _Part(kind, "Message header", "quoted-printable", binascii.b2a_qp(header, istext=True))
    return _Part(kind, "Message header", _identity(header), header)


def _bounded_header(message: Message) -> bytes:
    """As many fields, from the top, as RETURN_OCTETS hold, and no lines that are none (RFC 6522 section 4)."""
    kept, size = [], 0
    for field in message.fields:
        if not field.name:
            continue
        size += len(field.raw)
        if size > RETURN_OCTETS:
            break
        kept.append(field.raw)
    return b"".join(kept)


def _identity(data: bytes) -> Literal["7bit", "8bit"]:
    return "7bit" if data.isascii() else "8bit"


def _transportable(data: bytes) -> bool:
    """Fit for 7bit or 8bit (RFC 2045 section 2.8): no NUL, no line over 998 octets."""
    return b"\0" not in data and all(len(line) <= _LINE_OCTETS for line in data.split(b"\r\n"))


def _is_utf8(header: bytes) -> bool:
    """Whether a header is an internationalized one (RFC 6532), as opposed to ASCII or to octets of no known charset."""
    if header.isascii():
        return False
    try:
        header.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
