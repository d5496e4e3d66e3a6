"""The protocol of tcp_table(5): lines of `get SPACE key`, answered by lines of `CODE SPACE text`.

The percent sign, white space and what cannot be printed are written as %XX. One table has one map.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.postfix_tables.request import KEPT_OCTETS, REQUEST_OCTETS, Answer, BadRequest, Map, Request

REPLY_OCTETS = 4096  # tcp_table(5), newline included
_ENCODED = re.compile(rb"%(?:([0-9A-Fa-f]{2})|)")
_TO_ENCODE = re.compile(rb"[^!-$&-~]")
_TO_ENCODE_IN_TEXT = re.compile(rb"[^ -$&-~]")


class TcpTable:
    """The server's side of one connection."""

    def __init__(self, direction: Map) -> None:
        self._map: Map = direction
        self._length = 0  # of the line so far
        self._line = bytearray()  # its beginning

    @property
    def begun(self) -> bool:
        return self._length > 0

    def feed(self, data: bytes) -> Iterator[Request | BadRequest]:
        while data:
            part, newline, data = data.partition(b"\n")
            self._length += len(part)
            self._line += part[: KEPT_OCTETS - len(self._line)]
            if self._length > REQUEST_OCTETS:
                yield BadRequest(f"a request has at most {REQUEST_OCTETS} octets", final=True)
                return
            if not newline:
                return
            line, whole = bytes(self._line), self._length <= KEPT_OCTETS
            self._length = 0
            self._line.clear()
            yield self._request(line.removesuffix(b"\r"), whole)

    def _request(self, line: bytes, whole: bool) -> Request | BadRequest:
        command, space, key = line.partition(b" ")
        if command.lower() != b"get" or not space:
            return BadRequest("a request is: get, a space, a key")
        if not whole:
            return Request(self._map, key)  # it is no address, whatever its escapes stand for
        if any(not escape[1] for escape in _ENCODED.finditer(key)):
            return BadRequest("a percent sign is followed by two hexadecimal digits")
        return Request(self._map, _ENCODED.sub(lambda escape: bytes([int(escape[1], 16)]), key))

    def answer(self, answer: Answer) -> bytes:
        match answer.result:
            case "ok":
                reply = b"200 %s\n" % _encoded(answer.address, _TO_ENCODE)
                return reply if len(reply) <= REPLY_OCTETS else _line(500, "the answer is too long")
            case "unavailable":
                return _line(400, answer.problem)
            case _:
                return _line(500, answer.problem or "not found")

    def refusal(self, bad: BadRequest) -> bytes:
        return _line(400, bad.problem)


def _line(code: int, text: str) -> bytes:
    """A reply with a text for people, whose spaces stay."""
    return b"%d %s\n" % (code, _encoded(text, _TO_ENCODE_IN_TEXT))


def _encoded(text: str, octets: re.Pattern[bytes]) -> bytes:
    return octets.sub(lambda octet: b"%%%02x" % octet[0][0], text.encode())
