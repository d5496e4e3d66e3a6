"""A message and its envelope: immutable, parsed once, shared by every stage.

The octets that came in are never edited. A stage that has something to say returns a verdict or header lines that
`Message.wire` puts on top; the body and every field below leave as they arrived.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

_NAME = rb"[!-9;-~]++"  # RFC 5322 section 3.6.8: ftext
_FIELD = re.compile(
    rb"((?: (%s) [ \t]*+ : )?+"  # white space before the colon is obsolete syntax (section 4.5) and is met
    rb"[^\r]*+ (?: \r (?! \n (?! [ \t] ) ) [^\r]*+ )*+ (?: \r\n )?+)" % _NAME,
    re.VERBOSE,
)
_SOME_FIELD = re.compile(rb"^%s[ \t]*+:" % _NAME, re.MULTILINE)
_MBOX_LINES = re.compile(rb"(?:>*+From (?![ \t]*+:)[^\r\n]*+\r\n)++")
# RFC 5322 section 4.5 has SP and HTAB before the colon. For Mail::DKIM other white space is no different, and verifiers
# to whom it is read nothing of such a header.
_LENIENT_NAME = re.compile(rb"(%s)\s*+:" % _NAME)
_BLANK = b" \t\r\n"

Canonicalization = Literal["simple", "relaxed"]  # RFC 6376 section 3.4

FIRST_FIELD_WITHIN = 65536  # octets: what has shown no header field by then is all body, without a search to its end


class HeaderField(NamedTuple):
    """One field as it stands in the message: `raw` holds its folding and its final CRLF.

    `name` is lower case, and empty for a line that is no header field (it passes through untouched all the same).
    """

    name: str
    raw: bytes

    @property
    def value(self) -> bytes:
        """What stands after the colon, unfolded, without the surrounding white space."""
        return self.raw.partition(b":")[2].replace(b"\r\n", b"").strip()

    @property
    def signed_name(self) -> str:
        """The name under which signatures cover it, lower case, with any white space before the colon; may be empty."""
        if self.name:
            return self.name
        found = _LENIENT_NAME.match(self.raw)
        return found[1].decode("ascii").lower() if found is not None else ""


class _BodyHash:
    """SHA-256 of a canonical body, fed block by block as DATA arrives.

    A block costs a few microseconds a KiB whatever is in it, so that no message, however large, holds the event loop at
    its end. Blank lines count only if something follows them: they are hashed ahead, and forgotten at the end.
    """

    def __init__(self) -> None:
        self._ahead = hashlib.sha256()
        self._ahead_octets = 0
        self._solid, self._solid_octets = self._ahead.copy(), 0

    def _hash(self, solid: bytes, blank: bytes) -> None:
        """Take canonical text, and what may turn out to be the blank end of the body."""
        if solid:
            self._ahead.update(solid)
            self._solid, self._solid_octets = self._ahead.copy(), self._ahead_octets + len(solid)
        self._ahead.update(blank)
        self._ahead_octets += len(solid) + len(blank)

    @property
    def _last(self) -> bytes:
        return b"\r\n"

    def digest(self) -> bytes:
        """The hash of what was fed."""
        result = self._solid.copy()
        result.update(self._last)
        return result.digest()

    @property
    def octets(self) -> int:
        """The length of what was hashed, as `l=` counts it (RFC 6376 section 3.5)."""
        return self._solid_octets + len(self._last)


class SimpleBodyHash(_BodyHash):
    """The hash of the body in simple canonicalization (RFC 6376 section 3.4.3); the empty body is one empty line."""

    def feed(self, block: bytes) -> None:
        solid = block.rstrip(b"\r\n")
        self._hash(solid, block[len(solid) :])


class RelaxedBodyHash(_BodyHash):
    """The hash of the body in relaxed canonicalization (RFC 6376 section 3.4.4); a body of empty lines is empty."""

    def __init__(self) -> None:
        super().__init__()
        self._tail = b""

    def feed(self, block: bytes) -> None:
        block = self._tail + block
        solid = block.rstrip(_BLANK)
        ends, line_end, tail = block[len(solid) :].rpartition(b"\r\n")
        self._hash(relaxed(solid), relaxed(ends + line_end))
        self._tail = relaxed(tail)

    @property
    def _last(self) -> bytes:
        return b"\r\n" if self._solid_octets else b""


def relaxed(lines: bytes) -> bytes:
    """Every run of white space as one space, and none before a CRLF (RFC 6376 sections 3.4.2 and 3.4.4)."""
    lines = lines.replace(b"\t", b" ")
    while b"  " in lines:
        lines = lines.replace(b"  ", b" ")
    return lines.replace(b" \r\n", b"\r\n")


@dataclass(frozen=True)
class Message:
    """The octets as received, CRLF line endings throughout, and what is read from them once.

    Args:
        content: header and body.
        body_hash: SHA-256 of the relaxed body where the receiver already knows it; computed on first use otherwise.
    """

    content: bytes
    body_hash: bytes | None = field(default=None, compare=False)

    @cached_property
    def body_offset(self) -> int:
        """Where the body begins. A message without a single header field is all body (RFC 5322 section 2.1)."""
        if self.content.startswith(b"\r\n"):
            return 2
        end = self.content.find(b"\r\n\r\n", 0, FIRST_FIELD_WITHIN)
        if not _SOME_FIELD.search(self.content, 0, FIRST_FIELD_WITHIN if end < 0 else end):
            return 0
        if end < 0:
            end = self.content.find(b"\r\n\r\n")
        return len(self.content) if end < 0 else end + 4

    @property
    def has_header(self) -> bool:
        """False where a blank line has to separate what we put on top from a content that is all body."""
        return self.body_offset > 0 or not self.content

    @cached_property
    def fields(self) -> tuple[HeaderField, ...]:
        """The header fields from top to bottom, lines that are none included (with an empty name)."""
        end = self.body_offset
        if self.content[end - 4 : end] == b"\r\n\r\n" or self.content[:end] == b"\r\n":
            end -= 2
        found = _FIELD.findall(self.content[:end])
        return tuple([HeaderField(name.decode("ascii").lower(), raw) for raw, name in found if raw])

    def all(self, name: str) -> tuple[HeaderField, ...]:
        """Every field of that name, top to bottom; case does not matter."""
        return self._named.get(name.lower(), ())

    @cached_property
    def _named(self) -> Mapping[str, tuple[HeaderField, ...]]:
        found: dict[str, list[HeaderField]] = {}
        for one in self.fields:
            found.setdefault(one.name, []).append(one)
        return {name: tuple(fields) for name, fields in found.items()}

    @property
    def relaxed_body_hash(self) -> bytes:
        """SHA-256 of the body in relaxed canonicalization, hashed at most once."""
        return self.hashed_body("relaxed")

    def hashed_body(self, canonicalization: Canonicalization) -> bytes:
        """SHA-256 of the body, computed at most once. 25 MB take a tenth of a second: ask for those in a thread."""
        if canonicalization == "relaxed" and self.body_hash is not None:
            return self.body_hash
        return self._body(canonicalization).digest()

    def body_octets(self, canonicalization: Canonicalization) -> int:
        """The length of the canonical body, as `l=` counts it (RFC 6376 section 3.5). It takes what a hash takes."""
        return self._body(canonicalization).octets

    @cached_property
    def _hashed(self) -> dict[Canonicalization, SimpleBodyHash | RelaxedBodyHash]:
        return {}

    def _body(self, canonicalization: Canonicalization) -> SimpleBodyHash | RelaxedBodyHash:
        hasher = self._hashed.get(canonicalization)
        if hasher is None:
            hasher = SimpleBodyHash() if canonicalization == "simple" else RelaxedBodyHash()
            for block in self._blocks(self.body_offset):
                hasher.feed(block)
            self._hashed[canonicalization] = hasher
        return hasher

    def _blocks(self, start: int) -> Iterator[bytes]:
        """The content from an offset on, in pieces small enough that a thread that works on them lets others run."""
        return (self.content[at : at + _BLOCK] for at in range(start, len(self.content), _BLOCK))

    def without(self, dropped: Iterable[HeaderField]) -> Message:
        """The same message without these very fields: forged Authentication-Results, the one removal of fields."""
        gone = {id(f) for f in dropped}
        if not gone:
            return self
        kept = tuple([f for f in self.fields if id(f) not in gone])
        edited = self.with_header(b"".join([f.raw for f in kept]))
        removed = sum(len(f.raw) for f in self.fields if id(f) in gone)
        if self.body_offset - edited.body_offset == removed:
            edited.__dict__["fields"] = kept  # read once, as everything; not where what is left is no header
        return edited

    @cached_property
    def is_cut_short(self) -> bool:
        """Whether the header has a line that is no field, where some readers take it to end: Python's email, Postfix.

        A first line that begins with white space is none: it continues what we put on top.
        """
        return any(f.raw[:1] not in (b" ", b"\t") for f in self.all(""))

    def without_mbox_lines(self) -> Message:
        """The same message without the `From ` or `>From ` lines that mailbox files have on top of one, and no other.

        Below fields of ours they would be lines that are no field. No signature can cover them.
        """
        lines = _MBOX_LINES.match(self.content) if self.body_offset else None
        if lines is None:
            return self
        header = b"".join(f.raw for f in self.fields)
        return self.with_header(header[lines.end() :])

    def with_header(self, header: bytes) -> Message:
        """The same body under other fields (the one edit that exists: From); it is not hashed again."""
        rest = sum(len(f.raw) for f in self.fields)
        edited = Message(b"".join([header, *self._blocks(rest)]))
        same_body = len(edited.content) - edited.body_offset == len(self.content) - self.body_offset
        return Message(edited.content, self.relaxed_body_hash) if same_body else edited

    def wire(self, prepended: bytes = b"") -> Iterator[bytes]:
        """The octets that leave: the prepended fields, a blank line where there is no header, the content.

        A content that begins with white space continues the last of the fields, so that has to be one that no
        signature covers: Received.
        """
        if prepended:
            yield prepended
        if not self.has_header:
            yield b"\r\n"
        yield self.content

    @cached_property
    def is_8bit(self) -> bool:
        """Whether the content needs 8BITMIME (RFC 6152)."""
        return not self.content.isascii()

    @cached_property
    def has_utf8_header(self) -> bool:
        """Whether a header field holds octets above 127: such a header needs SMTPUTF8 on the way out (RFC 6532)."""
        return not self.content[: self.body_offset].isascii()


_BLOCK = 65536


BodyType = Literal["7BIT", "8BITMIME"]


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
class Recipient:
    """One RCPT that was accepted: the address given, and its DSN parameters (RFC 3461)."""

    address: str
    notify: str = ""
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """MAIL and RCPT of one transaction. `sender` is empty for the null sender; `size` is what SIZE= announced."""

    sender: str
    recipients: tuple[Recipient, ...] = ()
    body: BodyType = "7BIT"
    smtputf8: bool = False
    size: int = 0
    ret: str = ""
    envid: str = ""


def digest_text(digest: bytes) -> str:
    """A digest as DKIM writes it: base64 (RFC 6376 section 3.5, `bh=`)."""
    return base64.b64encode(digest).decode("ascii")
