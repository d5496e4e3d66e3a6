"""Writes a signature field of DKIM or ARC: a folded tag list that ends with the signature over everything before it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

from relay.mail.body_hash import Canonicalization
from relay.sign.covered_fields import CoveredFields
from relay.sign.keys import SigningKey

_COLUMNS = 78  # RFC 5322 section 2.1.1, without the CRLF
_NEXT_LINE = "\r\n "
_TAG_OCTETS = 1024  # of all tags but `h=` and `b=`: the longest domain and selector, and 400 more


def signed_field(
    name: str, tags: Iterable[str], header: bytes, key: SigningKey, canonicalization: Canonicalization = "relaxed"
) -> bytes:
    """The whole field with its CRLF.

    Args:
        tags: all but `b=`, in pieces between which the field may be folded; each piece has its separator at its end.
        header: the canonical octets that are signed before the field itself.
        canonicalization: of the header, and so of this field as well.
    """
    field = canonical = fold([f"{name}:", *tags, " b="])
    if canonicalization == "relaxed":
        canonical = f"{name.lower()}:" + field.replace("\r\n ", " ").removeprefix(f"{name}: ")
    signature = base64.b64encode(key.sign(header + canonical.encode("ascii"))).decode("ascii")
    room = _COLUMNS - (len(field) - field.rfind("\n") - 1)
    lines = [signature[:room]]
    lines += (signature[start : start + _COLUMNS - 1] for start in range(room, len(signature), _COLUMNS - 1))
    return f"{field}{_NEXT_LINE.join(lines)}\r\n".encode("ascii")


def field_octets(key: SigningKey) -> int:
    """The greatest length of a field without `h=`, to announce a message's size (RFC 1870) before it is signed."""
    return _TAG_OCTETS + key.signature_octets * 3 // 2


def message_tags(first: str, covered: CoveredFields, body_hash: str, key: SigningKey, now: int) -> Iterator[str]:
    """The tags of DKIM-Signature and ARC-Message-Signature up to `b=`, in pieces; the body is relaxed.

    Args:
        first: the first tag, as a piece.
    """
    yield first
    yield f" a={key.algorithm};"
    yield f" c={covered.canonicalization}/relaxed;"
    yield f" d={key.domain};"
    yield f" s={key.selector};"
    yield f" t={now};"
    prefix = " h="
    for name in covered.names[:-1]:
        yield f"{prefix}{name}:"
        prefix = ""
    yield f"{prefix}{covered.names[-1]};"
    yield f" bh={body_hash};"


def fold(pieces: Iterable[str]) -> str:
    """A field without its final CRLF, folded between the pieces into lines of at most 78 octets where possible."""
    lines, line = [], ""
    for piece in pieces:
        if line and len(line) + len(piece) > _COLUMNS:
            lines.append(line)
            line = " " + piece.lstrip(" ")
        else:
            line += piece
    return "\r\n".join([*lines, line])
