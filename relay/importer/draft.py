"""The configuration that an import makes, before it is written: keys with their origins, and what has no counterpart.

An importer fills a `Draft`; `relay.importer.text` writes it as TOML, `relay.importer.folder` puts its files in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

Value = str | int | bool | tuple[str, ...]
Table = tuple[str, ...]  # the names of a table: () for the top, ("srs",), ("routes", "domains", "example.org")
Kind = Literal["set", "fill in", "if wanted"]

NEW = ""  # the origin of a key that the import itself adds


class ImportFailed(ValueError):
    """The source cannot be read as what it is said to be; the text says why, in one line."""


class Origin(NamedTuple):
    """Where a value stands in the source: the name of the setting, and its file and line, or what stands for them."""

    name: str
    where: str

    def __str__(self) -> str:
        return f"{self.name} ({self.where})" if self.where else self.name


class Item(NamedTuple):
    """One value of an array, with its own origin."""

    value: str
    origin: str


@dataclass(slots=True)
class Key:
    """One key of the configuration.

    Attributes:
        origin: empty if the import adds the key itself; arrays have the origin of each item in `items`.
        comment: what a person should know about the value.
        kind: "fill in" and "if wanted" are written as a comment, with an example as the value.
    """

    value: Value
    origin: str = NEW
    comment: str = ""
    kind: Kind = "set"
    items: list[Item] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    """One table of an array of tables, like `[[listen]]`."""

    keys: dict[str, Key]
    comment: str = ""
    kind: Kind = "set"


class Unmapped(NamedTuple):
    """A setting without a counterpart.

    Attributes:
        meaning: what follows from that.
        matters: mail is treated otherwise than before, so that the administrator has to know.
    """

    name: str
    where: str
    meaning: str
    matters: bool


class TheirFiles(NamedTuple):
    """Files of the other program that a key names by an absolute path.

    Attributes:
        name: of the key, like `srs.secrets_file`.
        paths: all of them have to be readable for our user, or all of them are copied.
        copy: the value of the key if they are copied, relative to the configuration.
        contents: the copies by their names, relative to the configuration; raises OSError.
    """

    name: str
    key: Key
    paths: tuple[Path, ...]
    copy: str
    contents: Callable[[], Mapping[str, bytes]]


class NewFile(NamedTuple):
    """A file that the import makes; its key names it relative to the configuration."""

    name: str
    content: str


class Draft:
    """Collects one configuration.

    Args:
        program: the other program, as people call it.
        source: the file or folder that is read.
    """

    def __init__(self, program: str, source: str) -> None:
        self.program = program
        self.source = source
        self.tables: dict[Table, dict[str, Key]] = {}
        self.arrays: dict[str, list[Entry]] = {}
        self.comments: dict[Table, str] = {}
        self.unmapped: list[Unmapped] = []
        self.their_files: list[TheirFiles] = []
        self.new_files: list[NewFile] = []

    def set(self, table: Table, key: str, value: Value, origin: Origin | str = NEW, comment: str = "") -> None:
        """Set a key; a later value takes the place of an earlier one."""
        self.tables.setdefault(table, {})[key] = Key(value, str(origin), comment)

    def add(self, table: Table, key: str, values: Iterable[str], origin: Origin | str, comment: str = "") -> None:
        """Add values to an array, each value once."""
        values = list(values)
        if not values:
            return
        keys = self.tables.setdefault(table, {})
        entry = keys.get(key)
        if entry is None or entry.kind != "set":
            entry = keys[key] = Key((), NEW)
        entry.comment = " ".join(filter(None, dict.fromkeys((entry.comment, comment))))
        known = {item.value for item in entry.items}
        entry.items += [Item(value, str(origin)) for value in dict.fromkeys(values) if value not in known]
        entry.value = tuple(item.value for item in entry.items)

    def ask(self, table: Table, key: str, example: Value, text: str, kind: Kind = "fill in") -> None:
        """A key that the source does not know. It stays away if it is set already."""
        self.tables.setdefault(table, {}).setdefault(key, Key(example, NEW, text, kind))

    def entry(self, array: str, keys: dict[str, Key], comment: str = "", kind: Kind = "set") -> None:
        """Add a table to an array of tables."""
        self.arrays.setdefault(array, []).append(Entry(keys, comment, kind))

    def value(self, table: Table, key: str) -> Value | None:
        """The value of a key; None if it is not set."""
        entry = self.tables.get(table, {}).get(key)
        return entry.value if entry is not None and entry.kind == "set" else None

    def strings(self, table: Table, key: str) -> Sequence[str]:
        """The values of an array; none if it is not set."""
        value = self.value(table, key)
        return value if isinstance(value, tuple) else ()

    def remark(self, table: Table, text: str) -> None:
        """Put a comment below the heading of a table."""
        self.tables.setdefault(table, {})
        self.comments[table] = " ".join(filter(None, (self.comments.get(table), text)))

    def no_counterpart(self, origin: Origin, meaning: str, *, matters: bool = False) -> None:
        """Name a setting without a counterpart."""
        self.unmapped.append(Unmapped(origin.name, origin.where, meaning, matters))

    def their_file(
        self, table: Table, key: str, path: Path, copy: str, origin: Origin | str, comment: str = ""
    ) -> None:
        """Set a key to a file of the other program.

        Args:
            path: absolute.
            copy: the name of the copy, where our user may not read the file.
        """
        self.set(table, key, str(path), origin, comment)
        self.may_copy(".".join((*table, key)), self.tables[table][key], path, copy)

    def may_copy(self, name: str, key: Key, path: Path, copy: str) -> None:
        """Let a file that a key names be copied, where our user may not read it; the arguments as in `TheirFiles`."""
        self.their_files.append(TheirFiles(name, key, (path,), copy, lambda: {copy: path.read_bytes()}))

    def new_file(
        self, table: Table, key: str, name: str, content: str, origin: Origin | str = NEW, comment: str = ""
    ) -> None:
        """Set a key to a file that `--write` makes."""
        self.set(table, key, name, origin, f"`import --write` makes this file. {comment}".strip())
        self.new_files.append(NewFile(name, content))

    def to_fill_in(self) -> list[str]:
        """The keys that the administrator has to fill in, like `srs.domain`."""
        single = [
            ".".join((*table, name))
            for table, keys in sorted(self.tables.items(), key=lambda item: bool(item[0]))  # those of the top first
            for name, key in keys.items()
            if key.kind == "fill in"
        ]
        arrays = [
            array
            for array, entries in self.arrays.items()
            for entry in entries
            if "fill in" in (entry.kind, *(key.kind for key in entry.keys.values()))
        ]
        return list(dict.fromkeys((*single, *arrays)))
