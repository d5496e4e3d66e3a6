"""Adds entries to an alias file and removes them: what may be done, and what follows for the domains.

It works on text, and touches no file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from relay.route.alias_entries import AliasError
from relay.route.alias_file import WrittenEntry, written_in_virtual
from relay.route.alias_listing import Entry, by_key, list_entries, pattern_key, read_entry
from relay.route.alias_table import AliasLoop, AliasTable
from relay.route.alias_text import AliasText, UnchangeableText, VirtualText
from relay.route.alias_toml_text import TomlText
from relay.table_files.bad_lines import is_utf8, shown, unsaid

_ANY_ADDRESS = "any@any.example"  # any left-hand side, so that the targets are read alone
_ANY_USER = "any-user"  # of a domain with a catch-all
_BREAK = re.compile(r"[^\S ]")


class BadEntry(ValueError):
    """What is to be added cannot be an entry; the text says why, in one line."""


class AliasEditError(Exception):
    """The file cannot be changed as asked; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Change:
    """A changed file.

    Attributes:
        octets: its content.
        gone: the entries that are no longer there.
        served: the domains that the alias table makes ours from now on.
        unserved: those that it does not make ours any more.
    """

    octets: bytes
    gone: Sequence[Entry]
    served: Collection[str]
    unserved: Collection[str]


def alias_text(octets: bytes, path: Path) -> AliasText:
    """The content of an alias file: TOML where its name ends in `.toml`, otherwise virtual(5)."""
    text = octets.decode("utf-8", "surrogateescape")
    return TomlText(text) if path.suffix == ".toml" else VirtualText(text)


def new_entry(address: str, targets: Sequence[str], reject: str | None, local_domains: Sequence[str]) -> Entry:
    """An entry that the relay can use, with its right side as it is given.

    Args:
        address: the left-hand side: an address, `@domain`, or what else stands there.
        targets: none with `reject`, otherwise one at least.
        reject: the text of REJECT, which may be empty; None for an entry with targets.
        local_domains: see `parse_virtual`.

    Raises:
        BadEntry: the relay would not read it, or would read something else.
    """
    if not is_utf8(address):
        raise BadEntry(f"{shown(address)}: not UTF-8")
    if reject is None:
        _check_targets(targets, local_domains)
        entry = Entry(address, pattern_key(address), tuple(targets))
    else:
        _check_rejection(reject)
        entry = Entry(address, pattern_key(address), (), reject.strip())
    line = f"{address}    {entry.right_side}"
    written = list(written_in_virtual(line, ""))
    if not address or [(each.pattern, each.is_orphan) for each in written] != [(address, False)]:
        raise BadEntry(f"{address!r} is neither an address nor @ and a domain")
    problems = read_entry(written[0], local_domains).problems
    if problems:
        raise BadEntry("; ".join(problems))
    return entry


def _check_targets(targets: Sequence[str], local_domains: Sequence[str]) -> None:
    if any(not target.strip() for target in targets):
        raise BadEntry("a target is empty")
    for target in targets:
        if target.split(None, 1)[0] == "REJECT":
            raise BadEntry("REJECT is no target: --reject TEXT closes an address")
    read = read_entry(WrittenEntry("", _ANY_ADDRESS, f" {', '.join(targets)}"), local_domains)
    if read.problems:
        raise BadEntry("; ".join(read.problems))
    if len(read.targets) != len(targets):
        raise BadEntry("each target is an argument of its own, without commas and blanks")


def _check_rejection(text: str) -> None:
    if not is_utf8(text):
        raise BadEntry("the text of REJECT is not UTF-8")
    if _BREAK.search(text) or not text.isprintable():
        raise BadEntry("the text of REJECT is one line without control characters")


def added(octets: bytes, path: Path, entry: Entry, local_domains: Sequence[str], *, replace: bool = False) -> Change:
    """An alias file with another entry: at its end, or in the place of one with the same left-hand side.

    Args:
        path: the file's, for messages, and for its form.
        entry: of `new_entry`.
        replace: whether there may be such an entry.

    Raises:
        AliasEditError: there is one, and it may not be replaced; its aliases would lead to each other; or the file
            cannot be read.
    """
    text, entries = _read(octets, path, local_domains)
    old = [there for there in entries if there.key == entry.key]
    if old and not replace:
        there = old[0].right_side or "; ".join(old[0].problems)
        raise AliasEditError(f"{entry.address} is there already, at {old[0].where}: {there}; --replace replaces it")
    return _changed(octets, path, text, old, entry, local_domains)


def removed(octets: bytes, path: Path, address: str, local_domains: Sequence[str]) -> Change:
    """An alias file without the entry of a left-hand side; one that stands there twice goes with both lines.

    Args:
        path: the file's, for messages, and for its form.
        address: the left-hand side.

    Raises:
        AliasEditError: there is no such entry, nothing that can be read would be left, or the file cannot be read.
    """
    text, entries = _read(octets, path, local_domains)
    old = [there for there in entries if there.key == pattern_key(address)]
    if not old:
        raise AliasEditError(
            f"{shown(address)} has no entry in {path}{_what_matches(text, path, address, entries, local_domains)}"
        )
    return _changed(octets, path, text, old, None, local_domains)


def _what_matches(
    text: AliasText, path: Path, address: str, entries: Sequence[Entry], local_domains: Sequence[str]
) -> str:
    """Which entry an address without one of its own matches, as the end of a line."""
    table = _table(text, path, local_domains)
    step = table.step(address) if table is not None and is_utf8(address) else None
    entry = by_key(entries).get(step[0]) if step is not None else None
    return "" if entry is None else f": it matches {entry.address}, at {entry.where}"


def _read(octets: bytes, path: Path, local_domains: Sequence[str]) -> tuple[AliasText, Sequence[Entry]]:
    text = alias_text(octets, path)
    try:
        return text, list_entries(text.written(str(path)), local_domains)
    except AliasError as error:
        raise AliasEditError(f"{error}; nothing was changed") from None


def _changed(
    octets: bytes,
    path: Path,
    text: AliasText,
    old: Sequence[Entry],
    entry: Entry | None,
    local_domains: Sequence[str],
) -> Change:
    try:
        if entry is None:
            changed = text.without(old)
        else:
            changed = text.with_replaced(old, entry) if old else text.with_entry(entry)
    except UnchangeableText as error:
        raise AliasEditError(f"{path}: {error}; nothing was changed") from None
    fresh = changed.encode("utf-8", "surrogateescape")
    before, after = (_table(alias_text(content, path), path, local_domains) for content in (octets, fresh))
    if before is not None and after is None:
        raise AliasEditError(f"no line of {path} that can be read would be left; nothing was changed")
    if entry is not None and after is not None:
        try:
            after.expand(_address_of(entry, local_domains))
        except AliasLoop as error:
            raise AliasEditError(f"{error}; nothing was changed") from None
    old_domains, domains = (table.domains if table is not None else frozenset() for table in (before, after))
    return Change(fresh, old, domains - old_domains, old_domains - domains)


def _table(text: AliasText, path: Path, local_domains: Sequence[str]) -> AliasTable | None:
    """The table of a text; None where the relay cannot use it. Its bad lines are not named."""
    said = unsaid.set(True)
    try:
        return text.table(str(path), local_domains)
    except AliasError:
        return None
    finally:
        unsaid.reset(said)


def _address_of(entry: Entry, local_domains: Sequence[str]) -> str:
    """An address that an entry is for."""
    if entry.address.startswith("@"):
        return f"{_ANY_USER}{entry.address}"
    return entry.address if "@" in entry.address or not local_domains else f"{entry.address}@{local_domains[0]}"
