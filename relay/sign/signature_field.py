"""Writes a signature field of DKIM or ARC: a folded tag list that ends with the signature over everything before it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from functools import lru_cache

from relay.mail.body_hash import Canonicalization
from relay.sign.covered_fields import CoveredFields
from relay.sign.keys import SigningKey

_COLUMNS = 78  # RFC 5322 section 2.1.1, without the CRLF
_NEXT_LINE = "\r\n "
_TAG_OCTETS = 1024  # of all tags but `h=` and `b=`: the longest domain and selector, and 400 more
_NAMES = 50  # in `h=` from which on the text of it is not kept: ordinary mail has 20


def message_signature(
    name: str, first: str, covered: CoveredFields, body_hash: str, key: SigningKey, now: int
) -> bytes:
    """A whole DKIM-Signature or ARC-Message-Signature with its CRLF; the body is relaxed.

    Args:
        first: its first tag.
        now: seconds since 1970, for `t=`.
    """
    canonicalization = covered.canonicalization
    tags = fold(
        [
            f"{name}:",
            first,
            f" a={key.algorithm};",
            f" c={canonicalization}/relaxed;",
            f" d={key.domain};",
            f" s={key.selector};",
            f" t={now};",
        ]
    )
    text = f"{tags}{_NEXT_LINE}{_names_tag(covered.names)}{_NEXT_LINE}bh={body_hash};"
    return signed_field(name, text, covered.header, key, canonicalization)


def signed_field(
    name: str, text: str, header: bytes, key: SigningKey, canonicalization: Canonicalization = "relaxed"
) -> bytes:
    """The whole field with its CRLF.

    Args:
        text: the field up to `b=`, folded into lines that are not too long; each tag has its separator at its end.
        header: the canonical octets that are signed before the field itself.
        canonicalization: of the header, and so of this field as well.
    """
    column = len(text) - text.rfind("\n") - 1
    field = canonical = f"{text} b=" if column + len(" b=") < _COLUMNS else f"{text}{_NEXT_LINE}b="
    if canonicalization == "relaxed":
        canonical = f"{name.lower()}:" + field.replace("\r\n ", " ").removeprefix(f"{name}: ")
    signature = base64.b64encode(key.sign(header + canonical.encode("ascii"))).decode("ascii")
    room = _COLUMNS - (len(field) - field.rfind("\n") - 1)
    lines = [signature[:room]]
    lines += [signature[start : start + _COLUMNS - 1] for start in range(room, len(signature), _COLUMNS - 1)]
    return f"{field}{_NEXT_LINE.join(lines)}\r\n".encode("ascii")


def field_octets(key: SigningKey) -> int:
    """The greatest length of a field without `h=`, to announce a message's size (RFC 1870) before it is signed."""
    return _TAG_OCTETS + key.signature_octets * 3 // 2


def fold(pieces: Iterable[str]) -> str:
    """Text without a final CRLF, folded between the pieces into lines of at most 78 octets where possible."""
    lines, line = [], ""
    for piece in pieces:
        if line and len(line) + len(piece) > _COLUMNS:
            lines.append(line)
            line = " " + piece.lstrip(" ")
        else:
            line += piece
    return "\r\n".join([*lines, line])


def _names_tag(names: Sequence[str]) -> str:
    """The tag `h=` for a line of its own, without the white space that begins the line."""
    return (_usual_names_tag if len(names) <= _NAMES else _folded_names)(names)


def _folded_names(names: Sequence[str]) -> str:
    first, *others = [*[f"{name}:" for name in names[:-1]], f"{names[-1]};"]
    return fold([f" h={first}", *others])[1:]


_usual_names_tag = lru_cache(maxsize=64)(_folded_names)  # most mail has one of a few headers
