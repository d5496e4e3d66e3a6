"""The locks by which workers of several hosts see each other; `test_postgresql.py` has what depends on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import asyncpg
import pytest
from structlog.testing import capture_logs

from relay.queue import presence
from relay.queue.connect import connect
from relay.queue.database import Database, QueueUnavailable
from relay.queue.presence import APPLICATION, Presence, live_workers, without_lock
from relay.queue.store import Store
from tests.peers import needs
from tests.postgresql import PostgresServer
from tests.queue.changes import arrival, leased

pytestmark = needs("postgres")


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.create_database()


@pytest.fixture
async def observer(url: str) -> AsyncIterator[Database]:
    """The queue as a program that is no worker sees it."""
    queue = await connect(url)
    yield queue
    await queue.close()


async def live(observer: Database) -> list[str]:
    return await observer.read(live_workers)


async def wait_for_nobody(observer: Database) -> None:
    """The server notices the end of a connection in its own time."""
    async with asyncio.timeout(10):
        while await live(observer):
            await asyncio.sleep(0.02)


async def test_a_worker_is_seen_until_it_closes(url: str, observer: Database) -> None:
    assert await live(observer) == []
    worker = await connect(url, owner="mx1/aa")
    store = Store(worker, "mx1/aa")
    await store.apply(arrival())
    assert await live(observer) == ["a worker at 127.0.0.1"], "it has no lease that would tell its name"
    await leased(store)
    assert await live(observer) == ["mx1/aa"]
    assert await observer.read(partial(without_lock, ["mx1/aa", "mx1/bb"])) == ["mx1/bb"]
    await store.close()
    await wait_for_nobody(observer)
    assert await observer.read(partial(without_lock, ["mx1/aa"])) == ["mx1/aa"]


async def test_workers_of_other_queues_and_locks_of_other_programs_are_no_workers(
    url: str, server: PostgresServer, observer: Database
) -> None:
    elsewhere = server.create_database()
    await (await connect(elsewhere)).close()
    other_queue = await connect(elsewhere, owner="mx9/zz")
    await Store(other_queue, "mx9/zz").ping()
    other_program = await asyncpg.connect(url)
    await other_program.execute("SELECT pg_advisory_lock(1), pg_advisory_lock(1, 2)")
    assert await live(observer) == []
    await other_program.close()
    await other_queue.close()


async def test_looking_for_dead_workers_leaves_no_lock(observer: Database) -> None:
    await observer.read(partial(without_lock, ["mx1/aa"]))
    assert await live(observer) == []
    assert await observer.read(partial(without_lock, ["mx1/aa"])) == ["mx1/aa"]


async def test_a_lost_lock_is_taken_again_and_the_loss_is_logged_once(
    url: str, server: PostgresServer, observer: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "RETRY_AFTER", 0.05)
    away = asyncio.Event()

    async def connection() -> asyncpg.Connection:
        if away.is_set():
            raise QueueUnavailable("PostgreSQL: away")
        return await asyncpg.connect(url, server_settings={"application_name": APPLICATION})

    worker = Presence(connection, "mx1/aa")
    await worker.shown()
    assert len(await live(observer)) == 1
    with capture_logs() as lines:
        away.set()
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        await asyncio.sleep(0.3)
        with pytest.raises(QueueUnavailable, match="away"):
            await worker.shown()
        await wait_for_nobody(observer)
        away.clear()
        async with asyncio.timeout(10):
            while not await live(observer):
                await asyncio.sleep(0.02)
    assert [(line["event"], line["problem"]) for line in lines] == [("worker_not_seen", "PostgreSQL: away")]
    await worker.close()
    await wait_for_nobody(observer)


async def test_of_all_workers_one_claims_a_task_and_another_one_after_its_end(url: str, observer: Database) -> None:
    first, second = await connect(url, owner="mx1/aa"), await connect(url, owner="mx2/bb")
    stores = Store(first, "mx1/aa"), Store(second, "mx2/bb")
    assert [await store.claims("way-home") for store in stores] == [True, False]
    assert await stores[0].claims("way-home"), "it goes on with what it has claimed"
    assert await stores[1].claims("something else")
    assert not await Store(observer, "none").claims("way-home"), "a command is no worker"
    assert await live(observer) == ["a worker at 127.0.0.1"], "a claim is no further worker"
    await stores[0].close()
    async with asyncio.timeout(10):  # the server notices the end of a connection in its own time
        while not await stores[1].claims("way-home"):
            await asyncio.sleep(0.02)
    await stores[1].close()


async def test_claims_at_the_same_time_do_not_disturb_each_other(url: str, observer: Database) -> None:
    store = Store(await connect(url, owner="mx1/aa"), "mx1/aa")
    assert all(await asyncio.gather(*(store.claims("way-home") for _ in range(20))))
    await store.close()
