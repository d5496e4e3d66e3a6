"""Opens the queue that `queue.url` names: an SQLite file, or a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

from relay.queue.database import Database, QueueUnavailable


async def connect(url: str, *, create: bool = True, owner: str | None = None) -> Database:
    """The database behind `queue.url`, its tables in place.

    Args:
        owner: a worker's name in leases. Its supervisor has seen to the tables, and a server may be away for now.

    Raises:
        QueueUnavailable: it cannot be opened, holds another version's queue, or is not there and not to be made.
    """
    if url.startswith("sqlite:///"):
        from relay.queue.sqlite import SqliteDatabase

        return SqliteDatabase(Path(url.removeprefix("sqlite:///")), create=create)
    try:
        from relay.queue.postgresql import PostgresDatabase
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise QueueUnavailable("a queue on PostgreSQL needs asyncpg: pip install 'srs-relay[postgresql]'") from None
    database = PostgresDatabase(url, owner)
    if owner is None:
        await database.prepare(create=create)
    return database
