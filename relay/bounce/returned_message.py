"""What a notification returns of the message that it is about: the message itself, or its header."""

from __future__ import annotations

import binascii

from relay.bounce.mime_part import MimePart, identity_encoding, is_transportable
from relay.bounce.report import Report
from relay.mail.message import Message

RETURN_OCTETS = 50_000  # of the message or its header; Postfix's bounce_size_limit


def returned(report: Report) -> MimePart:
    """The part with the message after a failure, where it is small and RET is not HDRS; otherwise with its header.

    RET is about failures only (RFC 3461 section 4.3). A message with lines that SMTP does not allow cannot be returned
    whole, since message/rfc822 must not be encoded (RFC 2046 section 5.2.1); a header can (RFC 6522 section 4).
    """
    original = report.original
    content = b"".join(original.wire())
    whole = report.ret.upper() != "HDRS" and report.with_action("failed")
    if whole and len(content) <= RETURN_OCTETS and is_transportable(content):
        kind = "message/global" if _is_utf8(original.content[: original.body_offset]) else "message/rfc822"
        return MimePart(kind, "Undelivered message", identity_encoding(content), content)
    header = _bounded_header(original)
    if _is_utf8(header):
        kind, encoded = "message/global-headers", not is_transportable(header)
    else:
        kind, encoded = "text/rfc822-headers", not is_transportable(header) or not header.isascii()
    if encoded:
        return MimePart(kind, "Message header", "quoted-printable", binascii.b2a_qp(header, istext=True))
    return MimePart(kind, "Message header", identity_encoding(header), header)


def _bounded_header(message: Message) -> bytes:
    """The fields that fit into RETURN_OCTETS, from the top, without lines that are no fields (RFC 6522 section 4)."""
    kept, size = [], 0
    for field in message.fields:
        if not field.name:
            continue
        size += len(field.raw)
        if size > RETURN_OCTETS:
            break
        kept.append(field.raw)
    return b"".join(kept)


def _is_utf8(header: bytes) -> bool:
    """Whether a header is internationalized (RFC 6532): not ASCII, and not octets of an unknown charset."""
    if header.isascii():
        return False
    try:
        header.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
