"""The content of large messages: however it goes, it goes in small parts, and whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
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


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """No piece can be deleted until this is called."""
    delete_some = large_content._delete_some

    def fail(*_: object) -> int:
        raise QueueUnavailable("the disk is full")

    monkeypatch.setattr(large_content, "_delete_some", fail)
    yield lambda: monkeypatch.setattr(large_content, "_delete_some", delete_some)


async def test_what_could_not_be_deleted_is_tried_again_with_the_next(
    store: Store, queue: Database, failing: Callable[[], None]
) -> None:
    for _ in range(3):
        await store.apply(arrival(LARGE))
    *most, last = await leased(store)
    await store.apply(Change(finished=[delivery.key for delivery in most]))
    await store._large.delete()
    assert (await sizes(queue))["chunk"] == 3 * PIECES
    failing()
    await store.apply(Change(finished=[last.key]))
    await store._large.delete()
    assert await is_empty(queue)


async def test_what_could_not_be_deleted_is_tried_again_by_the_sweep(
    store: Store, queue: Database, failing: Callable[[], None]
) -> None:
    await store.apply(arrival(LARGE))
    await bury(store, 3000.0)
    assert await store.dead.drop_some() == 1, "the letter is dropped, whatever becomes of its content"
    assert (await sizes(queue))["chunk"] == PIECES
    failing()
    await store.sweep(1_800_000_000.0)
    assert await is_empty(queue)


async def test_room_is_measured_when_what_leaves_is_deleted(store: Store, queue: Database) -> None:
    await store.apply(arrival(LARGE))
    await store.apply(Change(finished=[delivery.key for delivery in await leased(store)]))
    await store.reusable()
    assert await is_empty(queue)


async def test_of_two_messages_that_cannot_be_stored_together_nothing_stays(store: Store, queue: Database) -> None:
    first, second = arrival(LARGE), arrival(LARGE)
    stored = [*first.arrived, *second.arrived]
    twice = [*first.deliveries, *second.deliveries] * 2
    with pytest.raises(QueueUnavailable):
        await store.apply(Change(arrived=stored, deliveries=twice))
    assert await is_empty(queue)


async def test_many_orphans_are_swept_at_once_and_none_that_has_a_message(store: Store, queue: Database) -> None:
    now = 1_800_000_000.0
    old = first_at(now - 90_000)
    rows = [{"message_id": old + n, "n": 1, "content": b"x"} for n in range(2 * large_content.SWEPT_AT_ONCE + 1)]
    await queue.write(lambda c: c.execute(insert(chunk), rows), durable=False)
    await store.apply(arrival(LARGE))
    await store.sweep(4e9)
    assert (await sizes(queue))["chunk"] == PIECES


async def test_a_drop_that_is_broken_off_leaves_no_content_of_what_it_has_dropped(
    store: Store, queue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await store.apply(arrival(LARGE))
    monkeypatch.setattr(admin, "PAGE", 1)
    do, pages = admin._Work.do, []

    def breaks(*arguments: Any) -> int:
        pages.append(1)
        if len(pages) == 3:
            raise QueueUnavailable("gone")
        return do(*arguments)

    monkeypatch.setattr(admin._Work, "do", breaks)
    with pytest.raises(QueueUnavailable):
        await admin.drop(queue, [])
    assert await sizes(queue) == {"message": 1, "chunk": PIECES, "delivery": 1}
