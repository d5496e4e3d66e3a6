"""The SHA-256 hash of a message body in the canonicalizations of DKIM (RFC 6376 section 3.4)."""

from __future__ import annotations

import base64
import hashlib
from typing import Literal

Canonicalization = Literal["simple", "relaxed"]  # RFC 6376 section 3.4

_BLANK = b" \t\r\n"


class _BodyHash:
    """SHA-256 of a canonical body, fed block by block as DATA arrives.

    A block costs a few microseconds a KiB whatever its content, so that no message blocks the event loop at its end.
    Blank lines count only if text follows them: they are hashed in `_ahead`, which the digest leaves out.
    """

    def __init__(self) -> None:
        self._ahead = hashlib.sha256()
        self._ahead_octets = 0
        self._solid, self._solid_octets = self._ahead.copy(), 0

    def _hash(self, solid: bytes, blank: bytes) -> None:
        """Hashes canonical text, and the blank text after it, which does not count if it is the end of the body."""
        if solid:
            self._ahead.update(solid)
            self._solid, self._solid_octets = self._ahead.copy(), self._ahead_octets + len(solid)
        self._ahead.update(blank)
        self._ahead_octets += len(solid) + len(blank)

    @property
    def _last(self) -> bytes:
        """The octets that end the canonical body."""
        return b"\r\n"

    def digest(self) -> bytes:
        """The hash of everything that was fed."""
        result = self._solid.copy()
        result.update(self._last)
        return result.digest()

    @property
    def octets(self) -> int:
        """The length of the canonical body, as `l=` counts it (RFC 6376 section 3.5)."""
        return self._solid_octets + len(self._last)


class SimpleBodyHash(_BodyHash):
    """The hash of the body in simple canonicalization (RFC 6376 section 3.4.3); the empty body is one empty line."""

    def feed(self, block: bytes) -> None:
        """Takes the next octets of the body."""
        solid = block.rstrip(b"\r\n")
        self._hash(solid, block[len(solid) :])


class RelaxedBodyHash(_BodyHash):
    """The hash of the body in relaxed canonicalization (RFC 6376 section 3.4.4); a body of empty lines is empty."""

    def __init__(self) -> None:
        super().__init__()
        self._tail = b""

    def feed(self, block: bytes) -> None:
        """Takes the next octets of the body."""
        block = self._tail + block
        solid = block.rstrip(_BLANK)
        ends, line_end, tail = block[len(solid) :].rpartition(b"\r\n")
        self._hash(relaxed(solid), relaxed(ends + line_end))
        self._tail = relaxed(tail)

    @property
    def _last(self) -> bytes:
        return b"\r\n" if self._solid_octets else b""


def relaxed(lines: bytes) -> bytes:
    """Lines with each run of white space as one space, and none before CRLF (RFC 6376 sections 3.4.2 and 3.4.4)."""
    lines = lines.replace(b"\t", b" ")
    while b"  " in lines:
        lines = lines.replace(b"  ", b" ")
    return lines.replace(b" \r\n", b"\r\n")


def digest_text(digest: bytes) -> str:
    """A digest as DKIM writes it: base64 (RFC 6376 section 3.5, `bh=`)."""
    return base64.b64encode(digest).decode("ascii")
