"""The content of large messages: however it goes, it goes in small parts, and whole."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from sqlalchemy import insert

from relay.mail.queue_id import first_at
from relay.queue import admin, large_content
from relay.queue.connect import connect
from relay.queue.database import Database, QueueUnavailable
from relay.queue.schema import CHUNK, chunk
from relay.queue.store import Change, Store
from tests.queue.changes import arrival, bury, leased, sizes

PIECES = 10
LARGE = b"Subject: x\r\n\r\n" + os.urandom(CHUNK) * PIECES
EMPTY = {"message": 0, "chunk": 0, "delivery": 0}


async def is_empty(queue: Database) -> bool:
    return await sizes(queue) == EMPTY


@pytest.fixture
def deleted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pieces each transaction has deleted."""
    counts: list[int] = []
    delete_some = large_content._delete_some

    def counting(*arguments: Any) -> int:
        counts.append(delete_some(*arguments))
        return counts[-1]

    monkeypatch.setattr(large_content, "_delete_some", counting)
    return counts


async def test_what_is_delivered_goes_a_few_pieces_at_once(store: Store, queue: Database, deleted: list[int]) -> None:
    for _ in range(2):
        await store.apply(arrival(LARGE))
    await store.apply(Change(finished=[delivery.key for delivery in await leased(store)], durable=False))
    assert (await sizes(queue))["message"] == 0
    async with asyncio.timeout(10):
        while not await is_empty(queue):
            await asyncio.sleep(0.01)
    assert sum(deleted) == 2 * PIECES and max(deleted) < PIECES


async def test_a_store_that_closes_deletes_what_it_has_begun(url: str) -> None:
    store = Store(await connect(url), "worker-1/")
    await store.apply(arrival(LARGE))
    await store.apply(Change(finished=[delivery.key for delivery in await leased(store)]))
    await store.close()
    again = await connect(url)
    assert await is_empty(again)
    await again.close()


async def test_what_a_dead_worker_half_deleted_is_swept_up(store: Store, queue: Database) -> None:
    now = 1_800_000_000.0
    rows = [{"message_id": first_at(now - 90_000), "n": n, "content": b"x"} for n in range(5, 5 + PIECES)]
    await queue.write(lambda c: c.execute(insert(chunk), rows), durable=False)
    await store.sweep(now)
    assert await is_empty(queue)


async def test_dead_letters_make_room_at_once(store: Store, queue: Database) -> None:
    await store.apply(arrival(LARGE))
    await bury(store, 3000.0)
    assert await store.dead.drop_some() == 1
    assert await is_empty(queue)


@pytest.mark.parametrize("recipients", [1, 2])
async def test_what_a_command_drops_is_gone_when_it_ends(store: Store, queue: Database, recipients: int) -> None:
    await store.apply(arrival(LARGE, recipients=recipients))
    assert await admin.drop(queue, []) == recipients
    assert await is_empty(queue)


async def test_a_message_with_deliveries_keeps_its_content(store: Store, queue: Database) -> None:
    await store.apply(arrival(LARGE, recipients=2))
    first, second = await leased(store)
    await store.apply(Change(finished=[first.key]))
    await large_content.LargeContent(queue).delete([first.message_id])
    loaded = await store.load(second.message_id)
    assert loaded is not None and loaded.message.content == LARGE


async def test_a_queue_that_cannot_be_written_leaves_the_pieces_to_the_sweep(
    store: Store, queue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.apply(arrival(LARGE))
    keys = [delivery.key for delivery in await leased(store)]

    def fail(*_: object) -> int:
        raise QueueUnavailable("the disk is full")

    with monkeypatch.context() as failing:
        failing.setattr(large_content, "_delete_some", fail)
        await store.apply(Change(finished=keys))
        await store._large.close()
    assert (await sizes(queue))["chunk"] == PIECES
    await store.sweep(4e9)
    assert await is_empty(queue)
