"""Regexp tables as Postfix reads them, see regexp_table(5): the first pattern that matches a key gives its value.

A line that cannot be used may be for any key that no line before it matches. So these keys have no answer until it is
mended.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.lookup.source import KEY_CHARACTERS, BadTable, Found
from relay.table_files.bad_lines import BadLine, BadLines, is_utf8, shown
from relay.table_files.logical_lines import LogicalLine, logical_lines
from relay.table_files.pattern import Pattern, parse_pattern
from relay.table_files.reloaded_file import ReloadedFile

_IF = re.compile(r"if(?=\W)\s*(.*)\Z", re.IGNORECASE | re.DOTALL)
_EFFECT = "what no line before it matches hears 451 4.3.5"


@dataclass(frozen=True, slots=True)
class _Rule:
    """A line, or an `if` with the lines `inside`. The pattern is None for a bad line."""

    where: str
    pattern: Pattern | None
    value: str = ""
    inside: list[_Rule] | None = None


@dataclass(frozen=True, slots=True)
class RegexpTable:
    """A parsed table.

    Attributes:
        bad: its lines that cannot be used.
    """

    rules: Sequence[_Rule]
    bad: BadLines

    def find(self, key: str) -> Found | None:
        """The value of a key, and its line; None where no pattern matches. Raises BadTable: a line may be for it."""
        return _find(self.rules, key)


def _find(rules: Sequence[_Rule], key: str) -> Found | None:
    for rule in rules:
        if rule.pattern is None:
            raise BadTable(f"{rule.where}: a bad line")
        fill = rule.pattern.match(key)
        if fill is None:
            continue
        if rule.inside is None:
            return Found(fill(rule.value), rule.where)
        if (found := _find(rule.inside, key)) is not None:
            return found
    return None


def parse_regexp(text: str, source: str) -> RegexpTable:
    """Read a table.

    Raises:
        ValueError: not one line can be used; the text names the first.
    """
    reading = _Reading(source)
    for line in logical_lines(text):
        reading.read(line)
    return reading.table()


@dataclass(slots=True)
class _Reading:
    """Collects the lines of one file. `_open` has the rules of the file, and those of each `if` that has no end yet."""

    _source: str
    _open: list[list[_Rule]] = field(default_factory=lambda: [[]])
    _bad: list[BadLine] = field(default_factory=list)

    def read(self, line: LogicalLine) -> None:
        where = f"{self._source}:{line.number}"
        condition = _IF.match(line.text)
        try:
            if not is_utf8(line.text):
                raise ValueError("not UTF-8")
            if line.is_orphan:
                raise ValueError("an indented line continues the one above, and there is none")
            if line.text.lower() == "endif":
                if len(self._open) == 1:
                    raise ValueError("endif without if")
                self._open.pop()
                return
            pattern, value = parse_pattern(condition[1] if condition else line.text)
            if condition and value:
                raise ValueError(f"nothing may follow the pattern of an if: {value}")
            if not condition and not value:
                raise ValueError("nothing stands behind the pattern")
            pattern.check(value)
        except ValueError as error:
            self._name(where, shown(f"{line.text}: {error}" if str(error) not in line.text else str(error)))
            self._open[-1].append(_Rule(where, None))
            if condition:
                self._open.append([])  # its endif is to come
            return
        rule = _Rule(where, pattern, value, [] if condition else None)
        self._open[-1].append(rule)
        if rule.inside is not None:
            self._open.append(rule.inside)

    def _name(self, where: str, problem: str) -> None:
        self._bad.append(BadLine(where, problem, _EFFECT))

    def table(self) -> RegexpTable:
        """The table of what was read. Raises ValueError, as `parse_regexp`."""
        rules = self._open[0]
        if len(self._open) > 1:
            self._name(self._source, "an if has no endif")
            rules.append(_Rule(self._source, None))
        if self._bad and all(rule.pattern is None for rule in rules):
            raise ValueError(f"{self._bad[0].where}: {self._bad[0].problem}")
        bad = BadLines(tuple(self._bad))
        bad.report(self._source)
        return RegexpTable(tuple(rules), bad)


@dataclass(frozen=True, slots=True)
class RegexpFile:
    """A regexp table as new as its file."""

    file: ReloadedFile[RegexpTable]

    @property
    def name(self) -> str:
        return f"regexp:{self.file.path}"

    async def get(self, key: str) -> Found | None:
        return None if len(key) > KEY_CHARACTERS else self.file.value.find(key)
