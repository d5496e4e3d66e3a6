"""Text from outside made safe to look at: whatever a terminal shows of it stands there as it is, and nothing hides.

Addresses, replies of other hosts, names in DNS and header fields come from anybody. Control characters move a cursor,
bidirectional marks (RFC 9839 section 2 and Unicode Technical Report 36) turn the direction of what stands beside them,
and some characters take no room at all. Each of them is shown as a Python escape (`\\u202e`).
"""

from __future__ import annotations

import re

# What `str.isprintable` lets through although nothing is seen of it: the rest of the Unicode property
# Default_Ignorable_Code_Point, fillers, and the empty Braille pattern.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_SPECIAL = re.compile(r'["\\]')


def visible(text: str) -> str:
    """The text with every control, format, bidirectional, line-separating and invisible character as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_seen(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def quoted(text: str) -> str:
    """The text between quotes, as one value of a line: nothing in it ends the quotes or stands for an escape."""
    return f'"{visible(_SPECIAL.sub(_escaped, text))}"'


def _escaped(found: re.Match[str]) -> str:
    return "\\" + found[0]


def _is_seen(character: str) -> bool:
    return character.isprintable() and not _UNSEEN.match(character)
