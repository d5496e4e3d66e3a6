"""The content of large messages: its first MiB stands in the row of the message, the rest in pieces of 1 MiB.

The pieces are stored before the row and deleted after it, a few in each transaction: none of them holds up the event
loop or other processes for long. A process that dies meanwhile leaves pieces without a message, which a sweep deletes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, insert, select

from relay.mail.queue_id import first_at
from relay.queue.change import StoredMessage
from relay.queue.database import Database, QueueUnavailable, repeat_until_done
from relay.queue.schema import CHUNK, chunk, message

DELETED_AT_ONCE = 4  # pieces: SQLite reads each page of what it deletes, which takes half a millisecond a MiB
SWEPT_AT_ONCE = 100  # messages
ORPHAN_AGE = 86400.0  # seconds after which content without a message no longer belongs to one that is being stored

# Constants, because SQLAlchemy takes longer to build a statement than to execute it.
_OF_MESSAGE = chunk.c.message_id == bindparam("b_message")
_STORE = insert(chunk)
_PIECE = select(chunk.c.content).where(_OF_MESSAGE, chunk.c.n == bindparam("b_n"))
_HAS_ROW = exists().where(message.c.id == bindparam("b_message"))
_others = chunk.alias()
_DELETE = delete(chunk).where(
    _OF_MESSAGE,
    chunk.c.n.in_(
        select(_others.c.n)
        .where(_others.c.message_id == bindparam("b_message"))
        .order_by(_others.c.n)
        .limit(DELETED_AT_ONCE)
    ),
    ~_HAS_ROW,
)


class LargeContent:
    """The pieces of one queue."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._leaving: set[int] = set()  # messages that are gone, whose pieces are to be deleted
        self._deleting: asyncio.Task[None] | None = None
        self._swept = 0  # the message that the last sweep looked at last

    async def store(self, stored: StoredMessage) -> None:
        """Store all but the first MiB of a message, before its row. If that fails, nothing of it stays.

        Raises:
            QueueUnavailable
        """
        content = stored.message.content
        for n, start in enumerate(range(CHUNK, len(content), CHUNK), start=1):
            values = {"message_id": stored.id, "n": n, "content": content[start : start + CHUNK]}
            try:
                await self._database.write(partial(_store, values), durable=False)
            except QueueUnavailable:
                await self.take_back(stored)
                raise
            await asyncio.sleep(0)

    async def take_back(self, stored: StoredMessage) -> None:
        """Delete the pieces of a message that was not stored; a sweep deletes what is left.

        A message that was committed, but not synced, keeps them.
        """
        if len(stored.message.content) > CHUNK:
            with suppress(QueueUnavailable):
                await self.delete([stored.id])

    async def load(self, message_id: int, first: bytes, size: int) -> bytes:
        """The whole content of a message of this size; it is shorter where a piece is missing.

        Args:
            first: what the row of the message has.

        Raises:
            QueueUnavailable
        """
        pieces = [first]
        have = len(first)
        while have < size:
            piece = await self._database.read(partial(_piece, message_id, len(pieces)))
            if piece is None:
                break
            pieces.append(piece)
            have += len(piece)
            await asyncio.sleep(0)
        # Joining 25 MB takes 10 ms, for which Python does not hold its lock.
        return first if len(pieces) == 1 else await asyncio.to_thread(b"".join, pieces)

    async def delete(self, message_ids: Collection[int]) -> None:
        """Delete the pieces of messages whose row is gone; those of others stay.

        Raises:
            QueueUnavailable
        """
        for message_id in message_ids:
            await repeat_until_done(partial(self._database.write, partial(_delete_some, message_id), durable=False))

    def delete_soon(self, message_ids: Collection[int]) -> None:
        """The same, beside other work and without waiting for it; a sweep deletes what is left."""
        self._leaving.update(message_ids)
        if self._leaving and self._deleting is None:
            self._deleting = asyncio.create_task(self._delete_leaving(), name="large-content")

    async def _delete_leaving(self) -> None:
        try:
            while self._leaving:
                await self.delete([self._leaving.pop()])
        except QueueUnavailable:  # who has mail to store or to deliver says so
            self._leaving.clear()
        finally:
            self._deleting = None

    async def sweep(self, now: float) -> None:
        """Delete pieces of messages that were never stored, or half deleted, because their worker died; each call
        continues the last.

        Raises:
            QueueUnavailable
        """
        before = first_at(now - ORPHAN_AGE)
        statement = (
            select(chunk.c.message_id)
            .where(chunk.c.message_id > self._swept, chunk.c.message_id < before)
            .distinct()
            .order_by(chunk.c.message_id)
            .limit(SWEPT_AT_ONCE)
        )

        def look(connection: Connection) -> list[int]:
            return list(connection.execute(statement).scalars())

        message_ids = await self._database.read(look)
        await self.delete(message_ids)
        self._swept = message_ids[-1] if len(message_ids) == SWEPT_AT_ONCE else 0

    async def close(self) -> None:
        """Delete what is still to be deleted."""
        if self._deleting is not None:
            await asyncio.wait([self._deleting])


def _store(values: Mapping[str, Any], connection: Connection) -> None:
    connection.execute(_STORE, values)


def _piece(message_id: int, n: int, connection: Connection) -> bytes | None:
    found: bytes | None = connection.execute(_PIECE, {"b_message": message_id, "b_n": n}).scalar()
    return found


def _delete_some(message_id: int, connection: Connection) -> int:
    return connection.execute(_DELETE, {"b_message": message_id}).rowcount
