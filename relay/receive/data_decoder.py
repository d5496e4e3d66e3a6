"""Decodes the DATA stream block by block: its end, transparency dots and line ends, and the message it carries.

Only CRLF.CRLF ends a message (RFC 5321 section 4.1.1.4). A bare CR or LF is never a line end, so that the next hop
cannot read two messages where we read one (SMTP smuggling). For the same reason a line that is a single dot for hosts
that drop NUL is refused. We know of no program that ends lines at other control characters.
"""

from __future__ import annotations

import re

from relay.mail.body_hash import RelaxedBodyHash
from relay.mail.message import FIRST_FIELD_WITHIN, Message
from relay.mail.reply import Refused

_END = b"\r\n.\r\n"
# A line that is a single dot without its NULs, or without those in the line ends around it. A run of NULs is one NUL
# here. `.NUL.` is such a line, because it is sent without its transparency dot as `NUL.`.
_HIDDEN_DOT = re.compile(rb"[\r\n](?:\0\.\0?|\.\0(?:\.\0?)?)[\r\n]|\r\0\n\.[\r\n]|[\r\n]\.\r\0\n")
_HIDDEN_DOT_OCTETS = 5  # the longest match without its last octet
HEADER_FIELDS = 10_000  # in one message: each costs microseconds, and usual mail has fewer than a thousand


class HiddenEndSearch:
    """Looks through the octets of a message, as they come, for a line that is a single dot for hosts that drop NUL.

    Attributes:
        found: whether there is one.
    """

    def __init__(self) -> None:
        self._seen = b"\r\n"  # the last octets, with one NUL for each run of them; a message begins with a new line
        self.found = False

    def feed(self, block: bytes) -> None:
        """Takes the next octets; where there is no NUL there is nothing to find."""
        if b"\0" in block or b"\0" in self._seen:
            block = self._seen + block
            while b"\0\0" in block:
                block = block.replace(b"\0\0", b"\0")
            self.found = self.found or _HIDDEN_DOT.search(block) is not None
            self._seen = block[-_HIDDEN_DOT_OCTETS:]
        else:
            self._seen = (self._seen + block[-_HIDDEN_DOT_OCTETS:])[-_HIDDEN_DOT_OCTETS:]


class DataDecoder:
    """Decodes the octets after 354 into message content. It holds back at most four octets.

    Attributes:
        finished: whether the end of the message has come.
        rest: the octets after the end.
        hides_end: whether a host that drops NUL would see an end where there is none.
    """

    def __init__(self) -> None:
        self._carry = b"\r\n"  # DATA begins with a new line
        self._first = True
        self._hidden_end = HiddenEndSearch()
        self.finished = False
        self.rest = b""

    @property
    def hides_end(self) -> bool:
        return self._hidden_end.found

    def feed(self, block: bytes) -> bytes:
        """Takes a block as it arrives and returns the decoded content."""
        data = self._carry + block
        end = data.find(_END)
        if end >= 0:
            self.finished = True
            self.rest = data[end + len(_END) :]
            data = data[: end + 2]
            self._hidden_end.feed(block[: len(block) - len(self.rest)])
        else:
            held_back = next(n for n in range(4, -1, -1) if data.endswith(_END[:n]))
            self._carry = data[len(data) - held_back :]
            data = data[: len(data) - held_back]
            self._hidden_end.feed(block)
        data = data.replace(b"\r\n.", b"\r\n")
        if self._first and data:
            self._first = False
            data = data[2:]
        return data


def has_bare_newline(data: bytes) -> bool:
    """Whether there is a CR without LF or a LF without CR. The decoders never split a CRLF."""
    rest = data.replace(b"\r\n", b"")
    return b"\r" in rest or b"\n" in rest


def normalize_newlines(data: bytes) -> bytes:
    """The data with every bare CR or LF as CRLF."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


class MessageBuilder:
    """Collects decoded content: checks the header once it is complete, and hashes the body while it arrives.

    Args:
        max_header: octets of header that are accepted, including the blank line.

    Attributes:
        held: the content that `take` has not returned yet.
        size: octets of content so far.
    """

    def __init__(self, max_header: int) -> None:
        self.held = bytearray()
        self.size = 0
        self._hasher: RelaxedBodyHash | None = None
        self._max_header = max_header

    def add(self, piece: bytes) -> None:
        """Takes more content.

        Raises:
            Refused: the header is past the limits.
        """
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
        """Whether the body has begun. Until then all content is needed here."""
        return self._hasher is not None

    def take(self) -> bytearray:
        """Returns the content that is held; from now on the caller keeps it."""
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
        """The hash of the body, after its end.

        Raises:
            Refused: the header is past the limits.
        """
        if self._hasher is None:
            self._begin_body()
            assert self._hasher is not None
        return self._hasher.digest()
