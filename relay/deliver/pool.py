"""Open connections, kept for the next transaction to the same next hop, and how many of them there may be.

A next hop has a lane: so many transactions at once, the others wait in their order. When no host of the next hop can be
reached, those that wait share that fate instead of finding it out one time-out after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.deliver.mx import Hop
from relay.deliver.reply import Outcome
from relay.deliver.smtp import Connection


class Lane:
    """The transactions with one next hop."""

    def __init__(self, width: int) -> None:
        self._turn = asyncio.Semaphore(width)
        self._idle: list[tuple[Connection, asyncio.TimerHandle]] = []
        self._failures = 0
        self._last_failure: Outcome | None = None
        self.users = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Outcome | None]:
        """Wait for a place. Yields the deferral where the next hop was found unreachable meanwhile."""
        before = self._failures
        async with self._turn:
            yield self._last_failure if self._failures != before else None

    def reachable(self) -> None:
        """A host was reached: nobody has to share an earlier fate."""
        self._last_failure = None

    def unreachable(self, outcome: Outcome) -> None:
        """Tell those that wait that no host can be reached."""
        self._failures += 1
        self._last_failure = outcome

    def keep(self, connection: Connection, seconds: float) -> None:
        """Leave an open connection to the next transaction, for so long."""
        loop = asyncio.get_running_loop()
        self._idle.append((connection, loop.call_later(seconds, self._expire, connection)))

    def take(self) -> Connection | None:
        """The connection that was used last, if it is still open."""
        while self._idle:
            connection, timer = self._idle.pop()
            timer.cancel()
            if connection.idle:
                return connection
            connection.abort()
        return None

    def _expire(self, connection: Connection) -> None:
        self._idle = [entry for entry in self._idle if entry[0] is not connection]
        _quit_soon(connection)

    @property
    def empty(self) -> bool:
        return not self.users and not self._idle

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for _, timer in idle:
            timer.cancel()
        await asyncio.gather(*(connection.quit() for connection, _ in idle))


class Pool:
    """The lanes of one worker, made when they are needed and forgotten when nothing is left in them.

    Args:
        concurrency: transactions at once for each next hop.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._lanes: dict[Hop, Lane] = {}

    @asynccontextmanager
    async def lane(self, hop: Hop) -> AsyncIterator[Lane]:
        """The next hop's lane while it is used."""
        lane = self._lanes.get(hop)
        if lane is None:
            self._forget_empty()
            lane = self._lanes[hop] = Lane(self._concurrency)
        lane.users += 1
        try:
            yield lane
        finally:
            lane.users -= 1

    def _forget_empty(self) -> None:
        if len(self._lanes) >= _SWEEP_AT:
            self._lanes = {hop: lane for hop, lane in self._lanes.items() if not lane.empty}

    async def close(self) -> None:
        """QUIT every connection that is kept."""
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))


_SWEEP_AT = 100  # lanes kept before those that are empty are looked for
_goodbyes: set[asyncio.Task[None]] = set()


def _quit_soon(connection: Connection) -> None:
    task = asyncio.get_running_loop().create_task(connection.quit())
    _goodbyes.add(task)
    task.add_done_callback(_goodbyes.discard)
