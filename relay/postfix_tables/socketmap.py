"""The protocol of socketmap_table(5): netstrings of `map SPACE key`, answered by netstrings of `STATUS SPACE text`.

A netstring is its length in decimal digits, a colon, that many octets, and a comma.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.postfix_tables.request import KEPT_OCTETS, MAPS, REQUEST_OCTETS, Answer, BadRequest, Map, Request

_LENGTH_DIGITS = len(str(REQUEST_OCTETS))


class Socketmap:
    """The server's side of one connection.

    Args:
        only: the one map that is answered; None for both.
    """

    def __init__(self, only: Map | None = None) -> None:
        self._maps = {name.encode("ascii"): name for name in MAPS if only in (None, name)}
        self._digits = b""
        self._missing = -1  # octets until the netstring ends, its comma included; -1 while its length is read
        self._content = bytearray()  # its beginning

    @property
    def begun(self) -> bool:
        return self._missing >= 0 or bool(self._digits)

    def feed(self, data: bytes) -> Iterator[Request | BadRequest]:
        while data:
            if self._missing < 0:
                digits, colon, data = data.partition(b":")
                self._digits += digits[: _LENGTH_DIGITS + 1]
                if (problem := self._length_problem(bool(colon))) is not None:
                    yield problem
                    return
                if not colon:
                    return
                self._missing = int(self._digits) + 1
            part, data = data[: self._missing], data[self._missing :]
            self._missing -= len(part)
            self._content += part[: KEPT_OCTETS - len(self._content)]
            if self._missing:
                return
            if part[-1:] != b",":
                yield BadRequest("a netstring ends with a comma", final=True)
                return
            content = bytes(self._content[: int(self._digits)])
            self._digits, self._missing = b"", -1
            self._content.clear()
            yield self._request(content)

    def _length_problem(self, complete: bool) -> BadRequest | None:
        if self._digits.isdigit() and len(self._digits) <= _LENGTH_DIGITS and int(self._digits) <= REQUEST_OCTETS:
            return None
        if self._digits.isdigit():
            return BadRequest(f"a request has at most {REQUEST_OCTETS} octets", final=True)
        return BadRequest("a netstring begins with its length", final=True) if self._digits or complete else None

    def _request(self, content: bytes) -> Request | BadRequest:
        name, space, key = content.partition(b" ")
        if not space:
            return BadRequest("a request is the name of a map, a space and a key")
        if name not in self._maps:
            return BadRequest(f"no such map: there is {' and '.join(self._maps.values())}")
        return Request(self._maps[name], key)

    def answer(self, answer: Answer) -> bytes:
        match answer.result:
            case "ok":
                return _netstring(f"OK {answer.address}")
            case "unavailable":
                return _netstring(f"TEMP {answer.problem}")
            case _:
                return _netstring("NOTFOUND ")

    def refusal(self, bad: BadRequest) -> bytes:
        return _netstring(f"PERM {bad.problem}")


def _netstring(text: str) -> bytes:
    content = text.encode()
    return b"%d:%s," % (len(content), content)
