"""Reads the file of an access table, and looks up in it.

The lines are those of access(5), and of regexp_table(5) where the left-hand side is a pattern between slashes. A line
that cannot be used is named, and the mail that it may be about is deferred until it is mended: what was to be refused
must not come in by a slip of the pen, and what was to be let through must not be refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from relay.access.action import BAD_LINE, Action, parse_action
from relay.access.keys import NULL_SENDER, keys_of_address, keys_of_name, meant_domain, parse_key
from relay.mail.address import lookup_key
from relay.network import IPNetwork
from relay.table_files.bad_lines import NONE, BadLine, BadLines, is_utf8, shown
from relay.table_files.logical_lines import LogicalLine, logical_lines
from relay.table_files.pattern import Pattern, is_pattern, parse_pattern

_KEY = re.compile(r'((?:"(?:\\.|[^"\\])*")?\S*)\s*(.*)', re.DOTALL)
_UNREADABLE = "a line that cannot be read"


@dataclass(frozen=True, slots=True)
class Match:
    """What a table says of a client or an address, and the key of the line that says it."""

    action: Action
    key: str


@dataclass(frozen=True, slots=True)
class Networks:
    """What is said of networks. Of those around an address the smallest counts.

    Attributes:
        by_length: by IP version and prefix length, the longest first, then by the bits of the prefix.
    """

    by_length: Mapping[tuple[int, int], Mapping[int, Match]] = field(default_factory=dict)

    def find(self, ip: str) -> Match | None:
        """What is said of an address; None where nothing is."""
        if not self.by_length:
            return None
        address = ipaddress.ip_address(ip)
        number = int(address)
        for (version, length), matches in self.by_length.items():
            if version == address.version and (match := matches.get(number >> (address.max_prefixlen - length))):
                return match
        return None


@dataclass(frozen=True, slots=True)
class AccessTable:
    """A parsed file.

    Attributes:
        entries: by key, but for networks.
        patterns: in the order of the file, which are tried behind all other lines; without a pattern a line that
            cannot be read, which may be for everything that comes to it.
        asks_for_names: whether a line may be for the name of a client.
        bad: the lines that cannot be used.
    """

    entries: Mapping[str, Action]
    networks: Networks = Networks()
    patterns: Sequence[tuple[Pattern | None, Action]] = ()
    asks_for_names: bool = False
    bad: BadLines = NONE

    def client(self, ip: str, name: str) -> Match | None:
        """What is said of a client: by its name, then by its address; None where nothing is.

        Args:
            name: normal; empty where it is not known.
        """
        return self._first(keys_of_name(name)) or self.networks.find(ip) or self._by_pattern(filter(None, (name, ip)))

    def address(self, address: str) -> Match | None:
        """What is said of a mail address, or of the null sender (empty); None where nothing is.

        Patterns see it in lower case, as in Postfix.
        """
        return self._first(keys_of_address(address)) or self._by_pattern([lookup_key(address) or NULL_SENDER])

    def _first(self, keys: Iterable[str]) -> Match | None:
        entries = self.entries
        return next((Match(entries[key], key) for key in keys if key in entries), None)

    def _by_pattern(self, texts: Iterable[str]) -> Match | None:
        if not self.patterns:
            return None
        for text in texts:
            for pattern, action in self.patterns:
                if pattern is None:
                    return Match(BAD_LINE, _UNREADABLE)
                if (fill := pattern.match(text)) is not None:
                    return Match(action.filled(fill), pattern.written)
        return None


def parse_access(text: str, source: str) -> AccessTable:
    """The table of a file. Of two lines with the same key the first counts, as for postmap(1).

    Args:
        source: the file's name, for messages.

    Raises:
        ValueError: not one line can be used; the text names the first.
    """
    reading = _Reading(source)
    count = 0
    for line in logical_lines(text):
        reading.read(line)
        count += 1
    return reading.table(count)


class _Reading:
    """Collects the lines of one file."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._entries = dict[str, Action]()
        self._networks = dict[tuple[int, int], dict[int, Match]]()
        self._patterns = list[tuple[Pattern | None, Action]]()
        self._is_hidden = False
        self._bad = list[BadLine]()

    def read(self, line: LogicalLine) -> None:
        problem = "an indented line continues the one above, and there is none" if line.is_orphan else ""
        where = f"{self._source}:{line.number}"
        if is_pattern(line.text):
            self._read_pattern(where, line.text, problem)
        else:
            self._read_key(where, line.text, problem)

    def _read_pattern(self, where: str, line: str, problem: str) -> None:
        try:
            if not is_utf8(line):
                raise ValueError(f"{shown(line)}: not UTF-8")
            pattern, value = parse_pattern(line)
        except ValueError as error:
            self._patterns.append((None, BAD_LINE))
            effect = "what no line before it decides hears 451 4.3.5, nor do the patterns behind it count"
            self._bad.append(BadLine(where, problem or str(error), effect))
            return
        action = self._action(where, pattern.written, value, problem, pattern.check)
        self._patterns.append((pattern, action))

    def _read_key(self, where: str, line: str, problem: str) -> None:
        match = _KEY.match(line)
        assert match is not None  # it matches any text
        written, value = match.groups()
        key: str | IPNetwork
        try:
            key = parse_key(written)
        except ValueError as error:
            problem = problem or str(error)
            key = meant_domain(written)
            if not key:
                self._is_hidden = True
                effect = "what no other line with an address, network or domain decides hears 451 4.3.5"
                self._bad.append(BadLine(where, problem, effect))
                return
            written = key
        action = self._action(where, written, value, problem)
        if isinstance(key, str):
            counts = self._entries.setdefault(key, action)
        else:
            matches = self._networks.setdefault((key.version, key.prefixlen), {})
            bits = int(key.network_address) >> (key.max_prefixlen - key.prefixlen)
            counts = matches.setdefault(bits, Match(action, written)).action
        if counts != action:
            self._bad.append(BadLine(where, f"{written} stands further above already", "the line above counts"))

    def _action(
        self, where: str, written: str, value: str, problem: str, check: Callable[[str], None] | None = None
    ) -> Action:
        """The action of a right-hand side; that of a bad line where there is a problem with it, which is named."""
        try:
            if problem:
                raise ValueError(problem)
            action = parse_action(value)
            if check is not None:
                check(action.text)
            return action
        except ValueError as error:
            self._bad.append(BadLine(where, shown(str(error)), f"{written} hears 451 4.3.5"))
            return BAD_LINE

    def table(self, count: int) -> AccessTable:
        """The table of what was read. Raises ValueError, as `parse_access`."""
        bad = BadLines(tuple(self._bad))
        if count and len(bad.lines) == count:
            raise ValueError(f"{bad.lines[0].where}: {bad.lines[0].problem}")
        bad.report(self._source)
        hidden = [(None, BAD_LINE)] if self._is_hidden else []
        by_length = dict(sorted(self._networks.items(), key=lambda item: -item[0][1]))
        names = any("@" not in key and key != NULL_SENDER for key in self._entries)
        patterns = (*hidden, *self._patterns)
        return AccessTable(
            self._entries, Networks(by_length), patterns, asks_for_names=names or bool(self._patterns), bad=bad
        )
