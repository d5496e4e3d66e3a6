"""The periodic work of a worker: dead letters, leftovers, the leases of dead workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from relay.config.sections import QueueSection
from relay.queue import leases, upkeep
from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.dead_letters import OVERHEAD
from relay.queue.store import Store
from relay.queue.upkeep import Upkeep
from tests.peers import needs
from tests.postgresql import PostgresServer
from tests.queue.changes import BODY, arrival, bury, leased

DAY = 86400.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "TIDY_EVERY", 0.05)
    monkeypatch.setattr(upkeep, "FREE_EVERY", 0.05)
    monkeypatch.setattr(leases, "GRACE", 0.05)


@asynccontextmanager
async def running(store: Store, **limits: object) -> AsyncIterator[None]:
    task = asyncio.create_task(Upkeep(store, QueueSection.model_validate(limits)).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def dead_letter(store: Store, age: float) -> None:
    died = time.time() - age
    await store.apply(arrival(next_attempt=died))
    await bury(store, died)


async def test_dead_letters_are_dropped_when_they_are_old(store: Store) -> None:
    for age in (11 * DAY, 12 * DAY, 1 * DAY):
        await dead_letter(store, age)
    with capture_logs() as lines:
        async with running(store, keep_dead="10d"):
            await until(lambda: bool(lines))
    assert [(line["event"], line["count"], line["limit"]) for line in lines] == [
        ("dead_letters_dropped", 2, "queue.keep_dead")
    ]
    assert await store.counts() == {"dead": 1}


async def test_dead_letters_are_dropped_when_they_are_too_large_together(store: Store) -> None:
    for age in (3 * DAY, 2 * DAY, 1 * DAY):
        await dead_letter(store, age)
    with capture_logs() as lines:
        async with running(store, max_dead=2 * (len(BODY) + OVERHEAD)):
            await until(lambda: bool(lines))
    assert [(line["event"], line["count"], line["limit"]) for line in lines] == [
        ("dead_letters_dropped", 1, "queue.max_dead")
    ]


async def test_expired_sender_tokens_are_deleted(store: Store) -> None:
    token = await store.token_for("long@x.example", 0.0, 1000.0)
    async with running(store):
        async with asyncio.timeout(10):
            while await store.sender_of(token, 0.0) is not None:
                await asyncio.sleep(0.01)


async def test_it_goes_on_after_errors(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = [QueueUnavailable("disk is full"), ValueError("a mistake of ours")]
    sweep = store.sweep
    swept: list[float] = []

    async def failing(now: float) -> None:
        if errors:
            raise errors.pop(0)
        await sweep(now)
        swept.append(now)

    monkeypatch.setattr(store, "sweep", failing)
    with capture_logs() as lines:
        async with running(store):
            await until(lambda: len(swept) > 1)
    assert [line["event"] for line in lines] == ["queue_unavailable", "upkeep_failed"]
    assert lines[0]["problem"] == "disk is full"


@needs("postgres")
async def test_the_leases_of_a_dead_worker_are_freed(server: PostgresServer) -> None:
    url = server.create_database()
    await (await connect(url)).close()
    dying = Store(await connect(url, owner="vm/dying"), "vm/dying")
    await dying.apply(arrival())
    assert await leased(dying, time.time())
    living = Store(await connect(url, owner="vm/living"), "vm/living")
    await living.apply(arrival())
    assert await leased(living, time.time())
    with capture_logs() as lines:
        async with running(living):
            await asyncio.sleep(0.3)
            assert lines == []
            await dying.close()
            await until(lambda: bool(lines))
    assert [(line["event"], line["count"]) for line in lines] == [("leases_freed", 1)]
    assert len(await living.due(time.time(), 10)) == 1
    await living.close()
