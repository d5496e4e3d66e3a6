"""Carries out changes of the queue: those that come at about the same time share one transaction and one sync.

A transaction costs as much as several changes, and a sync more. So the changes that come while one is under way are
carried out together afterwards. Where several clients send at once, a change also waits up to `WAIT` for theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from relay.queue.change import Change, carry_out
from relay.queue.database import Database, QueueUnavailable, Rejected

# Seconds. It is a delay of the client's 250, and of the record that a delivery is over: after a crash meanwhile that
# delivery is made a second time. A sync takes about as long, and what is to be recorded waits for it as well.
WAIT = 0.002
BATCH_OCTETS = 4 << 20  # content that shares one transaction: with more, other sessions would wait for their 250
BATCH_CHANGES = 100


class _Waiting(NamedTuple):
    """A change that waits for its transaction. Its future is cancelled where nobody waits for it any longer."""

    change: Change
    done: asyncio.Future[None]


class GroupCommit:
    """The changes of one worker.

    A change waits only while at least two sessions are between DATA and their reply, and no longer than until a change
    of each of them is there. So a message that comes alone never waits. A session that stays in DATA for long makes the
    changes of the others wait, but never longer than `WAIT`.

    Args:
        forgotten: is told of messages that are gone and have left content behind.

    Attributes:
        sessions: returns how many sessions are between DATA and their reply.
    """

    def __init__(self, database: Database, forgotten: Callable[[Collection[int]], None]) -> None:
        self.sessions: Callable[[], int] = lambda: 0
        self._database = database
        self._forgotten = forgotten
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._storing = 0  # durable changes that wait or are under way: most are a session's
        self._ready = asyncio.Event()  # set when those that wait are to wait no longer
        self._timer: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None
        self._closing = False

    async def carry_out(self, change: Change) -> None:
        """Carry a change out. It is also carried out where the caller is cancelled meanwhile.

        Raises:
            QueueUnavailable: nothing of it was done.
        """
        waiting = _Waiting(change, self._loop.create_future())
        self._waiting.append(waiting)
        self._storing += change.durable
        if self._writer is None:
            self._writer = self._loop.create_task(self._write(), name="queue-writer")
        sessions = self.sessions()
        if sessions < 2 or sessions <= self._storing:
            self._ready.set()
        elif self._timer is None:
            self._timer = self._loop.call_later(WAIT, self._ready.set)
        await waiting.done

    async def _write(self) -> None:
        while True:
            await self._ready.wait()
            if not self._waiting:
                return  # closing
            batch = self._next_batch()
            try:
                await self._commit([waiting.change for waiting in batch])
            except Exception as error:
                await self._not_committed(batch, error)
            else:
                for waiting in batch:
                    _end(waiting)
            self._storing -= sum(waiting.change.durable for waiting in batch)

    def _next_batch(self) -> list[_Waiting]:
        octets = count = 0
        for waiting in self._waiting[:BATCH_CHANGES]:
            octets += waiting.change.octets
            if count and octets > BATCH_OCTETS:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        if not self._waiting and not self._closing:
            self._ready.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        return batch

    async def _commit(self, changes: Sequence[Change]) -> None:
        durable = any(change.durable for change in changes)
        left = await self._database.write(lambda connection: carry_out(connection, changes), durable=durable)
        if left:
            self._forgotten(left)

    async def _not_committed(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """Try the changes of a batch again one by one, unless the database itself cannot be written."""
        if len(batch) == 1 or (isinstance(error, QueueUnavailable) and not isinstance(error, Rejected)):
            for waiting in batch:
                _end(waiting, error)
            return
        for waiting in batch:
            try:
                await self._commit([waiting.change])
            except Exception as own:
                _end(waiting, own)
            else:
                _end(waiting)

    async def close(self) -> None:
        """Carry out what waits."""
        self._closing = True
        self._ready.set()
        if self._writer is not None:
            await self._writer


def _end(waiting: _Waiting, error: Exception | None = None) -> None:
    if waiting.done.done():
        return
    if error is None:
        waiting.done.set_result(None)
    else:
        waiting.done.set_exception(error)
