"""Loads the driver of a database where a table needs it: that of PostgreSQL need not be installed."""

from __future__ import annotations

from relay.lookup.sql import Engine


def engine(url: str, password: str | None = None) -> Engine:
    """The database of a URL. Nothing is connected yet.

    Args:
        password: for a server; None where it wants none, or libpq's places have it.

    Raises:
        ValueError: its driver is not installed.
    """
    if url.startswith("sqlite:"):
        from relay.lookup.sqlite import SqliteEngine

        return SqliteEngine(url)
    try:
        from relay.lookup.postgresql import PostgresEngine
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise ValueError("a table on PostgreSQL needs asyncpg: pip install 'srs-relay[postgresql]'") from None
    return PostgresEngine(url, password)
