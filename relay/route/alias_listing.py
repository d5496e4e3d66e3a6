"""The entries of an alias file one by one, each as the relay reads it. `AliasTable` has what they say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from relay.route.alias_entries import AliasEntries, entry_key
from relay.route.alias_file import WrittenEntry
from relay.table_files.bad_lines import is_utf8, shown


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry.

    Attributes:
        address: the left-hand side as it is written.
        key: the same for all entries of one left-hand side; see `entry_key`.
        targets: those that can be used; none where it is a REJECT.
        reject: the text of REJECT; None where it has targets.
        where: file and line, or file and key in TOML.
        problems: why it cannot be used, wholly or in part.
        lines: the numbers of its lines; none in TOML.
    """

    address: str
    key: str
    targets: tuple[str, ...]
    reject: str | None = None
    where: str = ""
    problems: Sequence[str] = field(default=())
    lines: Sequence[int] = field(default=())

    @property
    def counts(self) -> bool:
        """Whether it leads anywhere, or closes its address."""
        return bool(self.targets) or self.reject is not None

    @property
    def right_side(self) -> str:
        """The right-hand side as virtual(5) writes it."""
        return ", ".join(self.targets) if self.reject is None else f"REJECT {self.reject}".rstrip()


def read_entry(written: WrittenEntry, local_domains: Sequence[str]) -> Entry:
    """One entry, read as if it stood alone in its file.

    Args:
        local_domains: see `parse_virtual`.
    """
    alone = AliasEntries("", local_domains)
    written.enter(alone)
    targets, reject = alone.entered(written.pattern) if is_utf8(written.pattern) else ((), None)
    problems = tuple(line.problem for line in alone.bad)
    key = pattern_key(written.pattern)
    return Entry(shown(written.pattern), key, targets, reject, written.where, problems, tuple(written.lines))


def pattern_key(pattern: str) -> str:
    """As `entry_key`, also of a left-hand side that is not UTF-8."""
    return entry_key(pattern) if is_utf8(pattern) else pattern


def list_entries(written: Iterable[WrittenEntry], local_domains: Sequence[str]) -> list[Entry]:
    """The entries of a file, in its order. Args: as `read_entry`."""
    return [read_entry(entry, local_domains) for entry in written]


def by_key(entries: Iterable[Entry]) -> Mapping[str, Entry]:
    """Of each left-hand side the entry that counts: the first good one, or else the first."""
    found = dict[str, Entry]()
    for entry in entries:
        there = found.get(entry.key)
        if there is None or (entry.counts and not there.counts):
            found[entry.key] = entry
    return found
