"""Opens the queue that `queue.url` names: an SQLite file, or a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

from relay.queue.database import Database, QueueUnavailable


async def connect(url: str, *, create: bool = True, owner: str | None = None) -> Database:
    """Open the database behind `queue.url`, with its tables in place.

    A supervisor gives neither `create` nor `owner`: it makes the tables where there are none, and migrates a queue
    that an earlier release wrote.

    Args:
        create: False for a command that only works on a queue that is there.
        owner: a worker's name in leases. Its supervisor has prepared the tables, so a server may be away for now.

    Raises:
        QueueUnavailable: it cannot be opened, its schema version cannot be used, or there is no queue and none is to
            be made.
    """
    if url.startswith("sqlite:///"):
        from relay.queue.sqlite import SqliteDatabase

        return SqliteDatabase(Path(url.removeprefix("sqlite:///")), create=create, migrate=create and owner is None)
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
