"""Regular expressions as the left-hand side of a line: `/pattern/flags`, as Postfix's regexp_table(5) writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WRITTEN = re.compile(r"(!?)/((?:\\.|[^\\/])*)/([A-Za-z]*)(?:\s+|\Z)")
_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern.

    Attributes:
        written: as it stands in the file, for the log.
        negated: `!/pattern/` is for everything that the pattern does not match.
    """

    written: str
    regex: re.Pattern[str]
    negated: bool = False

    def matches(self, text: str) -> bool:
        """Whether the line is for this text, which is whole: nothing is cut off or folded."""
        return (self.regex.search(text) is None) == self.negated


def is_pattern(line: str) -> bool:
    """Whether a line begins with a pattern, be it good or bad, or is part of an `if` of regexp_table(5)."""
    first = line.split(None, 1)[0].lower()
    return line.startswith(("/", "!")) or first in ("if", "endif")


def parse_pattern(line: str) -> tuple[Pattern, str]:
    """The pattern at the beginning of a line, and what stands behind it.

    Raises:
        ValueError: it cannot be read, or is no regular expression.
    """
    match = _WRITTEN.match(line)
    if match is None:
        if not line.startswith(("/", "!")):
            raise ValueError("if and endif are not read here: write the whole condition into each pattern")
        raise ValueError("the pattern has no end: it is written /pattern/ or /pattern/i, with \\/ for a slash in it")
    negation, regex, letters = match.groups()
    flags = re.IGNORECASE
    for letter in letters:
        if letter not in _FLAGS:
            raise ValueError(f"the flag {letter} is none of ours: {', '.join(_FLAGS)}")
        flags ^= _FLAGS[letter]
    try:
        return Pattern(match[0].strip(), re.compile(regex, flags), bool(negation)), line[match.end() :]
    except re.error as error:
        raise ValueError(f"{match[0].strip()}: {error}") from None
