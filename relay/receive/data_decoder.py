"""The DATA stream, block by block: where it ends, its transparency dots and line ends, and the message it makes.

Only CRLF.CRLF ends a message (RFC 5321 section 4.1.1.4); a bare CR or LF is never a line end, so that nothing that we
take for one message can be taken for two by the next hop. For the same reason no line may be a single dot for a host
that drops NUL. Other control characters end no line anywhere that we know of.
"""

from __future__ import annotations

import re

from relay.mail.body_hash import RelaxedBodyHash
from relay.mail.message import FIRST_FIELD_WITHIN, Message
from relay.mail.reply import Refused

_END = b"\r\n.\r\n"
# A line that is a single dot once NULs are dropped, theirs or those in the line ends around it; runs of NUL are one.
# `.NUL.` is among them: without its transparency dot it leaves as `NUL.`.
_HIDDEN_DOT = re.compile(rb"[\r\n](?:\0\.\0?|\.\0(?:\.\0?)?)[\r\n]|\r\0\n\.[\r\n]|[\r\n]\.\r\0\n")
_HIDDEN_DOT_OCTETS = 5  # of the longest, without the last one
HEADER_FIELDS = 10_000  # in one message: they cost microseconds each, and nobody writes a thousand


class DataDecoder:
    """Turns the octets after 354 into message content, with no more than four octets held back.

    `feed` takes blocks as they arrive and returns decoded content; `finished` then tells whether the end was seen,
    `rest` what came after it, and `hides_end` whether a host that drops NUL sees an end where there is none.
    """

    def __init__(self) -> None:
        self._carry = b"\r\n"  # DATA begins at the beginning of a line
        self._seen = b"\r\n"  # the last octets, with one NUL for each run of them
        self._first = True
        self.finished = False
        self.hides_end = False
        self.rest = b""

    def feed(self, block: bytes) -> bytes:
        data = self._carry + block
        end = data.find(_END)
        if end >= 0:
            self.finished = True
            self.rest = data[end + len(_END) :]
            data = data[: end + 2]
            self._look_at(block[: len(block) - len(self.rest)])
        else:
            held = next(n for n in range(4, -1, -1) if data.endswith(_END[:n]))
            self._carry = data[len(data) - held :]
            data = data[: len(data) - held]
            self._look_at(block)
        data = data.replace(b"\r\n.", b"\r\n")
        if self._first and data:
            self._first = False
            data = data[2:]
        return data

    def _look_at(self, block: bytes) -> None:
        """Look for a hidden end; without NUL there is none."""
        if b"\0" in block or b"\0" in self._seen:
            block = self._seen + block
            while b"\0\0" in block:
                block = block.replace(b"\0\0", b"\0")
            self.hides_end = self.hides_end or _HIDDEN_DOT.search(block) is not None
            self._seen = block[-_HIDDEN_DOT_OCTETS:]
        else:
            self._seen = (self._seen + block[-_HIDDEN_DOT_OCTETS:])[-_HIDDEN_DOT_OCTETS:]


def has_bare_newline(data: bytes) -> bool:
    """Whether a CR stands without LF or a LF without CR (never split over two pieces that `feed` returned)."""
    pairs = data.count(b"\r\n")
    return data.count(b"\r") != pairs or data.count(b"\n") != pairs


def normalize_newlines(data: bytes) -> bytes:
    """Every bare CR or LF as CRLF."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


class MessageBuilder:
    """Collects decoded content: looks at the header once it is there, and hashes the body while it arrives.

    Args:
        max_header: octets of header that are taken, the blank line included.

    Attributes:
        held: the content that was not taken away yet.
        size: octets of content in all.
    """

    def __init__(self, max_header: int) -> None:
        self.held = bytearray()
        self.size = 0
        self._hasher: RelaxedBodyHash | None = None
        self._max_header = max_header

    def add(self, piece: bytes) -> None:
        """Raises: Refused, for a header past the limits."""
        seen = max(0, self.size - 3)
        self.held += piece
        self.size += len(piece)
        if self._hasher is not None:
            self._hasher.feed(piece)
            return
        complete = self.held.startswith(b"\r\n") or self.held.find(b"\r\n\r\n", seen) >= 0
        if complete or self.size > max(self._max_header, FIRST_FIELD_WITHIN):
            self._begin_body()

    @property
    def in_body(self) -> bool:
        """Whether it is known where the body begins; until then all content is needed here."""
        return self._hasher is not None

    def take(self) -> bytearray:
        """The content that is held, which is kept elsewhere from now on."""
        taken, self.held = self.held, bytearray()
        return taken

    def _begin_body(self) -> None:
        start = bytes(self.held)
        offset = Message(start).body_offset
        if offset > self._max_header:
            raise Refused(552, "5.3.4", f"Message header exceeds {self._max_header} octets")
        folds = start.count(b"\r\n ", 0, offset) + start.count(b"\r\n\t", 0, offset)
        if start.count(b"\r\n", 0, offset) - folds > HEADER_FIELDS:
            raise Refused(552, "5.3.4", f"Message header has more than {HEADER_FIELDS} fields")
        self._hasher = RelaxedBodyHash()
        self._hasher.feed(start[offset:])

    def digest(self) -> bytes:
        """The hash of the body, which is at its end.

        Raises:
            Refused: the header is past the limits.
        """
        if self._hasher is None:
            self._begin_body()
            assert self._hasher is not None
        return self._hasher.digest()
