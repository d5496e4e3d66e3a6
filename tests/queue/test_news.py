"""When a worker looks at the queue on PostgreSQL: when others announce something, or a time has come, and not else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.deliver.queue_reader import QueueReader
from relay.queue import admin
from relay.queue.connect import connect
from relay.queue.database import Work
from relay.queue.postgresql import PostgresDatabase
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.selector import Selector
from relay.queue.store import Change, Store
from tests.peers import needs, wait_for
from tests.postgresql import PostgresServer
from tests.queue.changes import arrival

pytestmark = needs("postgres")


class Counting(PostgresDatabase):
    """Counts how often it is asked."""

    reads = 0

    async def read(self, work: Work[Any], *, long: bool = False) -> Any:
        self.reads += 1
        return await super().read(work, long=long)


class Worker:
    """A worker that looks at the queue."""

    def __init__(self, url: str, name: str) -> None:
        self.database = Counting(url, name)
        self.store = Store(self.database, name)
        self.reader = QueueReader(self.store)
        self.heard = 0
        self.store.news.watch(self._hear)

    def _hear(self) -> None:
        self.heard += 1

    async def look(self, now: float | None = None) -> list[int]:
        """The messages that a look finds."""
        found = await self.reader.page(time.time() if now is None else now)
        for due in found:
            self.reader.passed(due)
        return [due.message_id for due in found]

    async def asks(self, now: float | None = None) -> bool:
        """Whether a look that finds nothing asks the server."""
        before = self.database.reads
        assert await self.look(now) == []
        return self.database.reads > before

    async def rest(self) -> None:
        """Look until there is nothing to ask."""
        await wait_for(lambda: self.database.hears and self.heard, "the connection that hears")
        while await self.look() or await self.asks():
            pass
        self.heard = 0


@pytest.fixture
async def url(server: PostgresServer) -> str:
    url = server.create_database()
    await (await connect(url)).close()
    return url


@asynccontextmanager
async def working(url: str, name: str) -> AsyncIterator[Worker]:
    worker = Worker(url, name)
    await worker.rest()
    try:
        yield worker
    finally:
        await worker.store.close()


@pytest.fixture
async def first(url: str) -> AsyncIterator[Worker]:
    async with working(url, "mx1/aa") as worker:
        yield worker


@pytest.fixture
async def second(url: str) -> AsyncIterator[Worker]:
    async with working(url, "mx2/bb") as worker:
        yield worker


async def test_what_one_host_leaves_in_the_queue_another_one_hears_of(first: Worker, second: Worker) -> None:
    change = arrival(next_attempt=time.time())
    await first.store.apply(change)
    await wait_for(lambda: second.heard, "the announcement")
    assert await second.look() == [change.arrived[0].id]
    assert await first.look() == [change.arrived[0].id], "it is due for the host that has stored it as well"
    assert first.heard == 0, "a host does not hear itself"


async def test_mail_that_a_host_attempts_itself_is_not_announced(first: Worker, second: Worker) -> None:
    now = time.time()
    taken = arrival(next_attempt=now + 600, lease_owner="mx1/aa", lease_token=1)
    await first.store.apply(taken)
    await first.store.apply(Change(finished=[taken.deliveries[0].key]))
    await first.store.apply(arrival(next_attempt=now + 300))
    assert first.database._announcer._sending is None
    assert not await second.asks() and not await first.asks()


async def test_what_is_put_back_is_announced(first: Worker, second: Worker) -> None:
    taken = arrival(next_attempt=time.time() + 600, lease_owner="mx1/aa", lease_token=1)
    await first.store.apply(taken)
    await first.store.apply(Change(updated=[(taken.deliveries[0].key, {"next_attempt": time.time()})]))
    await wait_for(lambda: second.heard, "the announcement")
    assert await second.look() == [taken.arrived[0].id]


async def test_what_becomes_due_by_time_is_found_then_without_asking_before(url: str, first: Worker) -> None:
    now = time.time()
    change = arrival(next_attempt=now + 30)
    await first.store.apply(change)
    assert not await first.asks(now + 29)
    assert await first.look(now + 30) == [change.arrived[0].id]
    async with working(url, "mx3/cc") as third:
        assert not await third.asks(now + 29)
        assert await third.look(now + 30) == [change.arrived[0].id]


@pytest.mark.parametrize("deed", ["retry", "release"])
async def test_what_a_command_makes_due_is_announced(url: str, first: Worker, deed: str) -> None:
    change = arrival(next_attempt=time.time() + 600)
    await first.store.apply(change)
    command = await connect(url, create=False)
    number = Selector(change.arrived[0].id)
    if deed == "release":
        await admin.hold(command, [number])
        await admin.release(command, [number], time.time(), RetrySchedule())
    else:
        await admin.retry(command, [], time.time(), 1000.0)
    await command.close()
    await wait_for(lambda: first.heard, "the announcement")
    assert await first.look() == [change.arrived[0].id]


async def test_the_leases_of_a_dead_worker_are_announced(url: str, first: Worker, second: Worker) -> None:
    change = arrival(next_attempt=time.time() + 600, lease_owner="mx9/zz", lease_token=1)
    await first.store.apply(change)
    assert await first.store.free("mx9/zz", time.time()) == 1
    await wait_for(lambda: second.heard, "the announcement")
    assert await second.look() == await first.look() == [change.arrived[0].id]


async def test_a_worker_whose_connection_broke_asks_each_time_until_it_hears_again(
    url: str, first: Worker, server: PostgresServer
) -> None:
    name = url.rpartition("/")[2]
    server.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    await wait_for(lambda: not first.database.hears, "the end of the connection")
    assert await first.asks() and await first.asks()
    server.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await wait_for(lambda: first.heard, "a look for what it may have missed")
    await first.rest()
    assert not await first.asks()


async def test_a_page_that_was_not_passed_to_its_end_is_read_again(first: Worker) -> None:
    changes = [arrival(next_attempt=time.time() - 10 + n) for n in range(3)]
    for change in changes:
        await first.store.apply(change)
    page = await first.reader.page(time.time())
    first.reader.passed(page[0])
    assert await first.look() == [change.arrived[0].id for change in changes[1:]]
    assert not await first.asks()


async def test_what_was_made_due_behind_the_last_look_is_found_within_seconds(first: Worker, second: Worker) -> None:
    now = time.time()
    seen = arrival(next_attempt=now)
    await second.store.apply(seen)
    await wait_for(lambda: first.heard, "the announcement")
    first.heard = 0
    assert await first.look(now + 1) == [seen.arrived[0].id]
    behind = arrival(next_attempt=now - 10)
    await second.store.apply(behind)
    await wait_for(lambda: first.heard, "the announcement")
    assert await first.look(now + 1) == []
    assert await first.look(now + 10) == [behind.arrived[0].id, seen.arrived[0].id]
    assert not await first.asks(now + 20)


async def test_without_any_news_the_queue_is_read_once_a_minute(first: Worker) -> None:
    now = time.time()
    assert not await first.asks(now + 50)
    assert await first.asks(now + 65)
    assert not await first.asks(now + 70)
