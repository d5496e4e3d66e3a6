"""Removes Authentication-Results that only pretend to be ours (RFC 8601 section 5), so that no later reader sees them.

A field is forged if some reader takes its authserv-id for one of ours, however it is written: quoted, encoded, in
brackets, with octets in it that readers drop, or that end a name. A name that only contains ours is somebody else's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator

from relay.authenticate.lenient_from import DOTS, INVISIBLE, lenient_name, spellings
from relay.mail.address import normal_domain
from relay.mail.mailbox_list import decoded
from relay.mail.message import HeaderField, Message

SCANNED_OCTETS = 32768  # of Authentication-Results in one message; real ones stay far below
# Of fields that are not written plainly, and so are read in every way: a millisecond for each thousand octets.
ODD_OCTETS = 12288
ID_OCTETS = 1024  # before the first semicolon of a field: a name has 255, and comments there are rare

_ODD_FIELD_OCTETS = 200  # of `ODD_OCTETS` that a field counts for at least

_LENIENT_NAME = lenient_name("authentication-results")
_PLAIN = re.compile(rb"([\w.-]++)(?:\s++[0-9]++)?+\s*+(?:;|\Z)", re.ASCII)  # a name, and perhaps a version
_PIECE = re.compile(r'\\.|[()";\\]|[^\\()";]+', re.DOTALL)
_OPENING_MARKS = (re.compile('["]'), re.compile("[()]"), re.compile('[()"]'))
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
    """The message without the Authentication-Results that pretend to be ours, and these fields.

    Beyond `SCANNED_OCTETS` every field counts as forged, and beyond `ODD_OCTETS` every field not written plainly.

    Args:
        believed: fields that stay: those of a trusted client's MTA, which may have our name if it is on our host.
        others: further authserv-ids that no field may have.
    """
    if not message.all("authentication-results") and not message.all(""):
        return message, ()
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
        odd += max(len(field.raw), _ODD_FIELD_OCTETS) if plain is None else 0
        if scanned > SCANNED_OCTETS or odd > ODD_OCTETS:
            is_forged = True
        elif plain is not None:
            is_forged = plain[1].decode("ascii").lower().strip(".") in ours
        else:
            is_forged = _names_one_of(value, ours)
        if is_forged:
            forged.append(field)
    return message.without(forged), tuple(forged)


def are_signed(message: Message, fields: Iterable[HeaderField]) -> bool:
    """Whether a DKIM signature signs a name of these fields (`h=`, RFC 6376 section 3.5), and so fails without them."""
    names = {field.signed_name.encode() for field in fields}
    signed = (_SIGNED_FIELDS.search(field.value.lower()) for field in message.all("dkim-signature"))
    return any(not names.isdisjoint(re.split(rb"[:\s]+", found[1])) for found in signed if found)


def _names_one_of(value: bytes, ours: Collection[str]) -> bool:
    """Whether some reader may find one of these names as authserv-id, or where it cannot be told what readers find."""
    whole = value.decode("utf-8", "replace")
    text = whole[:ID_OCTETS]
    if len(whole) > len(text) and (_OPEN_WORD.search(text) or not _read(_UNSEEN.sub("", text))[1]):
        return True
    texts = {text, decoded(text)} if "=?" in text else {text}
    visible_texts = {_UNSEEN.sub(replacement, text) for text in texts for replacement in ("", " ")}
    bare_texts = {bare for text in visible_texts for bare in _before_results(text)}
    return any(_is_one_of(name, ours) for name in {name for bare in bare_texts for name in _names(bare)})


def _before_results(text: str) -> Iterator[str]:
    """What may stand before the first semicolon, without comments and quotes.

    If something is never closed, or there are only comments, a lenient reader may see their content. A reader that does
    not know quoted pairs sees backslashes.
    """
    bare, _, is_plain = _read(text)
    yield bare
    if "\\" in text:
        yield _read(text.replace("\\", " "))[0]
    if not is_plain:
        yield from (_read(marks.sub(" ", text))[0] for marks in _OPENING_MARKS)


def _read(text: str) -> tuple[str, bool, bool]:
    """Reads the text up to the first semicolon (RFC 8601 section 2.2); a semicolon with nothing before it is skipped.

    Returns the text without comments and quotes, whether the semicolon is there, and whether the text is plain: all is
    closed, and it is not empty.
    """
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
    """The names that readers may take from the text: the first run of characters of a name, also across white space,
    and all such characters together; each with and without a version."""
    words = bare.split()
    unversioned = words.copy()
    while unversioned and unversioned[-1].isdigit():
        unversioned.pop()
    for chosen in (words, unversioned):
        for text in (" ".join(chosen), "".join(chosen)):
            yield next((piece for piece in _BREAK.split(text) if piece.strip(".")), "")
        yield _BREAK.sub("", "".join(chosen))


def _is_one_of(name: str, ours: Collection[str]) -> bool:
    """Compares as domains are compared: without case, with any dot, in any spelling of an internationalized name."""
    if len(name) > ID_OCTETS:
        return False
    dotted = DOTS.sub(".", name)
    if unicodedata.normalize("NFKC", dotted).casefold().strip(".") in ours:
        return True
    international = not name.isascii() and any("xn--" in own for own in ours)
    return international and any(spelling in ours for spelling in spellings(dotted.strip(".")))
