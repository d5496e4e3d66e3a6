"""Reads the file of the alias table: a Postfix virtual(5) file, or TOML.

A bad line is named, and affects only the addresses that it is for. `alias_entries` checks the entries, `alias_table`
looks addresses up.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relay.route.alias_entries import AliasEntries, AliasError, is_rejection
from relay.route.alias_table import AliasTable
from relay.table_files.bad_lines import shown

_ENTRY = re.compile(r'((?:"(?:\\.|[^"\\])*")?\S*)(.*)', re.DOTALL)


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
    entries = AliasEntries(source, local_domains)
    for number, line, indented in _logical_lines(text):
        entry = _ENTRY.match(line)
        assert entry is not None  # it matches any text
        if indented:
            entries.add_orphan(f"{source}:{number}", entry[1], entry[2])
        else:
            entries.add(f"{source}:{number}", entry[1], entry[2])
    return entries.table()


def parse_toml(text: str, source: str, local_domains: Sequence[str] = ()) -> AliasTable:
    """The table of a TOML file: `"alice@fwd.example" = "x@y.example"`, or a list; `"fwd.example" = []` for a domain.

    A key with another value is a bad line, as in `parse_virtual`.

    Raises:
        AliasError: as `parse_virtual`, and for text that is not TOML.
    """
    entries = AliasEntries(source, local_domains)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AliasError(f"{source}: {error}") from None
    for path, value in _leaves(data):
        pattern = path[-1] if "@" in path[-1] else ".".join(path)
        where = f"{source}: {pattern}"
        if isinstance(value, str) and len(path) == 1:
            entries.add(where, pattern, value)
        elif isinstance(value, list) and len(path) == 1 and len(value) > 1 and _has_rejection(value):
            entries.add(where, pattern, "", ["REJECT stands alone: a list with it has no other target"])
        elif isinstance(value, list) and len(path) == 1:
            targets = ", ".join(item for item in value if isinstance(item, str))
            problems = [f"{item!r} is no address" for item in value if not isinstance(item, str)]
            entries.add(where, pattern, targets, problems)
        else:
            entries.add(
                where, pattern, "", [f'it is written as "{shown(pattern)}" = "address", or a list of addresses']
            )
    return entries.table()


def _has_rejection(values: Sequence[Any]) -> bool:
    return any(isinstance(value, str) and is_rejection(value) for value in values)


def _leaves(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value with the keys that lead to it: a key with a dot and without quotes makes a table of its own."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _logical_lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """Each entry with the number of its first line, and whether that line is indented, which is an error.

    An indented line continues the entry above, past comments and empty lines.
    """
    first, parts, indented = 0, list[str](), False
    for number, line in enumerate(text.split("\n"), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        if line[0].isspace() and parts:
            parts.append(content)
            continue
        if parts:
            yield first, " ".join(parts), indented
        first, parts, indented = number, [content], line[0].isspace()
    if parts:
        yield first, " ".join(parts), indented
