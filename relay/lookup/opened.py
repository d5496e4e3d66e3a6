"""Opens the tables that a configuration names, before any worker starts: files are read, databases asked later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from relay.config.table_sources import RegexpSource, SqlSource, TableSource
from relay.lookup.regexp import RegexpFile, parse_regexp
from relay.lookup.source import Remembering, Result, Source
from relay.table_files.reloaded_file import ReloadedFile

if TYPE_CHECKING:
    from relay.lookup.sql import Engine

T = TypeVar("T")


class Opened:
    """The regexp tables and databases of one configuration; what several keys name alike is opened once for them."""

    def __init__(self) -> None:
        self._databases: dict[SqlSource, Remembering] = {}
        self._engines: dict[tuple[str, str | None], Engine] = {}
        self._regexps: dict[Path, RegexpFile] = {}

    @property
    def databases(self) -> Sequence[Remembering]:
        return tuple(self._databases.values())

    @property
    def files(self) -> tuple[ReloadedFile[Any], ...]:
        """The regexp tables, for `relay.table_files.reloaded_file.follow`."""
        return tuple([table.file for table in self._regexps.values()])

    @property
    def bad_lines(self) -> Mapping[str, int]:
        """How many lines of each regexp table cannot be used, by its path."""
        return {str(file.path): len(file.value.bad.lines) for file in self.files}

    def open(self, source: RegexpSource | SqlSource) -> Source:
        """One table.

        Raises:
            OSError: a file cannot be read.
            ValueError: not one line of a file can be used, or the driver of a database is not installed.
        """
        if isinstance(source, RegexpSource):
            if source.path not in self._regexps:
                self._regexps[source.path] = RegexpFile(ReloadedFile(source.path, parse_regexp))
            return self._regexps[source.path]
        if source not in self._databases:
            from relay.lookup.engines import engine  # SQLAlchemy takes its time to load
            from relay.lookup.sql import SqlTable

            password = None
            if source.password_file is not None:
                password = source.password_file.read_text(encoding="utf-8").strip("\r\n")
            database = source.url, password
            if database not in self._engines:
                self._engines[database] = engine(*database)
            self._databases[source] = Remembering(SqlTable(source, self._engines[database]), source.name)
        return self._databases[source]

    def open_all(self, sources: Sequence[TableSource], read: Callable[[Path], T]) -> tuple[T | Source, ...]:
        """Several tables. Raises: as `open`, and what `read` does, which reads a file."""
        return tuple([read(source) if isinstance(source, Path) else self.open(source) for source in sources])

    def count(self, count: Callable[[Result], None]) -> None:
        """Tell `count` what comes of each question to a database."""
        for database in self._databases.values():
            database.count = count

    async def close(self) -> None:
        """End the connections to databases."""
        for database in self._databases.values():
            database.cancel()
        await asyncio.gather(*[each.close() for each in self._engines.values()])
