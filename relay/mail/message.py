"""A message: its octets as received, and its header fields, parsed once and shared by every stage.

The received octets are never edited. A stage returns its result as a value or as header lines, which `Message.wire`
puts on top; the body and the fields below leave as they arrived.
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
    rb"((?: (%s) [ \t]*+ : )?+"  # white space before the colon is obsolete syntax (section 4.5), but in use
    rb"[^\r]*+ (?: \r (?! \n (?! [ \t] ) ) [^\r]*+ )*+ (?: \r\n )?+)" % _NAME,
    re.VERBOSE,
)
_SOME_FIELD = re.compile(rb"^%s[ \t]*+:" % _NAME, re.MULTILINE)
_MBOX_LINES = re.compile(rb"(?:>*+From (?![ \t]*+:)[^\r\n]*+\r\n)++")
# RFC 5322 section 4.5 allows SP and HTAB before the colon. Mail::DKIM accepts other white space as well; verifiers that
# do not accept it read nothing of such a header.
_LENIENT_NAME = re.compile(rb"(%s)\s*+:" % _NAME)

_BLOCK = 65536  # octets that are hashed or copied in one piece
FIRST_FIELD_WITHIN = 65536  # octets: content without a header field in its first so many is all body


class HeaderField(NamedTuple):
    """One header field as it stands in the message.

    Attributes:
        name: in lower case; empty for a line that is no header field, which is passed on untouched as well.
        raw: the octets, with folding and final CRLF.
    """

    name: str
    raw: bytes

    @property
    def value(self) -> bytes:
        """The octets after the colon, unfolded, without the surrounding white space."""
        return self.raw.partition(b":")[2].replace(b"\r\n", b"").strip()

    @property
    def signed_name(self) -> str:
        """The name by which signatures cover the field, in lower case, whatever white space precedes the colon."""
        if self.name:
            return self.name
        match = _LENIENT_NAME.match(self.raw)
        return match[1].decode("ascii").lower() if match is not None else ""


@dataclass(frozen=True)
class Message:
    """A message: header and body, with CRLF line endings throughout. What is read from it is computed once.

    Args:
        content: header and body.
        body_hash: SHA-256 of the relaxed body where it is known already; otherwise it is computed on first use.
    """

    content: bytes
    body_hash: bytes | None = field(default=None, compare=False)

    @cached_property
    def body_offset(self) -> int:
        """The offset of the body. A message without any header field is all body (RFC 5322 section 2.1)."""
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
        """Whether there is a header. If not, a blank line must separate the fields that we add from the body."""
        return self.body_offset > 0 or not self.content

    @cached_property
    def fields(self) -> tuple[HeaderField, ...]:
        """The header fields from top to bottom, including lines that are no field (with an empty name)."""
        end = self.body_offset
        if self.content[end - 4 : end] == b"\r\n\r\n" or self.content[:end] == b"\r\n":
            end -= 2
        matches = _FIELD.findall(self.content[:end])
        return tuple([HeaderField(name.decode("ascii").lower(), raw) for raw, name in matches if raw])

    def all(self, name: str) -> tuple[HeaderField, ...]:
        """The fields with a name, from top to bottom; the case of the name does not matter."""
        return self._named.get(name.lower(), ())

    @cached_property
    def _named(self) -> Mapping[str, tuple[HeaderField, ...]]:
        named: dict[str, list[HeaderField]] = {}
        for header_field in self.fields:
            named.setdefault(header_field.name, []).append(header_field)
        return {name: tuple(fields) for name, fields in named.items()}

    @property
    def relaxed_body_hash(self) -> bytes:
        """SHA-256 of the body in relaxed canonicalization, computed at most once."""
        return self.hashed_body("relaxed")

    def hashed_body(self, canonicalization: Canonicalization) -> bytes:
        """SHA-256 of the body, computed at most once. 25 MB take a tenth of a second: use a thread for those."""
        if canonicalization == "relaxed" and self.body_hash is not None:
            return self.body_hash
        return self._body_hasher(canonicalization).digest()

    def body_octets(self, canonicalization: Canonicalization) -> int:
        """The length of the canonical body, as `l=` counts it (RFC 6376 section 3.5). It takes as long as the hash."""
        return self._body_hasher(canonicalization).octets

    @cached_property
    def _hashers(self) -> dict[Canonicalization, SimpleBodyHash | RelaxedBodyHash]:
        return {}

    def _body_hasher(self, canonicalization: Canonicalization) -> SimpleBodyHash | RelaxedBodyHash:
        hasher = self._hashers.get(canonicalization)
        if hasher is None:
            hasher = SimpleBodyHash() if canonicalization == "simple" else RelaxedBodyHash()
            for block in self._blocks(self.body_offset):
                hasher.feed(block)
            self._hashers[canonicalization] = hasher
        return hasher

    def _blocks(self, start: int) -> Iterator[bytes]:
        """The content from an offset on, in pieces so small that a thread that hashes them lets other threads run."""
        return (self.content[at : at + _BLOCK] for at in range(start, len(self.content), _BLOCK))

    def without(self, dropped: Iterable[HeaderField]) -> Message:
        """The same message without these fields, compared by identity. Used for fields that pretend to be ours only."""
        dropped_ids = {id(f) for f in dropped}
        if not dropped_ids:
            return self
        kept = tuple([f for f in self.fields if id(f) not in dropped_ids])
        edited = self.with_header(b"".join([f.raw for f in kept]))
        removed = sum(len(f.raw) for f in self.fields if id(f) in dropped_ids)
        if self.body_offset - edited.body_offset == removed:
            edited.__dict__["fields"] = kept  # saves parsing them again; wrong where what is left is no header
        return edited

    @cached_property
    def is_cut_short(self) -> bool:
        """Whether the header has a line that is no field. Python's email and Postfix end the header there.

        A first line that begins with white space does not count: it continues the field that we put on top.
        """
        return any(f.raw[:1] not in (b" ", b"\t") for f in self.all(""))

    def without_mbox_lines(self) -> Message:
        """The same message without the `From ` or `>From ` lines of an mbox file at its top.

        Below our fields they would be lines that are no field. No signature can cover them.
        """
        lines = _MBOX_LINES.match(self.content) if self.body_offset else None
        if lines is None:
            return self
        header = b"".join(f.raw for f in self.fields)
        return self.with_header(header[lines.end() :])

    def with_header(self, header: bytes) -> Message:
        """The same body with another header. It is not hashed again."""
        header_end = sum(len(f.raw) for f in self.fields)
        edited = Message(b"".join([header, *self._blocks(header_end)]))
        same_body = len(edited.content) - edited.body_offset == len(self.content) - self.body_offset
        return Message(edited.content, self.relaxed_body_hash) if same_body else edited

    def wire(self, prepended: bytes = b"") -> Iterator[bytes]:
        """Yields the octets to send: the prepended fields, a blank line where there is no header, the content.

        Content that begins with white space continues the last prepended field, which therefore must be one that no
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
        """Whether the header has octets above 127, so that the message needs SMTPUTF8 (RFC 6532) when it is sent."""
        return not self.content[: self.body_offset].isascii()
