"""What a signature of DKIM (RFC 6376) or ARC (RFC 8617) covers: the fields it names, itself without `b=`, the body.

Every header field is canonicalized once for all signatures of a message, and its body hashed once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from relay.authenticate.author import from_fields
from relay.mail.body_hash import Canonicalization, relaxed
from relay.mail.message import HeaderField, Message
from relay.mail.off_loop import LARGE
from relay.mail.tag_list import Unverified, number, octets, require, words

NAMES = 1000  # of fields that one signature signs; honest ones have up to 60
ALGORITHMS = ("rsa-sha256", "ed25519-sha256")  # RFC 6376 section 3.3.2, RFC 8463 section 3

_FWS = b" \t\r\n"
T = TypeVar("T")
_CANONICALIZATIONS: dict[str, Canonicalization] = {"simple": "simple", "relaxed": "relaxed"}


def require_algorithm(algorithm: str) -> None:
    """Raises: Unverified, if it is none that verifiers may accept (`a=`)."""
    if algorithm == "rsa-sha1":
        raise Unverified("policy", "rsa-sha1 proves nothing (RFC 8301)")
    if algorithm not in ALGORITHMS:
        raise Unverified("permerror", f"unknown algorithm: {algorithm[:40]!r}")


def require_usable(tags: Mapping[str, str], now: float) -> None:
    """Raises: Unverified, if the key is not in DNS (`q=`), or if the signature is out of time (`t=`, `x=`)."""
    if "dns/txt" not in words(tags.get("q", "dns/txt")):
        raise Unverified("permerror", "its key is not in DNS (q=)")
    signed, expires = number(tags, "t"), number(tags, "x")
    if expires is None:
        return
    if signed is not None and expires <= signed:
        raise Unverified("permerror", "it expires (x=) before it was made (t=)")
    if expires < now:
        raise Unverified("permerror", f"it expired {_age(now - expires)} ago")


def _age(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86400)
    return f"{days} d" if days else f"{rest // 60} min"


def require_one_author(message: Message) -> None:
    """Raises: Unverified, if a reader may see another From than the signed one, or none (RFC 6376 section 8.15)."""
    authors = len(from_fields(message)) if message.all("from") else 0
    if authors != 1:
        raise Unverified("policy", f"the message has {authors or 'no'} From field{'s' if authors else ''}")


@dataclass(frozen=True, slots=True)
class Coverage:
    """What DKIM-Signature and ARC-Message-Signature say of the octets they sign (RFC 6376 section 3.5).

    Attributes:
        header, body: canonicalizations (`c=`).
        names: of the signed fields, lower case, in their order (`h=`).
        body_hash: `bh=`.
        length: octets of the canonical body that are signed (`l=`); None for all.
    """

    header: Canonicalization
    body: Canonicalization
    names: tuple[str, ...]
    body_hash: bytes
    length: int | None


def coverage(tags: Mapping[str, str], default: str = "simple/simple") -> Coverage:
    """What the tags `c`, `h`, `bh` and `l` say.

    Args:
        default: for `c`.

    Raises:
        Unverified: `h` or `bh` is missing, one of them is malformed, or `h` has more than `NAMES`.
    """
    require(tags, "bh")
    if "h" not in tags:
        raise Unverified("permerror", "h= is missing")
    if tags["h"].count(":") >= NAMES:
        raise Unverified("policy", f"more than {NAMES} fields are signed (h=)")
    header, slash, body = tags.get("c", default).partition("/")
    try:
        header_way, body_way = _CANONICALIZATIONS[header], _CANONICALIZATIONS[body if slash else "simple"]
    except KeyError:
        raise Unverified("permerror", f"unknown canonicalization: {tags['c'][:40]!r}") from None
    return Coverage(header_way, body_way, tuple(words(tags["h"].lower())), octets(tags, "bh"), number(tags, "l"))


async def check_body(message: Message, covered: Coverage) -> None:
    """Whether the body is the one that was signed, and signed to its end.

    What stands behind the end of a partial signature is anybody's (RFC 6376 section 8.2): such a signature does not
    count, and is not computed.

    Raises:
        Unverified: it is not.
    """
    if covered.length is not None:
        there = await _aside(message, message.body_octets, covered.body)
        if covered.length > there:
            raise Unverified("permerror", f"l={covered.length}, and the body has {there} octets only")
        if covered.length < there:
            raise Unverified("policy", f"only {covered.length} of the {there} octets of the body are signed (l=)")
    if await _aside(message, message.hashed_body, covered.body) != covered.body_hash:
        raise Unverified("fail", "the body was changed after it was signed")


async def _aside(message: Message, ask: Callable[[Canonicalization], T], way: Canonicalization) -> T:
    return await asyncio.to_thread(ask, way) if len(message.content) >= LARGE else ask(way)


class Header:
    """The header of a message as its signatures see it."""

    def __init__(self, message: Message) -> None:
        self._positions: dict[str, list[int]] = {}
        self._fields = message.fields
        for position in reversed(range(len(self._fields))):
            self._positions.setdefault(self._fields[position].signed_name, []).append(position)
        self._relaxed: dict[int, bytes] = {}

    def signed(self, covered: Coverage, signature: HeaderField) -> bytes:
        """The octets that `signature`, one of the fields, is a signature of (RFC 6376 section 3.7).

        Names are taken from the bottom up, once for each time that they are listed (section 5.4.2); a name that is
        listed more often than it is there adds nothing. The signature itself comes last, never for its name.
        """
        pieces = []
        unused = {name: iter(self._positions.get(name, ())) for name in covered.names if name}
        for name in covered.names:
            for position in unused.get(name, ()):
                if self._fields[position] is not signature:
                    pieces.append(self._canonical(position, covered.header))
                    break
        own = unsigned(signature)
        pieces.append(relaxed_field(own) if covered.header == "relaxed" else own)
        return b"".join(pieces)

    def _canonical(self, position: int, way: Canonicalization) -> bytes:
        if way == "simple":
            return self._fields[position].raw
        canonical = self._relaxed.get(position)
        if canonical is None:
            canonical = self._relaxed[position] = relaxed_field(self._fields[position].raw) + b"\r\n"
        return canonical


def relaxed_field(raw: bytes) -> bytes:
    """A field in relaxed canonicalization (RFC 6376 section 3.4.2), without its CRLF."""
    name, _, value = raw.partition(b":")
    return b"%s:%s" % (name.strip().lower(), relaxed(value.replace(b"\r\n", b"")).strip(b" "))


def unsigned(signature: HeaderField) -> bytes:
    """A signature field octet for octet, with nothing between `b=` and what follows it, and without its CRLF."""
    name, colon, value = signature.raw.removesuffix(b"\r\n").partition(b":")
    specs = value.split(b";")
    for index, spec in enumerate(specs):
        tag, equals, _ = spec.partition(b"=")
        if tag.strip(_FWS) == b"b":
            specs[index] = tag + equals
    return name + colon + b";".join(specs)
