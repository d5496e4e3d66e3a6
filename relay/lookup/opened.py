"""Opens the sources that a configuration names, before any worker starts: files are read, databases asked later."""

from __future__ import annotations

from dataclasses import dataclass

from relay.config.table_sources import RegexpSource, SqlSource
from relay.lookup.regexp import RegexpTable, parse_regexp
from relay.lookup.source import KEY_CHARACTERS, Remembering, Source
from relay.lookup.sql import PostgresTable, SqliteTable
from relay.table_files.reloaded_file import ReloadedFile


@dataclass(frozen=True, slots=True)
class RegexpFile:
    """A regexp table as new as its file."""

    file: ReloadedFile[RegexpTable]

    async def get(self, key: str) -> str | None:
        return None if len(key) > KEY_CHARACTERS else self.file.value.find(key)

    async def close(self) -> None:
        """A file needs no closing."""


def open_source(source: RegexpSource | SqlSource) -> Source:
    """The source; nothing is connected before the first look-up. A `RegexpFile` has a file to follow.

    Raises:
        OSError: a file cannot be read.
        ValueError: not one line of a file can be used.
    """
    if isinstance(source, RegexpSource):
        return RegexpFile(ReloadedFile(source.path, parse_regexp))
    if source.url.startswith("sqlite:"):
        return Remembering(SqliteTable(source), source.name)
    password = None
    if source.password_file is not None:
        password = source.password_file.read_text(encoding="utf-8").strip("\r\n")
    return Remembering(PostgresTable(source, password), source.name)
