"""The content of large messages: its first MiB stands in the row of the message, the rest in pieces of 1 MiB.

The pieces are stored before the row and deleted after it, a few in each transaction: none of them holds up the event
loop or other processes for long. A process that dies meanwhile leaves pieces without a row, which a sweep deletes when
they are a day old.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, insert, select

from relay.mail.queue_id import first_at
from relay.queue.change import StoredMessage
from relay.queue.database import Database, QueueUnavailable
from relay.queue.schema import CHUNK, chunk, message

DELETED_AT_ONCE = 4  # pieces: SQLite reads each page of what it deletes, which takes half a millisecond a MiB
SWEPT_AT_ONCE = 100  # messages
ORPHAN_AGE = 86400.0  # seconds after which pieces without a row no longer belong to a message that is being stored
CLOSE_PATIENCE = 0.5  # seconds to delete what is left at the end

# Constants, because SQLAlchemy takes longer to build a statement than to execute it.
_OF_MESSAGE = chunk.c.message_id == bindparam("b_message")
_STORE = insert(chunk)
_PIECE = select(chunk.c.content).where(_OF_MESSAGE, chunk.c.n == bindparam("b_n"))
_PIECES = chunk.alias()
_DELETE = delete(chunk).where(
    _OF_MESSAGE,
    chunk.c.n.in_(
        select(_PIECES.c.n)
        .where(_PIECES.c.message_id == bindparam("b_message"))
        .order_by(_PIECES.c.n)
        .limit(DELETED_AT_ONCE)
    ),
    ~exists().where(message.c.id == bindparam("b_message")),
)
_ORPHANS = (
    select(chunk.c.message_id)
    .where(chunk.c.message_id < bindparam("b_before"), ~exists().where(message.c.id == chunk.c.message_id))
    .distinct()
    .order_by(chunk.c.message_id)
    .limit(SWEPT_AT_ONCE)
)


class LargeContent:
    """The pieces of one queue."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._leaving: set[int] = set()  # messages that are gone, whose pieces are to be deleted
        self._deleting: asyncio.Task[None] | None = None

    async def store(self, stored: StoredMessage) -> None:
        """Store all but the first MiB of a message, before its row. If one of both fails, the caller deletes it.

        Raises:
            QueueUnavailable
        """
        content = stored.message.content
        for n, start in enumerate(range(CHUNK, len(content), CHUNK), start=1):
            values = {"message_id": stored.id, "n": n, "content": content[start : start + CHUNK]}
            await self._database.write(partial(_store, values), durable=False)
            await asyncio.sleep(0)

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

    def delete_soon(self, message_ids: Iterable[int] = ()) -> None:
        """Delete the pieces of messages whose row is gone, beside other work; a message that has its row keeps them.

        What cannot be deleted now is tried again with the next ones, and by the sweep.
        """
        self._leaving.update(message_ids)
        if self._leaving and self._deleting is None:
            self._deleting = asyncio.create_task(self._delete_leaving(), name="large-content")

    async def delete(self, message_ids: Iterable[int] = ()) -> None:
        """The same, and wait for it."""
        self.delete_soon(message_ids)
        if self._deleting is not None:
            await asyncio.wait([self._deleting])

    async def _delete_leaving(self) -> None:
        try:
            while self._leaving:
                message_id = next(iter(self._leaving))
                await self._delete_pieces(message_id)
                self._leaving.discard(message_id)
        except QueueUnavailable:
            pass  # who has mail to store or to deliver says so
        finally:
            self._deleting = None

    async def _delete_pieces(self, message_id: int) -> None:
        deleted = DELETED_AT_ONCE
        while deleted == DELETED_AT_ONCE:
            started = time.monotonic()
            deleted = await self._database.write(partial(_delete_some, message_id), durable=False)
            await asyncio.sleep(time.monotonic() - started)  # mail has half the time

    async def sweep(self, now: float) -> None:
        """Delete pieces of messages that were never stored, or half deleted, because their worker died.

        Raises:
            QueueUnavailable
        """
        orphans = partial(_orphans, first_at(now - ORPHAN_AGE))
        await self.delete()
        while not self._leaving and (message_ids := await self._database.read(orphans, long=True)):
            await self.delete(message_ids)

    async def close(self) -> None:
        """Delete what is still to be deleted, as far as there is time."""
        task = self._deleting
        if task is not None:
            await asyncio.wait([task], timeout=CLOSE_PATIENCE)
            task.cancel()
            await asyncio.wait([task])


def _store(values: Mapping[str, Any], connection: Connection) -> None:
    connection.execute(_STORE, values)


def _piece(message_id: int, n: int, connection: Connection) -> bytes | None:
    found: bytes | None = connection.execute(_PIECE, {"b_message": message_id, "b_n": n}).scalar()
    return found


def _delete_some(message_id: int, connection: Connection) -> int:
    return connection.execute(_DELETE, {"b_message": message_id}).rowcount


def _orphans(before: int, connection: Connection) -> Sequence[int]:
    return connection.execute(_ORPHANS, {"b_before": before}).scalars().all()
