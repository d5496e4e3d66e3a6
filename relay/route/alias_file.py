"""Reads the file of the alias table: a Postfix virtual(5) file, or TOML.

A bad line is named, and affects only the addresses that it is for. `alias_entries` checks the entries, `alias_table`
looks addresses up.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from relay.route.alias_entries import AliasEntries, AliasError, is_rejection
from relay.route.alias_table import AliasTable
from relay.table_files.bad_lines import shown
from relay.table_files.logical_lines import logical_lines

_ENTRY = re.compile(r'((?:"(?:\\.|[^"\\])*")?\S*)(.*)', re.DOTALL)


class WrittenEntry(NamedTuple):
    """One entry as it is written in a file.

    Attributes:
        where: file and line, or file and key in TOML.
        pattern: the left-hand side.
        value: the right-hand side, as virtual(5) writes it.
        problems: those of targets that are not in `value`.
        lines: the numbers of its lines; none in TOML.
        is_orphan: the first line is indented and continues nothing, which is an error.
    """

    where: str
    pattern: str
    value: str
    problems: Sequence[str] = ()
    lines: Sequence[int] = ()
    is_orphan: bool = False

    def enter(self, entries: AliasEntries) -> None:
        """Add it to the entries of its file."""
        if self.is_orphan:
            entries.add_orphan(self.where, self.pattern, self.value)
        else:
            entries.add(self.where, self.pattern, self.value, self.problems)


def parse_virtual(text: str, source: str, local_domains: Sequence[str] = ()) -> AliasTable:
    """The table of a virtual(5) file. Two liberties: the left-hand side may be quoted, and `REJECT text` closes it.

    A line that Postfix would skip with a warning, or with a target that is no address, is in `AliasTable.bad`, and the
    log names it. Where a pattern stands twice, the first with a good target counts, and the log names the other.

    Args:
        source: the file's name, for messages.
        local_domains: see `AliasTable`; normal domains. The first of them is that of a target without a domain.

    Raises:
        AliasError: not one line can be read; the text names the first.
    """
    return _table(written_in_virtual(text, source), source, local_domains)


def parse_toml(text: str, source: str, local_domains: Sequence[str] = ()) -> AliasTable:
    """The table of a TOML file: `"alice@fwd.example" = "x@y.example"`, or a list; `"fwd.example" = []` for a domain.

    A key with another value is a bad line, as in `parse_virtual`.

    Raises:
        AliasError: as `parse_virtual`, and for text that is not TOML.
    """
    return _table(written_in_toml(text, source), source, local_domains)


def _table(written: Iterator[WrittenEntry], source: str, local_domains: Sequence[str]) -> AliasTable:
    entries = AliasEntries(source, local_domains)
    for entry in written:
        entry.enter(entries)
    return entries.table()


def written_in_virtual(text: str, source: str) -> Iterator[WrittenEntry]:
    """The entries of a virtual(5) file, in their order; nothing is checked.

    An indented line continues the entry above, past comments and empty lines.
    """
    for line in logical_lines(text):
        entry = _ENTRY.match(line.text)
        assert entry is not None  # it matches any text
        yield WrittenEntry(f"{source}:{line.number}", entry[1], entry[2], (), line.numbers, line.is_orphan)


def written_in_toml(text: str, source: str) -> Iterator[WrittenEntry]:
    """The entries of a TOML file, in their order; nothing but their form is checked.

    Raises:
        AliasError: the text is not TOML.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AliasError(f"{source}: {error}") from None
    for path, value in _leaves(data):
        pattern = path[-1] if "@" in path[-1] else ".".join(path)
        where = f"{source}: {pattern}"
        if isinstance(value, str) and len(path) == 1:
            yield WrittenEntry(where, pattern, value)
        elif isinstance(value, list) and len(path) == 1 and len(value) > 1 and _has_rejection(value):
            yield WrittenEntry(where, pattern, "", ["REJECT stands alone: a list with it has no other target"])
        elif isinstance(value, list) and len(path) == 1:
            targets = ", ".join(item for item in value if isinstance(item, str))
            problems = [f"{item!r} is no address" for item in value if not isinstance(item, str)]
            yield WrittenEntry(where, pattern, targets, problems)
        else:
            problem = f'it is written as "{shown(pattern)}" = "address", or a list of addresses'
            yield WrittenEntry(where, pattern, "", [problem])


def _has_rejection(values: Sequence[Any]) -> bool:
    return any(isinstance(value, str) and is_rejection(value) for value in values)


def _leaves(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value with the keys that lead to it: a key with a dot and without quotes makes a table of its own."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value
