"""A table in a PostgreSQL server or an SQLite file, read only. Keys reach the database as bound parameters alone.

Connections are made when they are needed, in the process that needs them.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import asyncpg
from sqlalchemy import TextClause, bindparam, create_engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.types import NullType

from relay.config.table_sources import SqlSource
from relay.lookup.source import BadKey, SourceUnavailable
from relay.table_files.bad_lines import is_utf8

TIME_LIMIT = 5.0  # seconds for one look-up, with the connection that it needs
CONNECTIONS = 4  # of one worker to one database
ROWS = 1001  # that are read: one more than an alias may have targets
STEPS = 10_000  # of SQLite's machine between two looks at the clock
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
    """One of the two databases, for all queries to it. `rows` raises what SQLAlchemy and the driver raise."""

    async def rows(self, query: TextClause, values: Mapping[str, str]) -> Rows: ...

    async def close(self) -> None: ...


def engine(url: str, password: str | None = None) -> Engine:
    """The database of a URL. Nothing is connected yet.

    Args:
        password: for a server; None where it wants none, or libpq's places have it.
    """
    return _Sqlite(url) if url.startswith("sqlite:") else _Postgres(url, password)


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
            unavailable = BadKey if state.startswith("22") or _is_unfit(error) else SourceUnavailable
            raise unavailable(_line(error.orig)) from error
        except (OSError, ValueError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise SourceUnavailable(_line(error)) from error

    async def _rows(self, values: Mapping[str, str]) -> Rows:
        try:
            return await self._engine.rows(self._statement, values)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return await self._engine.rows(self._statement, values)  # the server had ended an idle connection


def _is_unfit(error: DBAPIError) -> bool:
    """Whether the driver cannot make the type of the column from the key, say a number or a network."""
    return isinstance(error.orig and error.orig.__cause__, asyncpg.DataError)


def _line(error: BaseException | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class _Postgres:
    """A server, through a pool."""

    def __init__(self, url: str, password: str | None) -> None:
        async def connect() -> asyncpg.Connection:
            return await asyncpg.connect(
                "postgresql://" + url.partition("://")[2],
                password=password,
                timeout=TIME_LIMIT,
                statement_cache_size=0,  # a pooler in between may use another connection for the next statement
                server_settings={"application_name": "srs-relay tables"},
            )

        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            connect_args={"prepared_statement_cache_size": 0},
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=TIME_LIMIT,
            execution_options={"postgresql_readonly": True},
        )

    async def rows(self, query: TextClause, values: Mapping[str, str]) -> Rows:
        async with self._engine.connect() as connection, connection.stream(query, dict(values)) as result:
            return [tuple(row) for row in await result.fetchmany(ROWS)]

    async def close(self) -> None:
        await self._engine.dispose()


class _Sqlite:
    """A file. It is opened in a thread for each look-up, so that another file may take its place."""

    def __init__(self, url: str) -> None:
        uri = f"file:{quote(str(Path(url.removeprefix('sqlite:///'))))}?mode=ro"
        self._engine = create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(uri, uri=True, timeout=TIME_LIMIT / 2),
            poolclass=NullPool,
        )
        self._threads: ThreadPoolExecutor | None = None

    async def rows(self, query: TextClause, values: Mapping[str, str]) -> Rows:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="sqlite-table")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, query, values)

    def _look_up(self, query: TextClause, values: Mapping[str, str]) -> Rows:
        until = time.monotonic() + TIME_LIMIT
        with self._engine.connect() as connection:
            driver = connection.connection.dbapi_connection
            assert isinstance(driver, sqlite3.Connection)
            driver.set_progress_handler(lambda: time.monotonic() > until, STEPS)
            return [tuple(row) for row in connection.execute(query, values).fetchmany(ROWS)]

    async def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
