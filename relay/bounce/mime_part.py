"""One part of a multipart message that we write (RFC 2045)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_LINE_OCTETS = 998  # RFC 5322 section 2.1.1


@dataclass(frozen=True, slots=True)
class MimePart:
    """A body with the header fields that describe it; `bytes(part)` is the whole part."""

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


def identity_encoding(body: bytes) -> Literal["7bit", "8bit"]:
    """The transfer encoding of a body that stays as it is."""
    return "7bit" if body.isascii() else "8bit"


def is_transportable(body: bytes) -> bool:
    """Whether a body may stay as it is, in 7bit or 8bit (RFC 2045 section 2.8): no NUL, no line over 998 octets."""
    return b"\0" not in body and all(len(line) <= _LINE_OCTETS for line in body.split(b"\r\n"))
