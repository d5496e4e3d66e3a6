"""Reads a multipart message (RFC 2045, RFC 2046), as far as the notifications of other hosts need it.

One level deep, without recursion, and strict: a message that a mail program would have to guess at raises `Unreadable`,
so that no message costs more than reading it once.
"""

from __future__ import annotations

import binascii
import re
from itertools import islice
from typing import NamedTuple

from relay.mail.message import Message

PARTS = 20  # of one message: a report has three
BOUNDARY_OCTETS = 200  # RFC 2046 section 5.1.1 allows 70
VALUE_OCTETS = 2000  # of a Content-Type: many times what a boundary and a name take

_TOKEN = rb"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]++"  # RFC 2045 section 5.1
_TYPE = re.compile(rb"(%s)/(%s)" % (_TOKEN, _TOKEN))
_PARAMETER = re.compile(rb";\s*+(%s)\s*+=\s*+(?:\"((?:[^\"\\]|\\.)*+)\"|([^\s;\"]++))" % _TOKEN, re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


class Unreadable(ValueError):
    """The message cannot be read; the text says why, for a log line."""


class ContentType(NamedTuple):
    """A media type and its parameters, their names in lower case; the values as they are, unquoted."""

    name: str
    parameters: dict[str, bytes]


def content_type(entity: Message) -> ContentType:
    """The Content-Type of a message or a part; `text/plain` where none can be read (RFC 2045 section 5.2)."""
    fields = entity.all("content-type")
    value = fields[0].value if len(fields) == 1 else b""
    media_type = _TYPE.match(value[:VALUE_OCTETS])
    if media_type is None:
        return ContentType("text/plain", {})
    parameters: dict[str, bytes] = {}
    for name, quoted, plain in _PARAMETER.findall(value[:VALUE_OCTETS], media_type.end()):
        parameters.setdefault(name.decode("ascii").lower(), plain or _ESCAPED.sub(rb"\1", quoted))
    return ContentType(media_type.group().decode("ascii").lower(), parameters)


def parts(message: Message) -> tuple[Message, ...]:
    """The parts of a multipart message, each with its own header, without the text before and after them.

    Raises:
        Unreadable: there is no boundary, no part, more than `PARTS`, or the last one has no end.
    """
    boundary = content_type(message).parameters.get("boundary", b"")
    if not 0 < len(boundary) <= BOUNDARY_OCTETS:
        raise Unreadable("no boundary")
    delimiter = re.compile(rb"\r\n--%s(--)?[ \t]*+(?=\r\n|\Z)" % re.escape(boundary))
    body = b"\r\n" + message.content[message.body_offset :]
    messages = []
    start = -1
    for line in islice(delimiter.finditer(body), PARTS + 1):
        if start >= 0:
            messages.append(Message(body[start : line.start()]))
        if line.group(1):
            break
        start = line.end() + 2
    else:
        raise Unreadable(f"more than {PARTS} parts, or no end")
    if not messages:
        raise Unreadable("no parts")
    return tuple(messages)


def decoded(part: Message) -> bytes:
    """The body of a part, its transfer encoding undone (RFC 2045 section 6), with CRLF line ends.

    Raises:
        Unreadable: the encoding is unknown or broken.
    """
    body = part.content[part.body_offset :]
    encodings = [field.value.lower() for field in part.all("content-transfer-encoding")]
    match encodings or [b"7bit"]:
        case [b"7bit" | b"8bit" | b"binary"]:
            return body
        case [b"quoted-printable"]:
            plain = binascii.a2b_qp(body)
        case [b"base64"]:
            try:
                plain = binascii.a2b_base64(body)
            except binascii.Error as error:
                raise Unreadable(f"base64: {error}") from None
        case _:
            raise Unreadable("an unknown transfer encoding")
    return b"".join(line + b"\r\n" for line in plain.splitlines())
