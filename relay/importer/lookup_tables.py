"""Lookup tables of Postfix (`hash:/etc/postfix/virtual`): which of them are text, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from relay.importer.draft import ImportFailed, Origin
from relay.importer.main_cf import MainCf, split_list
from relay.importer.source_file import read_text
from relay.table_files.logical_lines import logical_lines

# Types that are made from a text file, which is beside the index, or is read as it is.
_TEXT = ("btree", "cdb", "dbm", "hash", "lmdb", "sdbm", "texthash")


class Table(NamedTuple):
    """A table: its type, and the file, or what else there is after the type."""

    kind: str
    name: str

    def __str__(self) -> str:
        """The table for people; what stands in the configuration itself may be a password."""
        return f"{self.kind}:…" if self.kind in ("inline", "static") else f"{self.kind}:{self.name}"

    @property
    def is_text(self) -> bool:
        """Whether it is made from a text file."""
        return self.kind in _TEXT


class TableEntry(NamedTuple):
    """One entry, with the file and line where it is."""

    key: str
    value: str
    where: str


class Domain(NamedTuple):
    """A domain of a list, and where the list names it."""

    name: str
    origin: str


def tables(main_cf: MainCf, name: str) -> list[Table]:
    """The tables that a parameter names."""
    return [table for item in split_list(main_cf.get(name)) if (table := table_of(item)) is not None]


def table_of(item: str) -> Table | None:
    """The table that an item of a list is; None for a plain word. A proxy before the type makes no difference."""
    kind, colon, rest = item.removeprefix("proxy:").partition(":")
    return Table(kind.lower(), rest) if colon and kind.isalnum() else None


def entries(main_cf: MainCf, table: Table) -> list[TableEntry]:
    """The entries of a table.

    Raises:
        ImportFailed: it is of a type that holds no text, or the file cannot be read.
    """
    if table.kind == "inline":
        return list(_inline(table))
    if not table.is_text:
        raise ImportFailed(f"{table}: a table of the type {table.kind} cannot be read")
    path = main_cf.path(table.name)
    return [
        TableEntry(words[0], words[1] if len(words) > 1 else "", f"{path}:{line.number}")
        for line in logical_lines(read_text(path))
        if (words := line.text.split(None, 1))
    ]


def domains(main_cf: MainCf, name: str) -> tuple[list[Domain], list[str]]:
    """The domains of a list like `relay_domains`, in files and tables, too.

    Returns:
        The domains, and a sentence for each part that cannot be read.
    """
    found: list[Domain] = []
    problems: list[str] = []
    for item, origin in _list_items(main_cf, name, problems):
        if item.startswith("!"):
            problems.append(f"{item} ({origin}) is an exception; take the domain out yourself.")
        else:
            found.append(Domain(item, origin))
    return found, problems


def _list_items(main_cf: MainCf, name: str, problems: list[str]) -> Iterator[tuple[str, str]]:
    origin = main_cf.origin(name)
    for item in split_list(main_cf.get(name)):
        table = table_of(item)
        try:
            if item.startswith("/"):
                path = main_cf.path(item)
                for line in logical_lines(read_text(path)):
                    yield from ((word, f"{path}:{line.number}") for word in split_list(line.text))
            elif table is not None:
                yield from ((entry.key, entry.where) for entry in entries(main_cf, table))
            else:
                yield item, str(origin)
        except ImportFailed as error:
            problems.append(f"{error}.")


def _inline(table: Table) -> Iterator[TableEntry]:
    """The entries of `inline:{ key=value, { key = text with blanks } }`."""
    content = table.name.strip()
    for item in split_list(content.removeprefix("{").removesuffix("}")):
        key, _, value = item.removeprefix("{").removesuffix("}").partition("=")
        yield TableEntry(key.strip(), value.strip(), str(table))


def origin_of(main_cf: MainCf, name: str, table: Table) -> Origin:
    """The origin of a value that comes from a table of a parameter."""
    return Origin(f"{name} = {table}", main_cf.parameters[name].where if name in main_cf else "")
