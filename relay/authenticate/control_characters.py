"""NUL and other control characters inside an address, of which each reader makes another; nobody honest writes any.

In display names they are met: raw ISO-2022-JP is full of escapes. RFC 5322 section 4 knows controls from old mail in
comments, quoted strings and text, never in an address.
"""

from __future__ import annotations

import re

from relay.authenticate.author import from_fields
from relay.mail.message import HeaderField, Message
from relay.mail.reply import Refused

_CONTROL = re.compile(rb"[\0-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")  # C0 but for the tab, DEL, and C1 in UTF-8
# Text of another character set within ISO 2022, in which any printable octet may stand: `@` and `<` as well.
_SHIFTED = re.compile(
    rb"(?:\x1b(?:\$[()*+]?[@-Z]|\(I)|\x0e)(?:[\t -~\xa0-\xff]|\x1b(?:\$|\(I))*+(\x1b\([A-HJ-Z]|\x0f|\Z)?+"
)
# Every octet is looked at by few of these: what is never closed goes to the end at once.
_ASIDE = re.compile(
    rb"""  (?P<pair> \\. )
        | \( (?: [^()\\] | \\. )*+ \)                            # a comment
        | (?P<local> " (?: [^"\\] | \\. )*+ " (?= [ \t]*+ @ ) )  # a quoted local part
        | " (?: [^"\\] | \\. )*+ "                               # a name
        | (?P<open> " (?: [^"\\] | \\. )*+ \\?+ \Z )""",
    re.VERBOSE | re.DOTALL,
)
# RFC 5322 section 4.4: white space around dots and the at sign.
_AROUND = re.compile(rb"(?<![ \t])[ \t]*+([.@])[ \t]*+")
_ADDRESS = re.compile(rb'<[^<>]*+>|(?:"(?:[^"\\]|\\.)*+"|[^ \t<>,;:()"]++)++', re.DOTALL)


def refuse_controls(message: Message) -> None:
    """Look at From, Sender and Reply-To.

    Raises:
        Refused: 550 5.6.0, one of them has a control character inside an address.
    """
    fields = [("From", field) for field in from_fields(message)]
    fields += [(name, field) for name in ("Sender", "Reply-To") for field in message.all(name)]
    for name, field in fields:
        if has_control_in_address(field):
            raise Refused(550, "5.6.0", f"{name} has NUL or another control character inside an address")


def has_control_in_address(field: HeaderField) -> bool:
    """Whether a control character stands in what angle brackets hold, or in a word with an at sign."""
    value = field.raw.partition(b":")[2].replace(b"\r\n", b"")
    if not _CONTROL.search(value):
        return False
    value = _ASIDE.sub(_what_stays, _SHIFTED.sub(_without_shifted, value))
    words = (word[0] for word in _ADDRESS.finditer(_AROUND.sub(rb"\1", value)))
    return any(_CONTROL.search(word) for word in words if word[0:1] == b"<" or b"@" in word)


def _without_shifted(found: re.Match[bytes]) -> bytes:
    """Text in another character set becomes one control; what a control ends before its time is none."""
    return found[0] if found[1] is None else b"\x1b"


def _what_stays(found: re.Match[bytes]) -> bytes:
    """Nothing of comments and names. What a quotation mark without an end holds is no name, and may be an address.

    Quotation marks stand in what is left only around a local part, and so each has its partner.
    """
    return found["local"] or (found["pair"] or found["open"] or b" ").replace(b'"', b" ")
