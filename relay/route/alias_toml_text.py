"""The text of an alias file in TOML, to be changed by one entry. Everything that tomlkit keeps stays as it is."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.toml_document import TOMLDocument

from relay.route.alias_file import WrittenEntry, parse_toml, written_in_toml
from relay.route.alias_listing import Entry
from relay.route.alias_table import AliasTable
from relay.route.alias_text import BOM, UnchangeableText, as_read, line_end

_HOW = "the file is written in a way that a command cannot change"


@dataclass(frozen=True, slots=True)
class TomlText:
    """The text of a TOML file, whose keys outside of tables are the entries (`AliasText`)."""

    text: str

    def written(self, source: str) -> Iterator[WrittenEntry]:
        return written_in_toml(as_read(self.text), source)

    def table(self, source: str, local_domains: Sequence[str]) -> AliasTable:
        return parse_toml(as_read(self.text), source, local_domains)

    def with_entry(self, entry: Entry) -> str:
        """A new key goes in front of the first table."""

        intended = tomllib.loads(as_read(self.text)) | {entry.address: _value(entry)}
        return self._edited(lambda document: self._append(document, entry), intended)

    def with_replaced(self, old: Sequence[Entry], entry: Entry) -> str:
        first, *others = old

        def replace(document: TOMLDocument) -> None:
            for other in others:
                document.remove(other.address)
            if first.address == entry.address:
                document[entry.address] = _value(entry)
            else:
                document.remove(first.address)
                self._append(document, entry)

        intended = self._values_without(old) | {entry.address: _value(entry)}
        return self._edited(replace, intended)

    def without(self, old: Sequence[Entry]) -> str:
        def remove(document: TOMLDocument) -> None:
            for entry in old:
                document.remove(entry.address)

        return self._edited(remove, self._values_without(old))

    def _append(self, document: TOMLDocument, entry: Entry) -> None:
        item = tomlkit.item(_value(entry))
        item.trivia.trail = line_end(self.text)
        document.append(entry.address, item)

    def _values_without(self, old: Sequence[Entry]) -> dict[str, Any]:
        gone = {entry.address for entry in old}
        return {key: value for key, value in tomllib.loads(as_read(self.text)).items() if key not in gone}

    def _edited(self, edit: Callable[[TOMLDocument], None], intended: dict[str, Any]) -> str:
        """The text after a change to its document. Raises UnchangeableText: it would not say what is intended."""
        bom = BOM if self.text.startswith(BOM) else ""
        text, end = self.text.removeprefix(BOM), line_end(self.text)
        unended = text != "" and not text.endswith("\n")  # tomlkit would write the next entry into the same line
        try:
            document = tomlkit.parse(f"{text}{end}" if unended else text)
            edit(document)
            changed = document.as_string()
            if tomllib.loads(as_read(changed)) == intended:
                return bom + (changed.removesuffix(end) if unended else changed)
        except (TOMLKitError, tomllib.TOMLDecodeError):
            pass  # an entry that stands in a table, or below a key with dots
        raise UnchangeableText(_HOW)


def _value(entry: Entry) -> str | list[str]:
    if entry.reject is not None or len(entry.targets) == 1:
        return entry.right_side
    return list(entry.targets)
