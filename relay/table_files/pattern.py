"""Regular expressions as the left-hand side of a line: `/pattern/flags`, as Postfix's regexp_table(5) writes them.

Strangers choose the text that a pattern is tried on. Python's own expressions can take seconds for forty letters, and
for ever for some more; those of RE2 take a time that grows with the length of the text alone. They are the extended
expressions of POSIX, without back references.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import re2

MEMORY = 1 << 18  # octets that RE2 may use for one pattern
_GROUP = re.compile(r"\$(?:(\$)|(\d+)|\{(\d+)\}|\((\d+)\))")

# An escape, or a bracket expression: in this a backslash stands for itself, and RE2 takes it for an escape.
_ESCAPE_OR_BRACKET = re.compile(r"\\.|(\[\^?\]?(?:\[:.*?:\]|[^\]])*\])", re.DOTALL)

Fill = Callable[[str], str]
"""Fills `$1`, `${1}` or `$(1)` in a text with what the group matched, and `$$` with `$`."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern.

    Attributes:
        written: as it stands in the file, for the log.
        negated: `!/pattern/` is for everything that the pattern does not match.
    """

    written: str
    negated: bool
    _regex: Any

    def match(self, text: str) -> Fill | None:
        """How to fill the right-hand side for a text that the line is for; None for others.

        The text is whole: nothing is cut off or folded.
        """
        found = self._regex.search(text)
        if (found is None) != self.negated:
            return None
        return lambda value: _fill(value, found) if "$" in value else value

    def check(self, value: str) -> None:
        """Raises ValueError: a right-hand side refers to a group that the pattern does not have, or to none."""
        groups = 0 if self.negated else self._regex.groups
        for match in _GROUP.finditer(value):
            number = match[2] or match[3] or match[4]
            if number and not 0 < int(number) <= groups:
                raise ValueError(f"{match[0]}: the pattern has {groups} groups")
        if "$" in _GROUP.sub("", value):
            raise ValueError("a $ itself is written $$")


def is_pattern(line: str) -> bool:
    """Whether a line begins with a pattern between slashes, be it good or bad, or is part of an `if`."""
    first = line.split(None, 1)[0].lower()
    return line.startswith(("/", "!")) or first in ("if", "endif")


def parse_pattern(line: str) -> tuple[Pattern, str]:
    """The pattern at the beginning of a line, and what stands behind it.

    Its delimiter may be any character that is no letter, digit or blank, as in Postfix.

    Raises:
        ValueError: it cannot be read, or is no regular expression.
    """
    at, negated = 0, False
    while line[at : at + 1] == "!" or (negated and line[at : at + 1].isspace()):
        negated ^= line[at] == "!"
        at += 1
    delimiter = line[at : at + 1]
    if not delimiter or delimiter.isalnum() or delimiter.isspace():
        raise ValueError("a pattern is written /pattern/ or /pattern/i")
    start = at = at + 1
    while at < len(line) and line[at] != delimiter:
        at += 2 if line[at] == "\\" else 1
    if at >= len(line):
        raise ValueError("the pattern has no end: it is written /pattern/ or /pattern/i, with \\/ for a slash in it")
    flags, value = re.split(r"\s+|\Z", line[at + 1 :], maxsplit=1)
    written = line[: at + 1] + flags
    if unknown := flags.strip("im"):
        raise ValueError(f"{written}: there is no flag {unknown[0]}, only i and m")
    try:
        compiled = _compiled(line[start:at], flags)
    except re2.error as error:
        (reason,) = error.args
        raise ValueError(f"{written}: {reason.decode() if isinstance(reason, bytes) else reason}") from None
    return Pattern(written, negated, compiled), value.strip()


def _compiled(regex: str, flags: str) -> Any:
    """The expression; a flag turns off what is on by default, and on what is off. Raises re2.error."""
    options = re2.Options()
    options.max_mem, options.log_errors = MEMORY, False
    options.posix_syntax = options.longest_match = True
    options.perl_classes = options.word_boundary = True  # of GNU: \w, \s, \b
    options.case_sensitive = flags.count("i") % 2 == 1
    options.one_line = options.dot_nl = flags.count("m") % 2 == 0
    return re2.compile(_ESCAPE_OR_BRACKET.sub(_bracket, regex), options)


def _bracket(match: re.Match[str]) -> str:
    return match[0] if match[1] is None else match[1].replace("\\", "\\\\")


def _fill(text: str, found: Any) -> str:
    return _GROUP.sub(lambda each: "$" if each[1] else found.group(int(each[2] or each[3] or each[4])) or "", text)
