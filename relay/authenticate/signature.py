"""What DKIM-Signature (RFC 6376) and ARC-Message-Signature (RFC 8617) have in common: tags, signed header, signed body.

Each header field is canonicalized once for all signatures of a message, and the body is hashed once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from relay.authenticate.author import from_fields
from relay.mail.body_hash import Canonicalization, relaxed
from relay.mail.message import HeaderField, Message
from relay.mail.off_loop import LARGE
from relay.mail.tag_list import Unverified, number, octets, require, words

NAMES = 1000  # of fields that one signature may sign; honest ones sign up to 60
ALGORITHMS = ("rsa-sha256", "ed25519-sha256")  # RFC 6376 section 3.3.2, RFC 8463 section 3

_FWS = b" \t\r\n"
T = TypeVar("T")
_CANONICALIZATIONS: dict[str, Canonicalization] = {"simple": "simple", "relaxed": "relaxed"}


def require_algorithm(algorithm: str) -> None:
    """Raises Unverified if verifiers must not accept the algorithm (`a=`)."""
    if algorithm == "rsa-sha1":
        raise Unverified("policy", "rsa-sha1 proves nothing (RFC 8301)")
    if algorithm not in ALGORITHMS:
        raise Unverified("permerror", f"unknown algorithm: {algorithm[:40]!r}")


def require_usable(tags: Mapping[str, str], now: float) -> None:
    """Raises Unverified if the key is not in DNS (`q=`), or if the signature is expired (`t=`, `x=`)."""
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
    """Raises Unverified if a reader may see another From than the signed one, or none (RFC 6376 section 8.15)."""
    authors = len(from_fields(message)) if message.all("from") else 0
    if authors != 1:
        raise Unverified("policy", f"the message has {authors or 'no'} From field{'s' if authors else ''}")


class SignedContent(NamedTuple):
    """What a signature signs, by its tags (RFC 6376 section 3.5).

    Attributes:
        header, body: canonicalizations (`c=`).
        names: names of the signed fields, in lower case and in the order of `h=`.
        body_hash: `bh=`.
        length: octets of the canonical body that are signed (`l=`); None for all.
    """

    header: Canonicalization
    body: Canonicalization
    names: tuple[str, ...]
    body_hash: bytes
    length: int | None


def signed_content(tags: Mapping[str, str], default: str = "simple/simple") -> SignedContent:
    """Reads the tags `c`, `h`, `bh` and `l`.

    Args:
        default: for `c`.

    Raises:
        Unverified: `h` or `bh` is missing, a tag is malformed, or `h` has more than `NAMES`.
    """
    require(tags, "bh")
    if "h" not in tags:
        raise Unverified("permerror", "h= is missing")
    if tags["h"].count(":") >= NAMES:
        raise Unverified("policy", f"more than {NAMES} fields are signed (h=)")
    header, slash, body = tags.get("c", default).partition("/")
    try:
        canonicalizations = _CANONICALIZATIONS[header], _CANONICALIZATIONS[body if slash else "simple"]
    except KeyError:
        raise Unverified("permerror", f"unknown canonicalization: {tags['c'][:40]!r}") from None
    names = tuple(words(tags["h"].lower()))
    return SignedContent(*canonicalizations, names, octets(tags, "bh"), number(tags, "l"))


async def check_body(message: Message, content: SignedContent) -> None:
    """Checks that the body is the one that was signed, and signed to its end.

    Anybody can add text behind a partial signature (RFC 6376 section 8.2), so a partial signature does not count, and
    its hash is not computed.

    Raises:
        Unverified: the body is another, or not signed to its end.
    """
    if content.length is not None:
        body_octets = await _of_body(message, message.body_octets, content.body)
        if content.length > body_octets:
            raise Unverified("permerror", f"l={content.length}, and the body has {body_octets} octets only")
        if content.length < body_octets:
            raise Unverified("policy", f"only {content.length} of the {body_octets} octets of the body are signed (l=)")
    if await _of_body(message, message.hashed_body, content.body) != content.body_hash:
        raise Unverified("fail", "the body was changed after it was signed")


async def _of_body(message: Message, compute: Callable[[Canonicalization], T], canonicalization: Canonicalization) -> T:
    """What is computed from the canonical body; in a thread for a large message."""
    if len(message.content) >= LARGE:
        return await asyncio.to_thread(compute, canonicalization)
    return compute(canonicalization)


class Header:
    """The header of a message, canonicalized for its signatures."""

    def __init__(self, message: Message) -> None:
        self._positions: dict[str, list[int]] = {}
        self._fields = message.fields
        for position, field in enumerate(self._fields):
            self._positions.setdefault(field.name or field.signed_name, []).append(position)
        self._relaxed: dict[int, bytes] = {}

    def signed(self, content: SignedContent, signature: HeaderField) -> bytes:
        """The octets that `signature`, one of the fields, signs (RFC 6376 section 3.7).

        Fields of one name are taken from the bottom up, one for each time that the name is listed (section 5.4.2); a
        name that is listed more often than it occurs adds nothing. The signature itself comes last, never by its name.
        """
        pieces = []
        unused = {name: reversed(self._positions.get(name, ())) for name in content.names if name}
        for name in content.names:
            for position in unused.get(name, ()):
                if self._fields[position] is not signature:
                    pieces.append(self._canonical(position, content.header))
                    break
        own = without_signature(signature)
        pieces.append(relaxed_field(own) if content.header == "relaxed" else own)
        return b"".join(pieces)

    def _canonical(self, position: int, canonicalization: Canonicalization) -> bytes:
        if canonicalization == "simple":
            return self._fields[position].raw
        canonical = self._relaxed.get(position)
        if canonical is None:
            canonical = self._relaxed[position] = relaxed_field(self._fields[position].raw) + b"\r\n"
        return canonical


def relaxed_field(raw: bytes) -> bytes:
    """A field in relaxed canonicalization (RFC 6376 section 3.4.2), without its CRLF."""
    name, _, value = raw.partition(b":")
    return b"%s:%s" % (name.strip().lower(), relaxed(value.replace(b"\r\n", b"")).strip(b" "))


def without_signature(signature: HeaderField) -> bytes:
    """A signature field as it stands, but with an empty `b=` and without its CRLF."""
    name, colon, value = signature.raw.removesuffix(b"\r\n").partition(b":")
    specs = value.split(b";")
    for index, spec in enumerate(specs):
        tag, equals, _ = spec.partition(b"=")
        if tag.strip(_FWS) == b"b":
            specs[index] = tag + equals
    return name + colon + b";".join(specs)
