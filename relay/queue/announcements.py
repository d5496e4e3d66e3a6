"""How workers on a PostgreSQL server hear at once of deliveries that became due: NOTIFY and LISTEN.

A commit with a NOTIFY waits for every other one on the server. So none goes with a transaction that stores mail: it is
sent on its own afterwards, once for all that happens within a moment. One that gets lost costs time and no mail,
because every worker looks at the queue from time to time without it (`relay.deliver.queue_reader`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

from relay.queue.database import QueueUnavailable

CHANNEL = "srs_relay"
NOTIFY = "SELECT pg_notify($1, $2)"
GAP = 0.1  # seconds between two announcements of one worker, and between two looks that those of others lead to
PATIENCE = 1.0  # seconds for the last announcement of a process that ends


class Announcer:
    """Sends announcements.

    Args:
        send: sends one; raises QueueUnavailable.
    """

    def __init__(self, send: Callable[[], Awaitable[object]]) -> None:
        self._send = send
        self._wanted = False
        self._sending: asyncio.Task[None] | None = None

    def announce(self) -> None:
        """Send an announcement soon."""
        self._wanted = True
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all(), name="announcements")

    async def _send_all(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                await self._send()
                await asyncio.sleep(GAP)
        except QueueUnavailable:
            pass  # who hears nothing from the server looks at the queue anyhow
        finally:
            self._sending = None

    async def close(self) -> None:
        """Send what is wanted, if the server answers soon."""
        if self._sending is not None:
            _, late = await asyncio.wait([self._sending], timeout=PATIENCE)
            for task in late:
                task.cancel()


class Listener:
    """Tells those who watch of the announcements of others.

    Args:
        name: what this worker's own announcements bear.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._watchers: list[Callable[[], None]] = []
        self._telling: asyncio.TimerHandle | None = None
        self._told = 0.0

    def watch(self, heard: Callable[[], None]) -> None:
        """Call `heard` from now on."""
        self._watchers.append(heard)

    async def listen(self, connection: asyncpg.Connection) -> None:
        """Hear what is announced on a connection from now on; what was announced before it may have been missed."""
        await connection.add_listener(CHANNEL, self._received)
        self._tell_soon()

    def _received(self, _connection: object, _pid: int, _channel: str, name: str) -> None:
        if name != self._name:
            self._tell_soon()

    def _tell_soon(self) -> None:
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_at(max(loop.time(), self._told + GAP), self._tell)

    def _tell(self) -> None:
        self._telling, self._told = None, asyncio.get_running_loop().time()
        for heard in self._watchers:
            heard()

    def close(self) -> None:
        """Tell nothing more."""
        if self._telling is not None:
            self._telling.cancel()
