"""Open connections, kept for the next transaction with the same next hop, and how many of them there may be.

A next hop has a lane: a number of transactions at once, the others wait in their order. When no host of the next hop
can be reached, those that wait get the same outcome instead of a time-out each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay.config.model import Config
from relay.config.sections import DeliverySection
from relay.deliver.next_hop import NextHop
from relay.deliver.smtp_connection import Connection
from relay.mail.envelope import TlsWish
from relay.mail.outcome import Outcome
from relay.wait_timer import TICK


class Lane:
    """The transactions with one next hop.

    Args:
        width: how many there may be at once.
        when_empty: called when nobody uses it and no connection is left.
    """

    def __init__(self, delivery: DeliverySection, width: int, when_empty: Callable[[], object]) -> None:
        self._delivery = delivery
        self._when_empty = when_empty
        self._places = asyncio.Semaphore(width)
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Connection, float] = {}  # in the order of their last use: when they are to be left
        self._timer: asyncio.TimerHandle | None = None  # for the one that is to be left first, or comes earlier
        self._quitting: set[asyncio.Task[None]] = set()
        self._users = 0
        self._failures = 0
        self._last_failure: Outcome | None = None

    async def enter(self) -> Outcome | None:
        """Wait for a place, which `leave` gives back, whatever the result. Returns the deferral where the next hop
        turned out to be unreachable meanwhile."""
        self._users += 1
        before = self._failures
        try:
            await self._places.acquire()
        except BaseException:
            self._users -= 1
            self._check_empty()
            raise
        return self._last_failure if self._failures != before else None

    def leave(self) -> None:
        """Give the place back."""
        self._places.release()
        self._users -= 1
        self._check_empty()

    def reachable(self) -> None:
        """Note that a host was reached: an earlier failure is not shared any more."""
        self._last_failure = None

    def unreachable(self, outcome: Outcome) -> None:
        """Give the transactions that wait this outcome: no host can be reached."""
        self._failures += 1
        self._last_failure = outcome

    def take(self) -> Connection | None:
        """The connection that was used last and is still open."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.idle:
                return connection
            connection.abort()
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep the connection for the next transaction; QUIT after `idle_timeout`, or `messages_per_connection`."""
        if not connection.idle:
            connection.abort()
        elif connection.used < self._delivery.messages_per_connection:
            self._idle[connection] = self._loop.time() + self._delivery.idle_timeout
            if self._timer is None:
                self._timer = self._loop.call_at(self._idle[connection], self._expire)
        else:
            self._quit(connection)

    def _expire(self) -> None:
        """QUIT what was idle for long enough."""
        self._timer = None
        now = self._loop.time()
        for connection, expires in tuple(self._idle.items()):
            if expires - now > TICK:
                self._timer = self._loop.call_at(expires, self._expire)
                break
            del self._idle[connection]
            self._quit(connection)

    def _quit(self, connection: Connection) -> None:
        """QUIT in a task of its own, so that nobody waits for the server's answer."""
        task = self._loop.create_task(connection.quit())
        self._quitting.add(task)
        task.add_done_callback(self._has_quit)

    def _has_quit(self, task: asyncio.Task[None]) -> None:
        self._quitting.discard(task)
        self._check_empty()

    def _check_empty(self) -> None:
        if not (self._users or self._idle or self._quitting):
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._when_empty()

    async def close(self) -> None:
        """QUIT every connection that is kept."""
        while self._idle:
            self._quit(self._idle.popitem()[0])
        await asyncio.gather(*self._quitting)


class Pool:
    """The lanes of one worker, made when they are needed and forgotten when they are empty."""

    def __init__(self, config: Config) -> None:
        self._delivery = config.delivery
        self._destinations = config.destinations
        self._lanes: dict[tuple[NextHop, TlsWish], Lane] = {}

    def lane(self, hop: NextHop, wish: TlsWish = "") -> Lane:
        """The lane of a next hop. The caller takes its turn at once, before the lane can become empty.

        Messages that ask for something of TLS have one of their own: they need other connections, and when they cannot
        have them, that says nothing about the next hop.
        """
        key = (hop, "" if wish == "prefer" else wish)
        lane = self._lanes.get(key)
        if lane is None:
            table = self._destinations.for_mail(hop.destination, doubtful=hop.doubtful)
            width = (None if table is None else table.concurrency) or self._delivery.concurrency
            lane = self._lanes[key] = Lane(self._delivery, width, lambda: self._lanes.pop(key))
        return lane

    async def close(self) -> None:
        """QUIT every connection that is kept."""
        await asyncio.gather(*(lane.close() for lane in tuple(self._lanes.values())))
