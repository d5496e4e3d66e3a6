"""The periodic work of a worker: dead letters, leftovers, the leases of dead workers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
from structlog.testing import capture_logs

from relay.config.sections import QueueSection
from relay.mail.queue_id import id_text
from relay.queue import admin, leases, upkeep
from relay.queue.admin import Selector
from relay.queue.audit import Author
from relay.queue.connect import connect
from relay.queue.database import Database, QueueUnavailable
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
    monkeypatch.setattr(upkeep, "AUDIT_EVERY", 0.05)
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


async def test_what_commands_did_is_logged_once_and_by_name(store: Store, queue: Database) -> None:
    change = arrival(recipients=2)
    await store.apply(change)
    name = id_text(change.arrived[0].id)
    with capture_logs() as lines:
        await admin.hold(queue, [Selector.parse(f"{name}/1")], Author("anna", "srs-relay", 2525, socket.gethostname()))
        await admin.drop(queue, [], Author("root", None, 0, "elsewhere"))
        async with running(store):
            await until(lambda: len(lines) == 2)
    hold, drop = lines
    assert (hold["event"], hold["action"], hold["id"], hold["deliveries"], hold["n"]) == (
        *("queue_changed", "hold", name, 1, 1),
    )
    assert (hold["who"], hold["account"], hold["uid"], hold["at_host"]) == ("anna", "srs-relay", 2525, None)
    assert abs(datetime.fromisoformat(hold["at"]).timestamp() - time.time()) < 60
    assert (drop["action"], drop["who"], drop["account"], drop["at_host"]) == ("drop", "root", None, "elsewhere")
    assert (drop["deliveries"], drop["n"]) == (2, None)


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
