"""Queries of tables to an SQLite file, in threads."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import TextClause, create_engine
from sqlalchemy.pool import NullPool

from relay.lookup.sql import CONNECTIONS, ROWS, TIME_LIMIT, Rows

STEPS = 10_000  # of SQLite's machine between two looks at the clock


class SqliteEngine:
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
