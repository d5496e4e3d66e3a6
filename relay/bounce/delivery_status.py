"""The fields for programs in a delivery status notification (RFC 3464), and the DSN parameters that they repeat."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.bounce.mime_part import MimePart, identity_encoding
from relay.bounce.report import RecipientReport, Report, date_text
from relay.mail.address import BadAddress, is_ascii, lookup_key, parse

_ORCPT_CHARACTERS = 500  # RFC 3461 section 3: it makes a RCPT line longer by at most so much
_ENVID_CHARACTERS = 100  # RFC 3461 section 4.4

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})+")  # RFC 3461 section 4
_UNITEXT = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")  # RFC 6533 section 3, EmbeddedUnicodeChar


def delivery_status(report: Report) -> MimePart:
    """The part with the fields of RFC 3464, in groups: those of the message, then those of each recipient."""
    groups = [list(_message_fields(report)), *(list(_recipient_fields(recipient)) for recipient in report.recipients)]
    body = "\r\n".join("".join(f"{name}: {value}\r\n" for name, value in group) for group in groups).encode()
    kind = "message/delivery-status" if body.isascii() else "message/global-delivery-status"  # RFC 6533 section 4
    return MimePart(kind, "Delivery report", identity_encoding(body), body)


def _message_fields(report: Report) -> Iterator[tuple[str, str]]:
    """RFC 3464 section 2.2."""
    envid = _decoded_xtext(report.envid) if len(report.envid) <= _ENVID_CHARACTERS else ""
    if envid:
        yield "Original-Envelope-Id", envid
    yield "Reporting-MTA", f"dns; {report.hostname}"
    yield "Arrival-Date", date_text(report.arrived)


def _recipient_fields(recipient: RecipientReport) -> Iterator[tuple[str, str]]:
    """RFC 3464 section 2.3. There is no Remote-MTA: it would name the host behind an alias."""
    original = original_recipient(recipient.orcpt)
    if original:
        yield "Original-Recipient", original
    kind = "rfc822" if is_ascii(recipient.address) else "utf-8"
    yield "Final-Recipient", f"{kind}; {recipient.address}"
    yield "Action", recipient.action
    yield "Status", recipient.status
    if recipient.codes:
        yield "Diagnostic-Code", f"smtp; {recipient.reply}"
    if recipient.last_attempt is not None:
        yield "Last-Attempt-Date", date_text(recipient.last_attempt)
    if recipient.action == "delayed" and recipient.retry_until is not None:
        yield "Will-Retry-Until", date_text(recipient.retry_until)


def original_recipient(orcpt: str) -> str:
    """The value of Original-Recipient for an ORCPT parameter: `type; address`, its encoding undone.

    Empty where there was no ORCPT, where it is malformed, or where its text is not printable.
    """
    kind, separator, encoded = orcpt.partition(";")
    if not separator or not re.fullmatch(r"[A-Za-z0-9-]+", kind) or len(orcpt) > _ORCPT_CHARACTERS:
        return ""
    address = _decoded_unitext(encoded) if kind.lower() == "utf-8" else _decoded_xtext(encoded)
    return f"{kind.lower()}; {address}" if address else ""


def names_a_mailbox(orcpt: str) -> bool:
    """Whether an ORCPT parameter is the address of a mailbox."""
    try:
        parse(original_recipient(orcpt).partition("; ")[2])
    except BadAddress:
        return False
    return True


def names_another_mailbox(orcpt: str, address: str) -> bool:
    """Whether an ORCPT parameter is the address of a mailbox other than this one."""
    try:
        original = str(parse(original_recipient(orcpt).partition("; ")[2]))
    except BadAddress:
        return False
    return lookup_key(original) != lookup_key(address)


def _decoded_xtext(text: str) -> str:
    """Decoded xtext (RFC 3461 section 4); empty where it is no xtext, or where section 4.2 forbids the text."""
    if not _XTEXT.fullmatch(text):
        return ""
    decoded = re.sub(r"\+(..)", lambda escaped: chr(int(escaped[1], 16)), text)
    return decoded if decoded.isascii() and decoded.isprintable() else ""


def _decoded_unitext(text: str) -> str:
    """Decoded utf-8-addr-xtext, -unitext or plain address (RFC 6533 section 3); empty where it is not printable."""
    points = [int(point, 16) for point in _UNITEXT.findall(text)]
    if any(point > 0x10FFFF for point in points):
        return ""
    decoded = _UNITEXT.sub(lambda escaped: chr(int(escaped[1], 16)), text)
    return decoded if decoded.isprintable() else ""
