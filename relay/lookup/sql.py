"""A table in a PostgreSQL server or an SQLite file, read only. Keys reach the database as bound parameters alone.

Connections are made when they are needed, in the process that needs them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.types import NullType

from relay.config.table_sources import SqlSource
from relay.lookup.source import BadKey, SourceUnavailable
from relay.table_files.bad_lines import is_utf8

TIME_LIMIT = 5.0  # seconds for one look-up, with the connection that it needs
CONNECTIONS = 4  # of one worker to one database
ROWS = 1001  # that are read: one more than an alias may have targets
_NO_SUCH_TEXT = ("22021", "22P05")  # the key has a character that the encoding of the database does not have

Rows = Sequence[Sequence[object]]


def parameters(source: SqlSource, key: str) -> dict[str, str] | None:
    """What the places of the query are filled with, as pgsql_table(5) says; None where no look-up is made."""
    local, at, domain = key.rpartition("@")
    values = {"s": key, "u": local if at else key, "d": domain if at else ""}
    if not all(values[part] for part in source.parameters):
        return None
    return {f"p{number}": values[part] for number, part in enumerate(source.parameters)}


def statement(source: SqlSource) -> TextClause:
    """The query with its parameters, of which the database finds out the type, as of a text in quotes."""
    names = [f"p{number}" for number in range(len(source.parameters))]
    query = source.query.replace(":", "\\:").format(*[f":{name}" for name in names])
    return text(query).bindparams(*[bindparam(name, type_=NullType()) for name in names])


def joined(rows: Iterable[Sequence[object]]) -> str | None:
    """The rows as one value, joined by commas as Postfix does; None where there is none."""
    cells = (cell for row in rows for cell in row if cell is not None)
    texts = [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for cell in cells]
    return ",".join(filter(None, texts)) or None


class Engine(Protocol):
    """One of the two databases, for all queries to it. `rows` raises SourceUnavailable, BadKey, and what SQLAlchemy
    raises."""

    async def rows(self, query: TextClause, values: Mapping[str, str]) -> Rows: ...

    async def close(self) -> None: ...


class SqlTable:
    """A query to a database."""

    def __init__(self, source: SqlSource, database: Engine) -> None:
        self._source = source
        self._statement = statement(source)
        self._engine = database

    async def get(self, key: str) -> str | None:
        """What the query has for a key. Raises SourceUnavailable."""
        values = parameters(self._source, key)
        if values is None or not is_utf8(key):
            return None
        try:
            async with asyncio.timeout(TIME_LIMIT):
                return joined(await self._rows(values))
        except TimeoutError:
            raise SourceUnavailable(f"no answer in {TIME_LIMIT:.0f} s") from None
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None) or ""
            if state in _NO_SUCH_TEXT:
                return None
            unavailable = BadKey if state.startswith("22") else SourceUnavailable
            raise unavailable(line(error.orig)) from error
        except (OSError, ValueError, SQLAlchemyError) as error:
            raise SourceUnavailable(line(error)) from error

    async def _rows(self, values: Mapping[str, str]) -> Rows:
        try:
            return await self._engine.rows(self._statement, values)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return await self._engine.rows(self._statement, values)  # the server had ended an idle connection


def line(error: BaseException | None) -> str:
    """The text of an error on one line."""
    return " ".join(str(error).split()) or type(error).__name__
