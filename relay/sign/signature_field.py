"""A signature field as DKIM and ARC write it: a folded tag list that ends with the signature over all before it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

from relay.mail.body_hash import Canonicalization
from relay.sign.covered_fields import Coverage
from relay.sign.keys import SigningKey

_COLUMNS = 78  # RFC 5322 section 2.1.1, without the CRLF
_NEXT_LINE = "\r\n "
_TAG_OCTETS = 1024  # of the tags but `h=` and `b=`: a domain and a selector of the greatest length, and 400 more


def signed_field(
    name: str, tags: Iterable[str], header: bytes, key: SigningKey, canonicalization: Canonicalization = "relaxed"
) -> bytes:
    """The whole field with its CRLF.

    Args:
        tags: without `b=`, in the pieces between which the field may be folded; each ends with what follows it.
        header: the canonical octets that are signed before the field itself.
        canonicalization: of the header, and so of this field as well.
    """
    unsigned = canonical = fold([f"{name}:", *tags, " b="])
    if canonicalization == "relaxed":
        canonical = f"{name.lower()}:" + unsigned.replace("\r\n ", " ").removeprefix(f"{name}: ")
    signature = base64.b64encode(key.sign(header + canonical.encode("ascii"))).decode("ascii")
    room = _COLUMNS - (len(unsigned) - unsigned.rfind("\n") - 1)
    lines = [signature[:room]]
    lines += (signature[start : start + _COLUMNS - 1] for start in range(room, len(signature), _COLUMNS - 1))
    return f"{unsigned}{_NEXT_LINE.join(lines)}\r\n".encode("ascii")


def field_octets(key: SigningKey) -> int:
    """How long a field may get besides `h=`, to announce a message's size (RFC 1870) before it is signed."""
    return _TAG_OCTETS + key.signature_octets * 3 // 2


def message_tags(first: str, covered: Coverage, body_hash: str, key: SigningKey, now: int) -> Iterator[str]:
    """What DKIM-Signature and ARC-Message-Signature say of what they sign, up to `b=`; the body is relaxed.

    Args:
        first: the tag that comes first, in its piece.
    """
    yield first
    yield f" a={key.algorithm};"
    yield f" c={covered.canonicalization}/relaxed;"
    yield f" d={key.domain};"
    yield f" s={key.selector};"
    yield f" t={now};"
    head = " h="
    for name in covered.names[:-1]:
        yield f"{head}{name}:"
        head = ""
    yield f"{head}{covered.names[-1]};"
    yield f" bh={body_hash};"


def fold(pieces: Iterable[str]) -> str:
    """A field, without its final CRLF, in lines as long as they should be where the pieces allow it."""
    lines, line = [], ""
    for piece in pieces:
        if line and len(line) + len(piece) > _COLUMNS:
            lines.append(line)
            line = " " + piece.lstrip(" ")
        else:
            line += piece
    return "\r\n".join([*lines, line])
