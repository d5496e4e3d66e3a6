"""Authentication-Results that only pretend to be ours (RFC 8601 section 5): none may reach a reader behind us."""

from __future__ import annotations

import re
from collections.abc import Collection

from relay.address import normal_domain
from relay.message import HeaderField, Message

SCANNED_OCTETS = 32768  # of Authentication-Results in one message; real ones stay far below

_PIECE = re.compile(r'\\.|[()";\\]|\s+|[^\\()";\s]+', re.DOTALL)
_SIGNED_FIELDS = re.compile(rb"(?:^|;)\s*h\s*=([^;]*)")


def strip_forged(
    message: Message, authserv_id: str, believed: Collection[HeaderField] = ()
) -> tuple[Message, tuple[HeaderField, ...]]:
    """The message without the Authentication-Results that claim to be ours (RFC 8601 section 5), and those fields.

    The authserv-id is compared by its syntax: comments, quotes, case, a version behind it and the spelling of an
    internationalized name make no difference. Of a malformed field it is enough that our name could be read from it,
    and past `SCANNED_OCTETS` every one is taken for forged.

    Args:
        believed: fields that stay: those of a trusted client's MTA, which may have our name if it shares our host.
    """
    ours = normal_domain(authserv_id)
    forged: list[HeaderField] = []
    scanned = 0
    for field in message.all("authentication-results"):
        scanned += len(field.raw)
        if field in believed:
            continue
        if scanned > SCANNED_OCTETS or _names(field.value.decode("utf-8", "replace"), ours):
            forged.append(field)
    return message.without(forged), tuple(forged)


def are_signed(message: Message) -> bool:
    """Whether a DKIM signature covers Authentication-Results (`h=`, RFC 6376 section 3.5): without them it fails."""
    found = (_SIGNED_FIELDS.search(field.value.lower()) for field in message.all("dkim-signature"))
    return any(b"authentication-results" in re.split(rb"[:\s]+", tag[1]) for tag in found if tag)


def _names(value: str, ours: str) -> bool:
    words = _words_before_results(value)
    if len(words) > 1 and words[-1].isdigit():
        words.pop()  # the version
    longest = len(ours) + 1  # a final dot; the name with U-labels is shorter
    return any(len(name) <= longest and normal_domain(name) == ours for name in ("".join(words), *words[:1]))


def _words_before_results(value: str) -> list[str]:
    """What stands before the first semicolon, without comments and quotes."""
    words, depth, quoted = [""], 0, False
    for piece in _PIECE.findall(value):
        if depth:
            depth += {"(": 1, ")": -1}.get(piece, 0)
        elif piece == '"':
            quoted = not quoted
        elif quoted:
            words[-1] += piece[1:] if len(piece) > 1 and piece[0] == "\\" else piece
        elif piece == ";":
            break
        elif piece == "(" or piece.isspace():
            depth = int(piece == "(")
            words.append("")
        else:
            words[-1] += piece
    if depth or quoted:  # never closed: a lenient reader may see what stands behind it
        return _words_before_results(re.sub(r'[()"]', " ", value))
    return [word for word in words if word]
