"""Where the store's transactions run: one SQLite file on this host, or a PostgreSQL server that several hosts share.

A unit of work is a plain function of a SQLAlchemy connection, the same for both; `relay.queue.sqlite` and
`relay.queue.postgresql` run it, each in the way that suits it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from sqlalchemy import Connection, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from relay.queue import schema

T = TypeVar("T")
Work = Callable[[Connection], T]

NO_QUEUE = "there is no queue yet; `srs-relay serve` makes it"


class QueueUnavailable(Exception):
    """The queue cannot be read or written now: disk full, locked, corrupt, server away. Nothing was stored."""


class Rejected(QueueUnavailable):
    """The database is well, but it does not take this unit of work."""


class Database(Protocol):
    """Runs units of work, each in a transaction of its own."""

    async def write(self, work: Work[T], *, durable: bool) -> T:
        """Run and commit; with `durable` return only when it would survive a power failure.

        Raises:
            QueueUnavailable: nothing was committed, or the commit could not be made durable.
        """
        ...

    async def read(self, work: Work[T], *, long: bool = False) -> T:
        """Run without the intention to write; `long` work, that reads more than a few rows, outside the event loop.

        Raises:
            QueueUnavailable
        """
        ...

    async def reusable(self) -> int:
        """Octets that deleted content has left to new content inside the file; 0 where that is the server's affair.

        Raises:
            QueueUnavailable
        """
        ...

    async def absent(self, owners: Sequence[str]) -> list[str]:
        """Those of these owners of leases that show no sign of life; none where that is seen by other means.

        Raises:
            QueueUnavailable
        """
        ...

    async def close(self) -> None: ...


def prepare(connection: Connection, *, create: bool) -> None:
    """Find the tables, or make them.

    Raises:
        QueueUnavailable: the queue was written by another version, or is not there and not to be made.
    """
    if create:
        schema.metadata.create_all(connection)
    elif not inspect(connection).has_table(schema.version.name):
        raise QueueUnavailable(NO_QUEUE)
    found = connection.execute(select(schema.version.c.version)).scalar()
    if found is None:
        connection.execute(insert(schema.version).values(version=schema.VERSION))
    elif found != schema.VERSION:
        raise QueueUnavailable(f"the queue has schema version {found}, this program knows {schema.VERSION}")


async def to_the_end(part: Callable[[], Awaitable[int]]) -> int:
    """Repeat what does a short part of a long work until nothing is left; how much there was in all.

    In between there is as long a pause as the last part took: half the time belongs to the mail.
    """
    total = 0
    while True:
        started = time.monotonic()
        done = await part()
        if not done:
            return total
        total += done
        await asyncio.sleep(time.monotonic() - started)


def cause(error: Exception) -> str:
    """What went wrong, in one line and in the words of the system or the database."""
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        error = error.orig
    if isinstance(error.__cause__, Exception):  # what the driver said, before it was fitted to Python's database API
        error = error.__cause__
    text = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    return text.partition("\n")[0]
