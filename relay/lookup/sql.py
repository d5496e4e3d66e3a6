"""Tables in a PostgreSQL server or an SQLite file, read only. Keys reach the database as bound parameters alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import asyncpg

from relay.config.table_sources import SqlSource
from relay.lookup.source import SourceUnavailable

TIME_LIMIT = 5.0  # seconds for one look-up, with the connection that it needs
CONNECTIONS = 4  # of one worker to one table
ROWS = 1001  # that are read: one more than an alias may have targets


def parameters(source: SqlSource, key: str) -> tuple[str, ...] | None:
    """What the places of the query are filled with, as pgsql_table(5) says; None where no look-up is made."""
    local, at, domain = key.rpartition("@")
    values = {"s": key, "u": local if at else key, "d": domain}
    if not all(values[part] for part in source.parameters):
        return None
    return tuple([values[part] for part in source.parameters])


def joined(rows: Iterable[Sequence[object]]) -> str | None:
    """The rows as one value, joined by commas as Postfix does; None where there is none."""
    cells = (cell for row in rows for cell in row if cell is not None)
    texts = [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for cell in cells]
    return ",".join(filter(None, texts)) or None


class PostgresTable:
    """A query to a PostgreSQL server. The connections are made when they are needed, in the process that needs them."""

    def __init__(self, source: SqlSource, password: str | None) -> None:
        self._source = source
        self._password = password
        self._query = source.query.format(*[f"${n}" for n in range(1, len(source.parameters) + 1)])
        self._pool: asyncpg.Pool | None = None

    async def get(self, key: str) -> str | None:
        values = parameters(self._source, key)
        if values is None or not _is_utf8(key):
            return None
        try:
            async with asyncio.timeout(TIME_LIMIT):
                return joined(await self._rows(values))
        except TimeoutError:
            raise SourceUnavailable(f"no answer in {TIME_LIMIT:.0f} s") from None
        except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise SourceUnavailable(" ".join(str(error).split()) or type(error).__name__) from error

    async def _rows(self, values: Sequence[str]) -> Sequence[Sequence[object]]:
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                "postgresql://" + self._source.url.partition("://")[2],
                password=self._password,
                min_size=0,
                max_size=CONNECTIONS,
                timeout=TIME_LIMIT,
                statement_cache_size=0,  # a pooler in between may use another connection for the next statement
                server_settings={"application_name": "srs-relay tables"},
            )
        pool = await self._pool
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            cursor = await connection.cursor(self._query, *values)
            rows: Sequence[Sequence[object]] = await cursor.fetch(ROWS)
            return rows

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None


class SqliteTable:
    """A query to an SQLite file. It is opened for each look-up, so that another file may take its place."""

    def __init__(self, source: SqlSource) -> None:
        self._source = source
        path = source.url.removeprefix("sqlite:///")
        self._uri = f"file:{quote(str(Path(path)))}?mode=ro"
        self._query = source.query.format(*[f"?{n}" for n in range(1, len(source.parameters) + 1)])
        self._threads: ThreadPoolExecutor | None = None

    async def get(self, key: str) -> str | None:
        values = parameters(self._source, key)
        if values is None or not _is_utf8(key):
            return None
        if self._threads is None:
            self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="sqlite-table")
        loop = asyncio.get_running_loop()
        opened: list[sqlite3.Connection] = []
        try:
            async with asyncio.timeout(TIME_LIMIT):
                return await loop.run_in_executor(self._threads, self._look_up, values, opened)
        except TimeoutError:
            for connection in opened:
                connection.interrupt()
            raise SourceUnavailable(f"no answer in {TIME_LIMIT:.0f} s") from None
        except sqlite3.Error as error:
            raise SourceUnavailable(str(error)) from error

    def _look_up(self, values: Sequence[str], opened: list[sqlite3.Connection]) -> str | None:
        with closing(sqlite3.connect(self._uri, uri=True, timeout=TIME_LIMIT / 2, check_same_thread=False)) as database:
            opened.append(database)
            try:
                return joined(database.execute(self._query, values).fetchmany(ROWS))
            finally:
                opened.clear()  # nobody interrupts a connection that is closed

    async def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


def _is_utf8(text: str) -> bool:
    return text.isascii() or text == text.encode(errors="ignore").decode()
