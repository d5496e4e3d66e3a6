"""The interface to a database: one SQLite file on this host, or a PostgreSQL server that several hosts share.

A unit of work is a plain function of a SQLAlchemy connection, the same for both databases. `relay.queue.sqlite` and
`relay.queue.postgresql` run it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

T = TypeVar("T")
Work = Callable[[Connection], T]

NO_QUEUE = "there is no queue yet; `srs-relay serve` makes it"


class QueueUnavailable(Exception):
    """The queue cannot be read or written now: disk full, file locked, server away. Nothing was stored."""


class Rejected(QueueUnavailable):
    """The database works, but refuses this unit of work."""


class Database(Protocol):
    """Runs units of work, each in a transaction of its own."""

    async def write(self, work: Work[T], *, durable: bool) -> T:
        """Run and commit; with `durable` return only when a power failure cannot undo it.

        Raises:
            QueueUnavailable: nothing was committed, or the commit could not be made durable.
        """
        ...

    async def read(self, work: Work[T], *, long: bool = False) -> T:
        """Run work that only reads; `long` work, which reads more than a few rows, runs outside the event loop.

        Raises:
            QueueUnavailable
        """
        ...

    async def reusable(self) -> int:
        """Octets inside the file that deleted content has left free; always 0 on PostgreSQL.

        Raises:
            QueueUnavailable
        """
        ...

    def log_room(self) -> int:
        """Octets of the disk that the write-ahead log has, and writes over again; always 0 on PostgreSQL."""
        ...

    async def dead_owners(self, owners: Sequence[str]) -> list[str]:
        """Which of these owners of leases are not connected; always none on SQLite, where the supervisor knows.

        Raises:
            QueueUnavailable
        """
        ...

    @property
    def announces(self) -> bool:
        """Whether processes tell each other what they make due; never on SQLite."""
        ...

    @property
    def hears(self) -> bool:
        """Whether this process hears at this moment what others announce."""
        ...

    def watch(self, heard: Callable[[], None]) -> None:
        """Call `heard` soon after another process has announced something, or may have done so unheard."""
        ...

    def announce(self) -> None:
        """Let other processes know soon that deliveries are due. It may get lost."""
        ...

    async def claims(self, task: str) -> bool:
        """Whether this worker is the one of all hosts that does a task; always true on SQLite, which one host has.

        Raises:
            QueueUnavailable
        """
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of all connections."""
        ...


async def repeat_until_done(part: Callable[[], Awaitable[int]]) -> int:
    """Repeat a short part of a long work until it returns 0; returns the sum of what the parts returned.

    After each part there is a pause as long as the part took, so that mail has half the time.
    """
    total = 0
    while True:
        started = time.monotonic()
        done = await part()
        if not done:
            return total
        total += done
        await asyncio.sleep(time.monotonic() - started)


def error_line(error: Exception) -> str:
    """What the system or the database says about an error, in one line."""
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        error = error.orig
    if isinstance(error.__cause__, Exception):  # what the driver said, before it was fitted to Python's database API
        error = error.__cause__
    text = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    return text.partition("\n")[0]
