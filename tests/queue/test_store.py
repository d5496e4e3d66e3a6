"""The durable queue through `Store`, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import os

import pytest
from sqlalchemy import delete, insert, update

from relay.mail.message import Message
from relay.mail.queue_id import first_at
from relay.queue.connect import connect
from relay.queue.database import Database, QueueUnavailable
from relay.queue.schema import CHUNK, chunk, message
from relay.queue.store import SMALL, Change, Damaged, Store
from tests.queue.changes import BODY, arrival, leased, sizes

EMPTY = {"message": 0, "chunk": 0, "delivery": 0}
LARGE = b"Subject: x\r\n\r\n" + os.urandom(CHUNK * 2 + 17)


async def test_what_was_stored_comes_back(store: Store) -> None:
    change = arrival(recipients=2)
    await store.apply(change)
    deliveries = await leased(store)
    assert [d.recipient for d in deliveries] == ["r0@c.example", "r1@c.example"]
    loaded = await store.load(change.arrived[0].id)
    assert loaded == change.arrived[0]
    assert loaded is not None and loaded.message.relaxed_body_hash == Message(BODY).relaxed_body_hash


async def test_a_large_message_is_stored_in_chunks_and_leaves_nothing_behind(store: Store, queue: Database) -> None:
    await store.apply(arrival(LARGE))
    (delivery,) = await leased(store)
    loaded = await store.load(delivery.message_id)
    assert loaded is not None and loaded.message.content == LARGE
    await store.apply(Change(finished=[delivery.key]))
    async with asyncio.timeout(10):
        while await sizes(queue) != EMPTY:  # what has many pieces is deleted in several transactions
            await asyncio.sleep(0.01)


async def test_small_messages_are_loaded_together(store: Store, queue: Database) -> None:
    small = [arrival(), arrival(recipients=2)]
    large, damaged = arrival(b"Subject: x\r\n\r\n" + b"x" * SMALL), arrival()
    for change in (*small, large, damaged):
        await store.apply(change)
    broken = message.c.id == damaged.arrived[0].id
    await queue.write(lambda c: c.execute(update(message).where(broken).values(content=b"Sub")), durable=False)
    wanted = [change.arrived[0].id for change in (*small, large, damaged)]
    assert await store.load_small([*wanted, 1]) == {change.arrived[0].id: change.arrived[0] for change in small}


async def test_a_message_that_is_not_whole_is_found_out(store: Store, queue: Database) -> None:
    change = arrival(LARGE)
    await store.apply(change)
    await queue.write(lambda c: c.execute(delete(chunk).where(chunk.c.n == 2)), durable=False)
    with pytest.raises(Damaged, match=f"from octet {2 * CHUNK}"):
        await store.load(change.arrived[0].id)


async def test_content_without_a_message_is_swept_up_after_a_day_and_no_other(store: Store, queue: Database) -> None:
    now = 1_800_000_000.0
    old, fresh = first_at(now - 90_000), first_at(now - 80_000)
    rows = [{"message_id": id_, "n": n, "content": b"x"} for id_ in (old, old + 1, fresh) for n in (1, 2)]
    await queue.write(lambda c: c.execute(insert(chunk), rows), durable=False)
    await store.apply(arrival(LARGE))
    assert (await sizes(queue))["chunk"] == 8
    await store.sweep(now)
    assert (await sizes(queue))["chunk"] == 4
    assert await store.load((await leased(store))[0].message_id) is not None


async def test_due_deliveries_come_oldest_first_and_page_by_page(store: Store) -> None:
    await store.apply(arrival(recipients=5, next_attempt=7.0))
    await store.apply(arrival(recipients=1, next_attempt=3.0, hop="slow.example"))
    first = await store.due(10.0, 3)
    assert [d.next_attempt for d in first] == [3.0, 7.0, 7.0]
    rest = await store.due(10.0, 10, after=first[-1])
    assert [d.n for d in rest] == [2, 3, 4]
    assert [d.hop for d in await store.due(10.0, 10, hop="slow.example")] == ["slow.example"]
    assert await store.due(2.0, 10) == []


async def test_many_changes_at_once_are_all_stored(store: Store, queue: Database) -> None:
    await asyncio.gather(*(store.apply(arrival()) for _ in range(300)))
    assert await sizes(queue) == {"message": 300, "chunk": 0, "delivery": 300}


async def test_a_change_that_fails_does_not_take_its_neighbours_with_it(store: Store) -> None:
    good, twin = arrival(), arrival()
    await store.apply(twin)
    outcomes = await asyncio.gather(store.apply(twin), store.apply(good), return_exceptions=True)
    assert isinstance(outcomes[0], QueueUnavailable)
    assert outcomes[1] is None
    assert await store.load(good.arrived[0].id) is not None


async def test_a_large_message_that_is_not_stored_leaves_no_content_behind(store: Store, queue: Database) -> None:
    change = arrival(LARGE)
    twice = Change(arrived=change.arrived, deliveries=[*change.deliveries, *change.deliveries])
    with pytest.raises(QueueUnavailable):
        await store.apply(twice)
    assert await sizes(queue) == EMPTY


async def test_what_waits_is_stored_before_the_queue_closes(url: str) -> None:
    store = Store(await connect(url), "worker-1/")
    under_way = [asyncio.create_task(store.apply(arrival())) for _ in range(250)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.wait_for(asyncio.gather(*under_way), 10)
    again = await connect(url)
    assert (await sizes(again))["message"] == 250
    await again.close()
