"""The DATA stream, decoded block by block: where it ends, its transparency dots, its line ends, its size.

Only CRLF.CRLF ends a message (RFC 5321 section 4.1.1.4); a bare CR or LF is never a line end, so that nothing that we
take for one message can be taken for two by the next hop.
"""

from __future__ import annotations

import re

from relay.message import Message, RelaxedBodyHash

_END = b"\r\n.\r\n"
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_HASH_FROM = 64 * 1024  # octets: smaller messages are hashed in one go when the hash is asked for


class DataDecoder:
    """Turns the octets after 354 into message content, with no more than four octets held back.

    `feed` takes blocks as they arrive and returns decoded content; `finished` then tells whether the end was seen, and
    `rest` what came after it.
    """

    def __init__(self) -> None:
        self._carry = b"\r\n"  # DATA begins at the beginning of a line
        self._first = True
        self.finished = False
        self.rest = b""

    def feed(self, block: bytes) -> bytes:
        data = self._carry + block
        end = data.find(_END)
        if end >= 0:
            self.finished = True
            self.rest = data[end + len(_END) :]
            data = data[: end + 2]
        else:
            held = next(n for n in range(4, -1, -1) if data.endswith(_END[:n]))
            self._carry = data[len(data) - held :]
            data = data[: len(data) - held]
        data = data.replace(b"\r\n.", b"\r\n")
        if self._first and data:
            self._first = False
            data = data[2:]
        return data


def has_bare_newline(data: bytes) -> bool:
    """Whether a CR stands without LF or a LF without CR (never split over two pieces that `feed` returned)."""
    pairs = data.count(b"\r\n")
    return data.count(b"\r") != pairs or data.count(b"\n") != pairs


def normalize_newlines(data: bytes) -> bytes:
    """Every bare CR or LF as CRLF."""
    return _BARE.sub(b"\r\n", data)


class MessageBuilder:
    """Collects decoded content and hashes the body of a large message while it arrives."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._hasher: RelaxedBodyHash | None = None
        self.size = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.size += len(piece)
        if self._hasher is not None:
            self._hasher.feed(piece)
        elif self.size > _HASH_FROM:
            self._begin_hash()

    def _begin_hash(self) -> None:
        so_far = b"".join(self._pieces)
        self._pieces = [so_far]
        if so_far.startswith(b"\r\n") or b"\r\n\r\n" in so_far:
            self._hasher = RelaxedBodyHash()
            self._hasher.feed(so_far[Message(so_far).body_offset :])

    def message(self) -> Message:
        """The message; its body is already hashed where it is large."""
        content = b"".join(self._pieces)
        self._pieces = []
        return Message(content, self._hasher.digest() if self._hasher is not None else None)
