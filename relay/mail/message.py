"""A message and its envelope: immutable, parsed once, shared by every stage.

The octets that came in are never edited. A stage that has something to say returns a verdict or header lines that
`Message.wire` puts on top; the body and every field below leave as they arrived.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from relay.mail.body_hash import Canonicalization, RelaxedBodyHash, SimpleBodyHash

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

_BLOCK = 65536  # octets that are hashed or copied in one piece
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
