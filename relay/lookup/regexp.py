"""Regexp tables as Postfix reads them, see regexp_table(5): the first pattern that matches a key gives its value.

Patterns are POSIX extended regular expressions there and those of Python's `re` here; what only one of both has is
translated, or its line is named as bad. A bad line may be for any key that no line before it matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from relay.lookup.source import BadTable
from relay.table_files.bad_lines import BadLine, BadLines, is_utf8, shown

_CLASSES = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9A-Fa-f",
    "print": " -~",
    "graph": "!-~",
    "cntrl": r"\x00-\x1f\x7f",
}
_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "x": re.NOFLAG}  # x: extended syntax, which is always on here
_RESULT = re.compile(r"\$(?:(\$)|(\d+)|\{(\d+)\}|\((\d+)\))?")
_EFFECT = "addresses that nothing before it matches answer 451 4.3.5"


@dataclass(frozen=True, slots=True)
class _Rule:
    """A line, or an `if` with the lines in it. `matches` is None for a bad line."""

    where: str
    matches: Callable[[str], re.Match[str] | bool | None] | None
    value: str = ""
    inner: Sequence[_Rule] | None = None


@dataclass(frozen=True, slots=True)
class RegexpTable:
    """A parsed table.

    Attributes:
        bad: its lines that cannot be used.
    """

    rules: Sequence[_Rule]
    bad: BadLines

    def find(self, key: str) -> str | None:
        """The value of a key; None where no pattern matches. Raises BadTable: a bad line may be for it."""
        return _find(self.rules, key)


def _find(rules: Sequence[_Rule], key: str) -> str | None:
    for rule in rules:
        if rule.matches is None:
            raise BadTable(f"{rule.where}: a bad line")
        match = rule.matches(key)
        if not match:
            continue
        if rule.inner is not None:
            value = _find(rule.inner, key)
            if value is not None:
                return value
        else:
            return _filled_in(rule.value, match if isinstance(match, re.Match) else None)
    return None


def _filled_in(value: str, match: re.Match[str] | None) -> str:
    def text(place: re.Match[str]) -> str:
        if place[1]:
            return "$"
        return (match[int(place[2] or place[3] or place[4])] or "") if match is not None else ""

    return _RESULT.sub(text, value)


def parse_regexp(text: str, source: str) -> RegexpTable:
    """Read a table.

    Raises:
        ValueError: not one line can be used; the text names the first.
    """
    bad: list[BadLine] = []
    levels: list[list[_Rule]] = [[]]
    for number, line in _logical_lines(text):
        where = f"{source}:{number}"
        try:
            if not is_utf8(line):
                raise ValueError("not UTF-8")
            word = line.split(None, 1)[0].lower()
            if word == "endif":
                if len(levels) == 1:
                    raise ValueError("endif without if")
                levels.pop()
            elif word == "if" or re.match(r"if[!/]", line, re.IGNORECASE):
                inner: list[_Rule] = []
                matches, rest = _pattern(line[2:].lstrip())
                if rest:
                    raise ValueError(f"nothing may follow the pattern of an if: {rest}")
                levels[-1].append(_Rule(where, matches.match, inner=inner))
                levels.append(inner)
            else:
                matches, value = _pattern(line)
                matches.check(value)
                levels[-1].append(_Rule(where, matches.match, value))
        except ValueError as error:
            bad.append(BadLine(where, f"{shown(line)}: {error}", _EFFECT))
            inner = []
            levels[-1].append(_Rule(where, None))
            if re.match(r"if[\s!/]", line, re.IGNORECASE):
                levels.append(inner)  # its endif is to come
    if len(levels) > 1:
        problem = "an if has no endif"
        bad.append(BadLine(source, problem, _EFFECT))
        levels[0].append(_Rule(source, None))
    if bad and not any(rule.matches is not None for rule in levels[0]):
        raise ValueError(f"{bad[0].where}: {bad[0].problem}")
    lines = BadLines(tuple(bad))
    lines.report(source)
    return RegexpTable(tuple(levels[0]), lines)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, those that begin with white space joined to the one before."""
    started, parts = 0, list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t" and parts:
            parts.append(line.rstrip())
            continue
        if parts:
            yield started, "".join(parts).strip()
        started, parts = number, [line.rstrip()]
    if parts:
        yield started, "".join(parts).strip()


@dataclass(frozen=True, slots=True)
class _Pattern:
    regex: re.Pattern[str]
    negated: bool

    def match(self, key: str) -> re.Match[str] | bool | None:
        found = self.regex.search(key)
        return found is None if self.negated else found

    def check(self, value: str) -> None:
        """Raises ValueError: the value is missing, or has a `$` that means nothing."""
        if not value:
            raise ValueError("it has no result")
        for place in _RESULT.finditer(value):
            number = place[2] or place[3] or place[4]
            if place[0] == "$":
                raise ValueError("a $ in the result is written $$")
            if number and (self.negated or not 0 < int(number) <= self.regex.groups):
                raise ValueError(f"{place[0]}: the pattern has no such group")


def _pattern(line: str) -> tuple[_Pattern, str]:
    """The pattern at the start of a line, and what follows it. Raises ValueError."""
    negated = False
    while line.startswith("!"):
        negated, line = not negated, line[1:].lstrip()
    if not line.startswith("/"):
        raise ValueError("a line begins with /pattern/")
    end = 1
    while end < len(line) and line[end] != "/":
        end += 2 if line[end] == "\\" else 1
    if end >= len(line):
        raise ValueError("the pattern has no / at its end")
    flags_text, _, value = (line[end + 1 :].replace("\t", " ")).partition(" ")
    flags = re.IGNORECASE
    for letter in flags_text:
        if letter not in _FLAGS:
            raise ValueError(f"{letter}: the flags are i, m and x")
        if letter == "x":
            raise ValueError("x: basic regular expressions are not read here, write an extended one")
        flags ^= _FLAGS[letter]
    try:
        return _Pattern(re.compile(_translated(line[1:end]), flags), negated), value.strip()
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the pattern cannot be used: {error}") from None


def _translated(pattern: str) -> str:
    """A POSIX extended regular expression as Python writes it. Raises ValueError: Python has nothing like it."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "[":
            part, at = _bracket(pattern, at)
            parts.append(part)
            continue
        if letter == "\\":
            following = pattern[at + 1 : at + 2]
            special = {"<": r"\b(?=\w)", ">": r"\b(?<=\w)"}
            if following in special:
                parts.append(special[following])
            elif following.isalnum() and following not in "wWsSbB123456789":
                raise ValueError(f"\\{following} is not in a POSIX regular expression")
            else:
                parts.append("\\" + following)
            at += 2
            continue
        if letter == "(" and pattern[at + 1 : at + 2] == "?":
            raise ValueError("(? is not in a POSIX regular expression")
        if letter in "*+?}" and pattern[at + 1 : at + 2] in ("?", "+"):
            raise ValueError(f"{pattern[at : at + 2]} is not in a POSIX regular expression")
        parts.append(r"\Z" if letter == "$" else letter)
        at += 1
    return "".join(parts)


def _bracket(pattern: str, start: int) -> tuple[str, int]:
    """A bracket expression as Python writes it, and where it ends."""
    at = start + 1
    parts = ["["]
    if pattern[at : at + 1] == "^":
        parts.append("^")
        at += 1
    first = True
    while at < len(pattern):
        letter = pattern[at]
        if letter == "]" and not first:
            return "".join(parts) + "]", at + 1
        first = False
        if pattern.startswith(("[:", "[.", "[="), at):
            end = pattern.find(pattern[at + 1] + "]", at + 2)
            name = pattern[at + 2 : end]
            if end < 0 or pattern[at + 1] != ":" or name not in _CLASSES:
                raise ValueError(f"{pattern[at : end + 2 if end >= 0 else None]}: there is no such class")
            parts.append(_CLASSES[name])
            at = end + 2
            continue
        parts.append(f"\\{letter}" if letter in "[]\\^&|~" else letter)
        at += 1
    raise ValueError("a [ has no ]")
