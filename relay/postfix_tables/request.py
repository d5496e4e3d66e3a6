"""What the protocols of the tables have in common: a request, and an answer to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

Map = Literal["forward", "reverse"]
Result = Literal["ok", "notfound", "forged", "expired", "malformed", "too-long", "unavailable"]

MAPS: tuple[Map, ...] = ("forward", "reverse")

REQUEST_OCTETS = 100_000  # of one request: what socketmap_table(5) allows a reply, and no request needs
KEPT_OCTETS = 4096  # of one request: an address of 895 octets with each of them as %XX fits; the rest is only counted


@dataclass(frozen=True, slots=True)
class Request:
    """A lookup.

    Attributes:
        key: its octets, or the first `KEPT_OCTETS` of a longer one.
    """

    map: Map
    key: bytes


@dataclass(frozen=True, slots=True)
class BadRequest:
    """What is no lookup.

    Attributes:
        final: nobody can tell where the next request begins, so the connection has to end.
    """

    problem: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a lookup.

    Attributes:
        result: "ok" with an address, "unavailable" if the client should ask again later; all others mean that there is
            no entry, and say why.
        address: what was found.
        problem: why nothing was found, for people; empty where nothing was to be found.
    """

    result: Result
    address: str = ""
    problem: str = ""


class Dialect(Protocol):
    """One side of a connection in one of the protocols: octets become requests, answers become octets."""

    def feed(self, data: bytes) -> Iterator[Request | BadRequest]:
        """The requests that these octets complete. Nothing is read after a final `BadRequest`."""
        ...

    @property
    def begun(self) -> bool:
        """Whether a request has begun that is not complete."""
        ...

    def answer(self, answer: Answer) -> bytes:
        """The reply to a lookup."""
        ...

    def refusal(self, bad: BadRequest) -> bytes:
        """The reply to what is no lookup."""
        ...
