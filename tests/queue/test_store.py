"""The durable queue through its own door, on SQLite; `tests/queue/test_postgresql.py` runs the same on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.message import Message
from relay.queue import admin, database
from relay.queue.database import QueueUnavailable
from relay.queue.ids import QueueIds, number, text
from relay.queue.schema import CHUNK
from relay.queue.store import Change, Delivery, Store, StoredMessage

IDS = QueueIds(time.time)
BODY = b"Subject: hello\r\n\r\nA line.\r\n"


def arrival(content: bytes = BODY, recipients: int = 1, **delivery: object) -> Change:
    number_ = IDS.new()
    stored = StoredMessage(number_, 1000.0, "a@b.example", b"Received: x\r\n", Message(content), {"spf": "pass"})
    deliveries = [
        Delivery(number_, n, recipient=f"r{n}@c.example", original="r@d.example", **{"hop": "c.example", **delivery})  # type: ignore[arg-type]
        for n in range(recipients)
    ]
    return Change(arrived=[stored], deliveries=deliveries)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    store = Store(await database.connect(f"sqlite:///{path}"), "worker-1/")
    yield store
    await store.close()


async def leased(store: Store, now: float = 2000.0) -> list[Delivery]:
    return await store.lease(await store.due(now, 100), now + 60)


async def test_what_was_stored_comes_back(store: Store) -> None:
    change = arrival(recipients=2)
    await store.apply(change)
    found = await leased(store)
    assert [d.recipient for d in found] == ["r0@c.example", "r1@c.example"]
    loaded = await store.load(change.arrived[0].id)
    assert loaded == change.arrived[0]
    assert loaded is not None and loaded.message.relaxed_body_hash == Message(BODY).relaxed_body_hash


async def test_a_large_message_is_stored_in_chunks_and_leaves_nothing_behind(store: Store, path: Path) -> None:
    content = b"Subject: x\r\n\r\n" + os.urandom(CHUNK * 2 + 17)
    await store.apply(arrival(content))
    (delivery,) = await leased(store)
    loaded = await store.load(delivery.message_id)
    assert loaded is not None and loaded.message.content == content
    await store.apply(Change(finished=[delivery.key]))
    with sqlite3.connect(path) as connection:
        for table in ("message", "chunk", "delivery"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


async def test_a_message_stays_until_its_last_delivery_is_over(store: Store) -> None:
    await store.apply(arrival(recipients=2))
    first, second = await leased(store)
    await store.apply(Change(finished=[first.key]))
    assert await store.load(first.message_id) is not None
    await store.apply(Change(finished=[second.key]))
    assert await store.load(first.message_id) is None


async def test_a_leased_delivery_is_given_to_nobody_else_until_the_lease_ends(store: Store) -> None:
    await store.apply(arrival())
    seen = await store.due(2000.0, 10)
    assert len(await store.lease(seen, 2060.0)) == 1
    assert await store.lease(seen, 2060.0) == []
    assert await store.due(2059.0, 10) == []
    assert len(await store.due(2061.0, 10)) == 1


async def test_a_worker_that_lost_its_lease_changes_nothing(store: Store) -> None:
    await store.apply(arrival())
    (old,) = await leased(store, 2000.0)
    (new,) = await leased(store, 3000.0)
    await store.apply(Change(finished=[old.key]))
    await store.apply(Change(updated=[(old.key, {"next_attempt": 9.0})]))
    await store.renew([old.key], 99999.0)
    assert [d.next_attempt for d in await store.due(5000.0, 10)] == [3060.0]
    await store.apply(Change(finished=[new.key]))
    assert await store.due(5000.0, 10) == []


async def test_the_leases_of_a_dead_worker_are_freed_and_no_others(path: Path, store: Store) -> None:
    other = Store(await database.connect(f"sqlite:///{path}"), "worker-11/")
    await store.apply(arrival())
    await leased(store)
    await store.apply(arrival())
    await leased(other)
    assert sorted(await store.owners("worker")) == ["worker-1/", "worker-11/"]
    assert await other.free("worker-1/", 2000.0) == 1
    assert len(await other.due(2000.0, 10)) == 1
    await other.close()


async def test_due_deliveries_come_oldest_first_and_page_by_page(store: Store) -> None:
    await store.apply(arrival(recipients=5, next_attempt=7.0))
    await store.apply(arrival(recipients=1, next_attempt=3.0, hop="slow.example"))
    first = await store.due(10.0, 3)
    assert [d.next_attempt for d in first] == [3.0, 7.0, 7.0]
    rest = await store.due(10.0, 10, after=first[-1])
    assert [d.n for d in rest] == [2, 3, 4]
    assert [d.hop for d in await store.due(10.0, 10, hop="slow.example")] == ["slow.example"]
    assert await store.due(2.0, 10) == []


async def test_many_changes_at_once_are_all_durable(store: Store, path: Path) -> None:
    await asyncio.gather(*(store.apply(arrival()) for _ in range(300)))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM message").fetchone() == (300,)


async def test_a_change_that_fails_does_not_take_its_neighbours_with_it(store: Store) -> None:
    good, twin = arrival(), arrival()
    await store.apply(twin)
    outcomes = await asyncio.gather(store.apply(twin), store.apply(good), return_exceptions=True)
    assert isinstance(outcomes[0], QueueUnavailable)
    assert outcomes[1] is None
    assert await store.load(good.arrived[0].id) is not None


async def test_a_locked_queue_file_delays_and_loses_nothing(store: Store, path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(store.apply(arrival()))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    other.rollback()
    await asyncio.wait_for(waiting, 5)
    other.close()


async def test_a_file_that_is_no_queue_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    path.write_bytes(b"this is no database at all, but it is long enough to be looked at " * 20)
    with pytest.raises(QueueUnavailable, match="not a database"):
        await database.connect(f"sqlite:///{path}")


async def test_the_write_ahead_log_stays_short(store: Store, path: Path) -> None:
    content = b"Subject: x\r\n\r\n" + os.urandom(900_000)
    for _ in range(60):
        await store.apply(arrival(content))
        (delivery,) = await leased(store)
        await store.apply(Change(finished=[delivery.key]))
    assert path.with_name("queue.db-wal").stat().st_size < 40 << 20


async def test_dead_letters_are_kept_and_then_dropped(store: Store) -> None:
    await store.apply(arrival())
    (delivery,) = await leased(store, 2000.0)
    await store.apply(Change(updated=[(delivery.key, {"state": "dead", "next_attempt": 2000.0})]))
    assert await store.counts() == {"dead": 1}
    assert await store.due(1e9, 10) == []
    assert await store.sweep(2000.0 + 99, keep_dead=100) == 0
    assert await store.sweep(2000.0 + 101, keep_dead=100) == 1
    assert await store.load(delivery.message_id) is None


async def test_stored_senders_are_one_a_day_and_expire(store: Store) -> None:
    token = await store.token_for("long@x.example", 86400.0 * 10, 1000.0)
    assert await store.token_for("long@x.example", 86400.0 * 10 + 5, 1000.0) == token
    assert await store.token_for("long@x.example", 86400.0 * 11, 1000.0) != token
    assert await store.sender_of(token, 86400.0 * 10 + 999) == "long@x.example"
    assert await store.sender_of(token, 86400.0 * 10 + 1001) is None
    assert await store.sender_of("unknown", 0.0) is None


async def test_the_administrators_hands(store: Store, path: Path) -> None:
    change = arrival(recipients=2)
    await store.apply(change)
    name = text(change.arrived[0].id)
    connection = await database.connect(f"sqlite:///{path}", create=False)
    one, both = admin.Selector.parse(f"{name}/1"), admin.Selector.parse(name.lower())
    assert await connection.write(lambda c: admin.hold(c, [one]), durable=True) == 1
    assert [d.n for d in await store.due(2000.0, 10)] == [0]
    states = await connection.read(lambda c: [(r["n"], r["state"]) for r in admin.show(c, both)])
    assert states == [(0, "queued"), (1, "held")]
    assert await connection.write(lambda c: admin.release(c, [both], 1500.0), durable=True) == 1
    assert len(await store.due(2000.0, 10)) == 2
    assert await connection.write(lambda c: admin.drop(c, [one]), durable=True) == 1
    assert len(await connection.read(lambda c: list(admin.rows(c)))) == 1
    assert await connection.write(lambda c: admin.drop(c, []), durable=True) == 1
    assert await store.load(change.arrived[0].id) is None
    await connection.close()


async def test_listing_reads_a_long_queue_in_pages(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "PAGE", 3)
    for _ in range(3):
        await store.apply(arrival(recipients=3))
    connection = await database.connect(f"sqlite:///{path}", create=False)
    found = await connection.read(lambda c: [(r["id"], r["n"]) for r in admin.rows(c)])
    assert len(found) == 9 and found == sorted(set(found))
    await connection.close()


def test_queue_ids_are_unique_ordered_and_readable() -> None:
    made = [IDS.new() for _ in range(10_000)]
    assert made == sorted(set(made))
    names = [text(n) for n in made]
    assert names == sorted(names) and {len(n) for n in names} == {12}
    assert [number(n.lower()) for n in names] == made
    with pytest.raises(ValueError, match="not a queue id"):
        number("I-am-no-id!!")
