"""Says what to mend in a file that is no TOML: the line, the key, and how its value is written.

The parser says where it stopped. What most files have wrong there is a text without quotes.
"""

from __future__ import annotations

import re
import tomllib

_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_KEY = re.compile(r"""^\s*([A-Za-z0-9_."'-]+)\s*=\s*(.*?)\s*$""")
_NO_EQUALS_SIGN = re.compile(r"""^\s*([A-Za-z0-9_.-]+)\s*(?::\s*|\s)\s*"?([^\s":=][^"=]*?)"?\s*$""")
_HEADER = re.compile(r"^\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_OPEN_HEADER = re.compile(r"""^\s*(\[\[?)\s*([A-Za-z0-9_."'-]+)""")
_TWO_VALUES = re.compile(r"""["'][ \t]+["']""")
_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'""")
_BARE = re.compile(r"""[^\s\[\]{},=]+(?!\s*=)(?=[\s\[\]{},]|$)""")
_NUMBER = re.compile(r"[+-]?[0-9][0-9_]*(?:\.[0-9_]*)?")
_WORDS = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}
_CURLY = "\u201c\u201d\u201e\u201f\u2018\u2019\u00ab\u00bb"


def explain(text: str, error: tomllib.TOMLDecodeError) -> str:
    """What is wrong with a file and how it is written right, in one line that begins with the number of the line.

    Args:
        text: the file's content.
        error: what the parser said of it.
    """
    said = str(error)
    place = _PLACE.search(said)
    if place is None:
        return said
    lines = text.split("\n")
    number = int(place[1]) if place[1] else len(lines)
    reason = said[: place.start()]
    if reason == 'Expected "\'"':  # the parser goes on to the end of the file
        number = next((n for n, line in enumerate(lines, 1) if "'" in _QUOTED.sub("", _without_comment(line))), number)
    number = min(number, len(lines))
    if mended := _mend(lines, number, reason):
        return f"line {number}: {mended}"
    name, _ = _key(lines, number)
    return f"line {number}: {f'{name}: ' * bool(name)}{reason[:1].lower()}{reason[1:]}"


def _mend(lines: list[str], number: int, reason: str) -> str:
    """How the line is written right; empty where that cannot be told."""
    line = _without_comment(lines[number - 1])
    name, value = _key(lines, number)
    if reason.startswith("Cannot overwrite"):
        return f"{name or line.strip()} stands there twice"
    if reason.startswith("Cannot declare") and (header := _HEADER.match(line)):
        return f"the table [{header[1]}] stands there twice: write its keys into one"
    if reason.startswith("Expected '=' after a key") and (pair := _NO_EQUALS_SIGN.match(line)):
        return f'a key and its value have = between them: {pair[1]} = "{pair[2]}"'
    if reason == "Unclosed array" and _TWO_VALUES.search(line):
        return f"{name}: a comma is missing between two values"
    if reason == "Unclosed array" and not (name and _bare_text(value)) and (opened := _array_above(lines, number)):
        return f"{opened}: the bracket ] at the end of the array is missing"
    if reason.startswith("Expected ']") and (header := _OPEN_HEADER.match(line)):
        brackets = header[1], header[1].replace("[", "]")
        return f"the table is written {brackets[0]}{header[2]}{brackets[1]}"
    if not name:
        return ""
    if not value and _KEY.match(line):
        return f"{name} has no value"
    for curly in _CURLY:
        if curly in value:
            return f'{name}: {curly} is no quotation mark here: a text stands between "'
    if reason.startswith(
        ("Illegal character '\\n'", "Found invalid character '\\n'", "Unterminated string", 'Expected "\'"')
    ):
        return f'{name}: the quotation mark at the end of the text is missing: "…"'
    if (bare := _bare_text(value)) is None:
        return ""
    if bare.lower() in _WORDS:
        return f"{name}: {bare} is written {_WORDS[bare.lower()]}"
    if value.startswith(("[", "{")) or "=" not in line:
        return f'{name}: {bare} needs quotes: "{bare}"'
    return f'{name} needs quotes: {name.rpartition(".")[2]} = "{bare}"'


def _without_comment(line: str) -> str:
    """The line up to the `#` outside of quotes."""
    blanked = _QUOTED.sub(lambda match: "x" * len(match[0]), line)
    return line[: blanked.find("#")] if "#" in blanked else line


def _key(lines: list[str], number: int) -> tuple[str, str]:
    """The key that a line belongs to, with its table, and what the line has of its value; empty where there is none.

    A line in the middle of an array belongs to the key above it.
    """
    value, name = _without_comment(lines[number - 1]).strip(), ""
    for line in reversed(lines[:number]):
        if not name and (pair := _KEY.match(_without_comment(line))):
            name = pair[1].strip("\"'")
            value = pair[2] if line is lines[number - 1] else value
        elif header := _HEADER.match(line):
            return (f"{header[1]}.{name}" if name else ""), value
    return name, value


def _array_above(lines: list[str], number: int) -> str:
    """The key of the last array that begins before the end of a line, or on it; empty where there is none."""
    for last in range(number, 0, -1):
        pair = _KEY.match(_without_comment(lines[last - 1]))
        if pair and pair[2].startswith("[") and not pair[2].endswith("]"):
            return _key(lines, last)[0]
    return ""


def _bare_text(value: str) -> str | None:
    """The first text without quotes in a value; None where there is none."""
    if value.startswith(('"', "'")) and not value.endswith((",", "]", "}")):
        return None
    if not value.startswith(("[", "{", '"', "'")) and not value.endswith((",", "]", "}")):
        return None if _is_value(value) else value
    outside = _QUOTED.sub(lambda match: " " * len(match[0]), value)
    return next((word[0] for word in _BARE.finditer(outside) if not _is_value(word[0])), None)


def _is_value(text: str) -> bool:
    """Tells whether a text without quotes is a value, or meant as one: a number, a date, true or false, a sign."""
    if _NUMBER.fullmatch(text) or not any(map(str.isalnum, text)):
        return True
    try:
        tomllib.loads(f"x = {text}")
    except tomllib.TOMLDecodeError:
        return False
    return True
