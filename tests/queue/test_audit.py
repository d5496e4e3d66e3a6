"""Commands leave a record of what they did and who ran them, which one worker takes."""

from __future__ import annotations

import asyncio

import pytest

from relay.mail.queue_id import id_text
from relay.queue import admin, audit
from relay.queue.admin import Selector
from relay.queue.audit import AuditTrail, Author, Record
from relay.queue.connect import connect
from relay.queue.database import Database
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Store
from tests.queue.changes import arrival

ANNA = Author("anna", "srs-relay", 2525, "mx.fwd.example")


async def taken(store: Store) -> list[Record]:
    records = []
    while some := await store.audit.take():
        records += some
    return records


async def test_what_was_done_to_which_delivery_and_by_whom(store: Store, queue: Database) -> None:
    one, two = arrival(), arrival(recipients=3)
    await store.apply(one)
    await store.apply(two)
    first, second = (change.arrived[0].id for change in (one, two))
    await admin.hold(queue, [Selector(first), Selector(second, 1)], ANNA)
    await admin.release(queue, [], 1500.0, RetrySchedule(), ANNA)
    await admin.retry(queue, [Selector(second)], 1600.0, 100.0, ANNA)
    await admin.drop(queue, [Selector(first), Selector(second, 2)], ANNA)
    records = await taken(store)
    assert [(record.deed, dict(record.deliveries)) for record in records] == [
        ("hold", {id_text(first): (1, 0), id_text(second): (1, 1)}),
        ("release", {id_text(first): (1, 0), id_text(second): (1, 1)}),
        ("retry", {id_text(second): (3, None)}),
        ("drop", {id_text(first): (1, 0), id_text(second): (1, 2)}),
    ]
    assert {record.author for record in records} == {ANNA}
    assert await taken(store) == []


async def test_what_changes_nothing_leaves_no_record(store: Store, queue: Database) -> None:
    change = arrival()
    await store.apply(change)
    await admin.release(queue, [Selector(change.arrived[0].id)], 1.0, RetrySchedule(), ANNA)
    await admin.drop(queue, [Selector(1)], ANNA)
    await admin.hold(queue, [])
    assert await taken(store) == []


async def test_everything_is_recorded_in_parts(store: Store, queue: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MESSAGES", 2)
    changes = [arrival(recipients=2) for _ in range(5)]
    for change in changes:
        await store.apply(change)
    assert await admin.drop(queue, [], ANNA) == 10
    records = await taken(store)
    assert [len(record.deliveries) for record in records] == [2, 2, 1]
    names = [name for record in records for name in record.deliveries]
    assert names == [id_text(change.arrived[0].id) for change in changes]


async def test_several_workers_take_each_record_once(store: Store, url: str, queue: Database) -> None:
    for _ in range(30):
        await store.apply(arrival())
        await admin.hold(queue, [], ANNA)
    others = [AuditTrail(await connect(url, create=False)) for _ in range(3)]

    async def take_all(trail: AuditTrail) -> list[Record]:
        records: list[Record] = []
        for _ in range(20):
            records += await trail.take()
        return records

    shares = await asyncio.gather(*(take_all(trail) for trail in [store.audit, *others]))
    assert sum(map(len, shares)) == 30
    for trail in others:
        await trail._database.close()
