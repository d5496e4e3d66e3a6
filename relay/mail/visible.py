"""Text from outside made safe for a terminal: characters that hide or change other text become escapes.

Anybody may write addresses, replies of other hosts, DNS names and header fields. Control characters move the cursor,
bidirectional marks (RFC 9839 section 2 and Unicode Technical Report 36) change the direction of the text beside them,
and some characters are invisible. Each of them is shown as a Python escape (`\\u202e`).
"""

from __future__ import annotations

import re

# Invisible characters that `str.isprintable` accepts: the rest of the Unicode property Default_Ignorable_Code_Point,
# fillers, and the empty Braille pattern.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_SPECIAL = re.compile(r'["\\]')


def visible(text: str) -> str:
    """The text with every control, format, bidirectional, line-separating and invisible character as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_visible(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def quoted(text: str) -> str:
    """The text between quotes, as one value of a log line: quotes and backslashes in it are escaped."""
    return f'"{visible(_SPECIAL.sub(_escaped, text))}"'


def _escaped(match: re.Match[str]) -> str:
    return "\\" + match[0]


def _is_visible(character: str) -> bool:
    return character.isprintable() and not _INVISIBLE.match(character)
