"""Authentication-Results that only pretend to be ours (RFC 8601 section 5): none may reach a reader behind us.

What some reader takes for a name of ours is one, however it is written: quoted, encoded, in brackets, with octets in it
that are dropped, or that end a name. Names that only have ours as a part are other people's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator

from relay.authenticate.lenient_from import DOTS, INVISIBLE, lenient_name, spellings
from relay.mail.address import normal_domain
from relay.mail.mailbox_list import decoded
from relay.mail.message import HeaderField, Message

SCANNED_OCTETS = 32768  # of Authentication-Results in one message; real ones stay far below
# Of those that are not written plainly, which are looked at closely: a millisecond for each thousand.
ODD_OCTETS = 12288
ID_OCTETS = 1024  # before the first semicolon of a field: a name has 255, and comments there are rare

_AT_LEAST = 200  # octets of `ODD_OCTETS` that a field takes, however short it is

_LENIENT_NAME = lenient_name("authentication-results")
_PLAIN = re.compile(rb"([\w.-]++)(?:\s++[0-9]++)?+\s*+(?:;|\Z)", re.ASCII)  # a name, and perhaps a version
_PIECE = re.compile(r'\\.|[()";\\]|[^\\()";]+', re.DOTALL)
_OPENING = (re.compile('["]'), re.compile("[()]"), re.compile('[()"]'))
# An encoded word (RFC 2047) that has no end.
_OPEN_WORD = re.compile(r"=\?[^?]*+(?:\?[BQbq]?(?:\?[^?]*+)?)?\Z")
_UNSEEN = re.compile(f"(?:{INVISIBLE.pattern}|[\ufffd\u0600-\u0605\u06dd\u070f])+")
# Neither part of a name nor unseen: all ASCII but letters, digits, `_`, `.` and `-`, white space, quotes and brackets.
_BREAK = re.compile(
    r"[\0-,/:-@\[-^`{-\x9f\s\xab\xb4\xbb\u2018-\u201f\u2032-\u2037\u2039\u203a\u2045\u2046\u207d\u207e\u2308-\u230b"
    r"\u2329\u232a\u2768-\u2775\u27e6-\u27ef\u2983-\u2998\u29fc\u29fd\u3008-\u3011\u3014-\u301f\ufe35-\ufe44\ufe47\ufe48"
    r"\ufe59-\ufe5e\uff02\uff07-\uff09\uff1b\uff1c\uff1e\uff3b\uff3d\uff5b\uff5d\uff5f\uff60\uff62\uff63\u037e\ufe54]+"
)
_SIGNED_FIELDS = re.compile(rb"(?:^|;)\s*h\s*=([^;]*)")


def strip_forged(
    message: Message, authserv_id: str, believed: Collection[HeaderField] = (), others: Collection[str] = ()
) -> tuple[Message, tuple[HeaderField, ...]]:
    """The message without the Authentication-Results that claim to be ours (RFC 8601 section 5), and those fields.

    Past `SCANNED_OCTETS` every field is taken for forged, and past `ODD_OCTETS` every one that is not written plainly.

    Args:
        believed: fields that stay: those of a trusted client's MTA, which may have our name if it shares our host.
        others: further ids that no field may have.
    """
    ours = frozenset(map(normal_domain, (authserv_id, *others)))
    forged: list[HeaderField] = []
    scanned = odd = 0
    for field in message.fields:
        if field.name != "authentication-results" and (field.name or not _LENIENT_NAME.match(field.raw)):
            continue
        scanned += len(field.raw)
        if field in believed:
            continue
        value = field.value
        plain = _PLAIN.match(value)
        odd += max(len(field.raw), _AT_LEAST) if plain is None else 0
        if scanned > SCANNED_OCTETS or odd > ODD_OCTETS:
            is_forged = True
        elif plain is not None:
            is_forged = plain[1].decode("ascii").lower().strip(".") in ours
        else:
            is_forged = _names_one_of(value, ours)
        if is_forged:
            forged.append(field)
    return message.without(forged), tuple(forged)


def are_signed(message: Message) -> bool:
    """Whether a DKIM signature covers Authentication-Results (`h=`, RFC 6376 section 3.5): without them it fails."""
    found = (_SIGNED_FIELDS.search(field.value.lower()) for field in message.all("dkim-signature"))
    return any(b"authentication-results" in re.split(rb"[:\s]+", tag[1]) for tag in found if tag)


def _names_one_of(value: bytes, ours: Collection[str]) -> bool:
    """Whether some reader finds one of these names where the authserv-id stands, or where that is not to be seen."""
    whole = value.decode("utf-8", "replace")
    text = whole[:ID_OCTETS]
    if len(whole) > len(text) and (_OPEN_WORD.search(text) or not _read(_UNSEEN.sub("", text))[1]):
        return True
    texts = {text, decoded(text)} if "=?" in text else {text}
    seen = {_UNSEEN.sub(instead, one) for one in texts for instead in ("", " ")}
    found = {bare for one in seen for bare in _before_results(one)}
    return any(_is_one_of(name, ours) for name in {name for bare in found for name in _names(bare)})


def _before_results(text: str) -> Iterator[str]:
    """What stands before the first semicolon, without comments and quotes.

    Where something is never closed, or nothing stands there but comments, a lenient reader may see what they hold; and
    one that knows no quoted pairs sees backslashes.
    """
    bare, _, is_plain = _read(text)
    yield bare
    if "\\" in text:
        yield _read(text.replace("\\", " "))[0]
    if not is_plain:
        yield from (_read(marks.sub(" ", text))[0] for marks in _OPENING)


def _read(text: str) -> tuple[str, bool, bool]:
    """As RFC 8601 section 2.2 has it, but that semicolons before anything else are passed over; whether there is one
    behind it; and whether all is closed and something stands there."""
    kept, depth, quoted, ended, is_plain = [""], 0, False, False, True
    for piece in _PIECE.findall(text):
        if depth:
            depth += {"(": 1, ")": -1}.get(piece, 0)
        elif piece == '"':
            quoted = not quoted
        elif piece == "(" and not quoted:
            depth = 1
            kept.append(" ")
        elif piece == ";" and not quoted:
            ended = bool("".join(kept).strip())
            if ended:
                break
            is_plain = False
        else:
            is_plain = is_plain and piece != ")"
            kept.append(piece[1:] if len(piece) > 1 and piece[0] == "\\" else piece)
    bare = "".join(kept)
    return bare, ended, is_plain and not depth and not quoted and bool(bare.strip())


def _names(bare: str) -> Iterator[str]:
    """What may be the name: the first run of what names have, also over white space, and all of it together; each also
    without a version."""
    words = bare.split()
    named = words.copy()
    while named and named[-1].isdigit():
        named.pop()
    for some in (words, named):
        for text in (" ".join(some), "".join(some)):
            yield next((piece for piece in _BREAK.split(text) if piece.strip(".")), "")
        yield _BREAK.sub("", "".join(some))


def _is_one_of(name: str, ours: Collection[str]) -> bool:
    """Compared as domains are: without case, with any dot, in any spelling of an internationalized name."""
    if len(name) > ID_OCTETS:
        return False
    dotted = DOTS.sub(".", name)
    if unicodedata.normalize("NFKC", dotted).casefold().strip(".") in ours:
        return True
    international = not name.isascii() and any("xn--" in one for one in ours)
    return international and any(one in ours for one in spellings(dotted.strip(".")))
