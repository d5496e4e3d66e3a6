"""Open connections, kept for the next transaction to the same next hop, and how many of them there may be.

A next hop has a lane: so many transactions at once, the others wait in their order. When no host of the next hop can be
reached, those that wait share that fate instead of finding it out one time-out after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from relay.config.sections import DeliverySection
from relay.deliver.next_hop import NextHop
from relay.deliver.smtp_connection import Connection
from relay.mail.outcome import Outcome


class Lane:
    """The transactions with one next hop; `when_empty` is called when nobody uses it and no connection is left."""

    def __init__(self, delivery: DeliverySection, when_empty: Callable[[], object]) -> None:
        self._delivery = delivery
        self._when_empty = when_empty
        self._places = asyncio.Semaphore(delivery.concurrency)
        self._idle: dict[Connection, asyncio.TimerHandle] = {}  # the one that was used last comes last
        self._leaving: set[asyncio.Task[None]] = set()
        self._users = 0
        self._failures = 0
        self._last_failure: Outcome | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Outcome | None]:
        """Wait for a place. Yields the deferral where the next hop was found unreachable meanwhile."""
        self._users += 1
        before = self._failures
        try:
            async with self._places:
                yield self._last_failure if self._failures != before else None
        finally:
            self._users -= 1
            self._look_round()

    def reachable(self) -> None:
        """A host was reached: nobody has to share an earlier fate."""
        self._last_failure = None

    def unreachable(self, outcome: Outcome) -> None:
        """Tell those that wait that no host can be reached."""
        self._failures += 1
        self._last_failure = outcome

    def take(self) -> Connection | None:
        """The connection that was used last and is still open."""
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if connection.idle:
                return connection
            connection.abort()
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep the connection for the next transaction; QUIT if that takes too long, or it has carried its share."""
        if not connection.idle:
            connection.abort()
        elif connection.used < self._delivery.messages_per_connection:
            loop = asyncio.get_running_loop()
            self._idle[connection] = loop.call_later(self._delivery.idle_timeout, self._expire, connection)
        else:
            self._quit(connection)

    def _expire(self, connection: Connection) -> None:
        del self._idle[connection]
        self._quit(connection)

    def _quit(self, connection: Connection) -> None:
        """Say goodbye while others go on."""
        task = asyncio.get_running_loop().create_task(connection.quit())
        self._leaving.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._leaving.discard(task)
        self._look_round()

    def _look_round(self) -> None:
        if not (self._users or self._idle or self._leaving):
            self._when_empty()

    async def close(self) -> None:
        """QUIT every connection that is kept."""
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            self._quit(connection)
        await asyncio.gather(*self._leaving)


class Pool:
    """The lanes of one worker, made when they are needed and forgotten when they are empty."""

    def __init__(self, delivery: DeliverySection) -> None:
        self._delivery = delivery
        self._lanes: dict[NextHop, Lane] = {}

    def lane(self, hop: NextHop) -> Lane:
        """The next hop's lane, to take a turn in at once."""
        lane = self._lanes.get(hop)
        if lane is None:
            lane = self._lanes[hop] = Lane(self._delivery, lambda: self._lanes.pop(hop))
        return lane

    async def close(self) -> None:
        """QUIT every connection that is kept."""
        await asyncio.gather(*(lane.close() for lane in tuple(self._lanes.values())))
