"""The text of an alias file, to be changed by one entry: every octet that is not the entry's stays as it is.

Here are the lines of virtual(5); `alias_toml_text` has TOML, and `alias_edit` decides what is changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.route.alias_file import WrittenEntry, parse_virtual, written_in_virtual
from relay.route.alias_listing import Entry
from relay.route.alias_table import AliasTable

BOM = "\ufeff"  # the byte order mark that some editors write in front

_LINE = re.compile(r"[^\r\n]+(?:\r\n|\r|\n)?|\r\n|\r|\n")  # as Python reads a text file
_LINE_END = re.compile(r"\r\n|\r|\n")


class UnchangeableText(ValueError):
    """An entry is written in a way that a command cannot change; the text says why."""


class AliasText(Protocol):
    """The text of one file, in one form.

    The text is as the file has it, with its line ends and byte order mark; octets that are no UTF-8 are lone surrogates
    (PEP 383). What is returned as a changed text is so, too.
    """

    def written(self, source: str) -> Iterator[WrittenEntry]:
        """The entries, in their order. Raises AliasError: the text has not this form."""

    def table(self, source: str, local_domains: Sequence[str]) -> AliasTable:
        """The table as the relay reads it. Raises AliasError: not one entry can be read."""

    def with_entry(self, entry: Entry) -> str:
        """The text with another entry at its end. Raises UnchangeableText."""

    def with_replaced(self, old: Sequence[Entry], entry: Entry) -> str:
        """The text with an entry in the place of others, one at least. Raises UnchangeableText."""

    def without(self, old: Sequence[Entry]) -> str:
        """The text without some of its entries. Raises UnchangeableText."""


@dataclass(frozen=True, slots=True)
class VirtualText:
    """The text of a virtual(5) file. A file whose last line has no end stays one."""

    text: str

    def written(self, source: str) -> Iterator[WrittenEntry]:
        return written_in_virtual(as_read(self.text), source)

    def table(self, source: str, local_domains: Sequence[str]) -> AliasTable:
        return parse_virtual(as_read(self.text), source, local_domains)

    def with_entry(self, entry: Entry) -> str:
        end = line_end(self.text)
        line = _line(entry)
        if not self.text.removeprefix(BOM) or self.text.endswith(("\r", "\n")):
            return f"{self.text}{line}{end}"
        return f"{self.text}{end}{line}"

    def with_replaced(self, old: Sequence[Entry], entry: Entry) -> str:
        return self._without_lines(old, _line(entry))

    def without(self, old: Sequence[Entry]) -> str:
        return self._without_lines(old)

    def _without_lines(self, old: Sequence[Entry], replacement: str | None = None) -> str:
        """The text without all lines of some entries; the replacement takes the place of their first line."""
        bom = BOM if self.text.startswith(BOM) else ""
        lines = _LINE.findall(self.text.removeprefix(BOM))
        gone = {number for entry in old for number in entry.lines}
        place = 0 if replacement is None else min(gone)
        kept = list[str]()
        for number, line in enumerate(lines, 1):
            if number == place:
                kept.append(f"{replacement}{_end_of(line) or line_end(self.text)}")
            elif number not in gone:
                kept.append(line)
        if kept and lines and not _end_of(lines[-1]):
            kept[-1] = kept[-1].removesuffix(_end_of(kept[-1]))
        return bom + "".join(kept)


def as_read(text: str) -> str:
    """The text as the relay reads it: without byte order mark, each line end as `\\n`."""
    return _LINE_END.sub("\n", text.removeprefix(BOM))


def line_end(text: str) -> str:
    """The end of the last line that has one; `\\n` in a text of one line."""
    ends = _LINE_END.findall(text)
    return ends[-1] if ends else "\n"


def _end_of(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]


def _line(entry: Entry) -> str:
    return f"{entry.address}    {entry.right_side}"
