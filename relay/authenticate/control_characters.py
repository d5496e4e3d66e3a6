"""Refuses control characters inside addresses: readers differ in what they make of them, and honest mail has none.

They occur in display names: raw ISO-2022-JP is full of escapes. RFC 5322 section 4 has control characters of old mail
in comments, quoted strings and text, never in an address.
"""

from __future__ import annotations

import re

from relay.authenticate.author import from_fields
from relay.mail.message import HeaderField, Message
from relay.mail.reply import Refused

_CONTROL = re.compile(rb"[\0-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")  # C0 without the tab, DEL, and C1 in UTF-8
# Text in another character set of ISO 2022, in which any printable octet may stand, `@` and `<` included.
_SHIFTED = re.compile(
    rb"(?:\x1b(?:\$[()*+]?[@-Z]|\(I)|\x0e)(?:[\t -~\xa0-\xff]|\x1b(?:\$|\(I))*+(\x1b\([A-HJ-Z]|\x0f|\Z)?+"
)
# Runs in linear time: what is never closed matches to the end of the value at once.
_NOT_ADDRESS = re.compile(
    rb"""  (?P<pair> \\. )
        | \( (?: [^()\\] | \\. )*+ \)                            # a comment
        | (?P<local> " (?: [^"\\] | \\. )*+ " (?= [ \t]*+ @ ) )  # a quoted local part
        | " (?: [^"\\] | \\. )*+ "                               # a name
        | (?P<open> " (?: [^"\\] | \\. )*+ \\?+ \Z )""",
    re.VERBOSE | re.DOTALL,
)
# RFC 5322 section 4.4: white space around dots and the at sign.
_AROUND_DOT_OR_AT = re.compile(rb"(?<![ \t])[ \t]*+([.@])[ \t]*+")
_ADDRESS = re.compile(rb'<[^<>]*+>|(?:"(?:[^"\\]|\\.)*+"|[^ \t<>,;:()"]++)++', re.DOTALL)


def refuse_control_characters(message: Message) -> None:
    """Looks at the addresses in From, Sender and Reply-To.

    Raises:
        Refused: 550 5.6.0, an address has a control character in it.
    """
    fields = [("From", field) for field in from_fields(message)]
    fields += [(name, field) for name in ("Sender", "Reply-To") for field in message.all(name)]
    for name, field in fields:
        if has_control_in_address(field):
            raise Refused(550, "5.6.0", f"{name} has NUL or another control character inside an address")


def has_control_in_address(field: HeaderField) -> bool:
    """Whether a control character stands within angle brackets, or in a word with an at sign."""
    value = field.raw.partition(b":")[2].replace(b"\r\n", b"")
    if not _CONTROL.search(value):
        return False
    value = _NOT_ADDRESS.sub(_address_part, _SHIFTED.sub(_shifted_as_control, value))
    words = (match[0] for match in _ADDRESS.finditer(_AROUND_DOT_OR_AT.sub(rb"\1", value)))
    return any(_CONTROL.search(word) for word in words if word[0:1] == b"<" or b"@" in word)


def _shifted_as_control(shifted: re.Match[bytes]) -> bytes:
    """Text in another character set becomes one control character; text that a control character cuts short stays."""
    return shifted[0] if shifted[1] is None else b"\x1b"


def _address_part(match: re.Match[bytes]) -> bytes:
    """What may be part of an address: a quoted local part, and what follows a quotation mark that is never closed.

    Comments and names become a space. In the result quotation marks stand only around a local part, so they pair up.
    """
    return match["local"] or (match["pair"] or match["open"] or b" ").replace(b'"', b" ")
