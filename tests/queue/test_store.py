"""The durable queue through `Store`, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Select, delete, func, insert, select, update

from relay.mail.message import Message
from relay.mail.queue_id import first_at, id_from_text, id_text
from relay.queue import schema
from relay.queue import sender_tokens as tokens
from relay.queue.connect import connect
from relay.queue.database import Database, QueueUnavailable
from relay.queue.schema import CHUNK, chunk
from relay.queue.store import Change, Damaged, Store
from tests.queue.changes import BODY, IDS, arrival, leased, sizes

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
    assert await sizes(queue) == EMPTY


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


async def test_a_message_stays_until_its_last_delivery_is_over(store: Store) -> None:
    await store.apply(arrival(recipients=2))
    first, second = await leased(store)
    await store.apply(Change(finished=[first.key]))
    assert await store.load(first.message_id) is not None
    await store.apply(Change(finished=[second.key]))
    assert await store.load(first.message_id) is None


async def test_a_message_is_gone_when_two_workers_finish_it_at_once(store: Store, url: str, queue: Database) -> None:
    other = Store(await connect(url), "worker-2/")
    for _ in range(20):
        await store.apply(arrival(recipients=2))
        first, second = await leased(store)
        await asyncio.gather(store.apply(Change(finished=[first.key])), other.apply(Change(finished=[second.key])))
    assert await sizes(queue) == EMPTY
    await other.close()


async def test_a_leased_delivery_is_given_to_nobody_else_until_the_lease_ends(store: Store) -> None:
    await store.apply(arrival())
    seen = await store.due(2000.0, 10)
    assert len(await store.lease(seen, 2060.0)) == 1
    assert await store.lease(seen, 2060.0) == []
    assert await store.lease([], 2060.0) == []
    assert await store.due(2059.0, 10) == []
    assert len(await store.due(2061.0, 10)) == 1


async def test_two_workers_that_see_the_same_share_it_out(store: Store, url: str) -> None:
    other = Store(await connect(url), "worker-2/")
    await asyncio.gather(*(store.apply(arrival()) for _ in range(100)))
    seen = await store.due(2000.0, 100)
    halves = await asyncio.gather(store.lease(seen, 2060.0), other.lease(seen, 2060.0))
    keys = [(d.message_id, d.n) for half in halves for d in half]
    assert len(keys) == len(set(keys)) == 100
    await other.close()


async def test_a_renewed_lease_lasts(store: Store) -> None:
    await store.apply(arrival())
    (delivery,) = await leased(store, 2000.0)
    await store.renew([delivery.key], 2120.0)
    assert await store.due(2119.0, 10) == []


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


async def test_a_worker_that_lost_its_lease_reports_nothing(store: Store, queue: Database) -> None:
    await store.apply(arrival(recipients=2))
    old = [d.key for d in await leased(store, 2000.0)]
    new = [d.key for d in await leased(store, 3000.0)]
    report = arrival()
    await store.apply(Change(report.arrived, report.deliveries, finished=old))
    assert await store.load(report.arrived[0].id) is None
    assert await sizes(queue) == {"message": 1, "chunk": 0, "delivery": 2}
    await store.apply(Change(report.arrived, report.deliveries, finished=new[:1], updated=[(new[1], {"attempts": 1})]))
    assert await store.load(report.arrived[0].id) is not None
    assert await sizes(queue) == {"message": 2, "chunk": 0, "delivery": 2}


async def test_the_leases_of_a_dead_worker_are_freed_and_no_others(store: Store, url: str) -> None:
    other = Store(await connect(url), "worker-11/")
    await store.apply(arrival())
    await leased(store)
    await store.apply(arrival())
    await leased(other)
    assert await other.free("worker-1/", 2000.0) == 1
    assert len(await other.due(2000.0, 10)) == 1
    assert await other.free(None, 2000.0) == 1
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


async def test_a_queue_of_another_version_is_refused(url: str, store: Store, queue: Database) -> None:
    await queue.write(lambda c: c.execute(update(schema.version).values(version=99)), durable=True)
    with pytest.raises(QueueUnavailable, match=f"the queue has schema version 99, this program knows {schema.VERSION}"):
        await connect(url)


async def test_a_queue_that_is_not_there_is_not_made_by_a_queue_command(url: str) -> None:
    with pytest.raises(QueueUnavailable, match="there is no queue yet"):
        await connect(url, create=False)


async def test_several_workers_may_make_the_queue_at_once(url: str) -> None:
    opened = await asyncio.gather(*(asyncio.create_task(connect(url)) for _ in range(4)))
    for queue in opened:
        await queue.close()


async def test_stored_senders_are_one_a_day_and_expire(store: Store) -> None:
    token = await store.token_for("long@x.example", 86400.0 * 10, 1000.0)
    assert await store.token_for("long@x.example", 86400.0 * 10 + 5, 1000.0) == token
    assert await store.token_for("long@x.example", 86400.0 * 11, 1000.0) != token
    assert await store.token_for(r'"lo\ng"@X.example.', 86400.0 * 10 + 5, 1000.0) == token
    assert await store.sender_of(token, 86400.0 * 10 + 999) == "long@x.example"
    assert await store.sender_of(token, 86400.0 * 10 + 1001) is None
    assert await store.sender_of("unknown", 0.0) is None


async def test_stored_senders_are_bounded_and_the_oldest_give_way(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MAX_SENDERS", 3)
    stored = [await store.token_for(f"{n}@x.example", 86400.0 * n, 86400.0 * 100) for n in range(5)]
    assert await store.token_for("4@x.example", 86400.0 * 4, 86400.0 * 100) == stored[4]
    kept = [await store.sender_of(token, 86400.0 * 5) for token in stored]
    assert kept == [None, None, "2@x.example", "3@x.example", "4@x.example"]
    other = Store(await connect(url), "worker-2/")
    assert await other.token_for("5@x.example", 86400.0 * 5, 86400.0 * 100)
    assert await other.sender_of(stored[2], 86400.0 * 5) is None
    assert await other.sender_of(stored[3], 86400.0 * 5) == "3@x.example"
    await other.close()


async def test_stored_senders_that_expired_are_swept_away_and_leave_room(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MAX_SENDERS", 2)
    await store.token_for("0@x.example", 0.0, 1000.0)
    kept = await store.token_for("1@x.example", 0.0, 9000.0)
    await store.sweep(1001.0)
    await store.token_for("2@x.example", 1001.0, 1000.0)
    assert await store.sender_of(kept, 1001.0) == "1@x.example"


def scalar(statement: Select[Any], connection: Connection) -> Any:
    return connection.execute(statement).scalar_one()


async def test_far_too_many_stored_senders_become_fewer_bit_by_bit(
    store: Store, queue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(10):
        await store.token_for(f"{n}@x.example", 0.0, 1000.0 + n)
    monkeypatch.setattr(tokens, "MAX_SENDERS", 4)
    monkeypatch.setattr(tokens, "DROPPED_AT_ONCE", 3)
    sizes = []
    for n in range(10, 15):
        await store.token_for(f"{n}@x.example", 0.0, 1000.0 + n)
        everyone = select(func.count()).select_from(schema.srs_token)
        sizes.append(await queue.read(partial(scalar, everyone)))
    assert sizes == [8, 6, 4, 4, 4]


async def test_a_stored_author_keeps_its_token_and_lives_on_with_every_message(store: Store) -> None:
    year = 86400.0 * 365
    assert await store.keep_author("long@x.example", "abc", 0.0, year) == "abc"
    assert await store.sender_of("abc", year - 1) == "long@x.example"
    assert await store.keep_author("long@x.example", "newer", year / 2, year) == "abc"
    assert await store.sender_of("abc", year * 1.5) == "long@x.example"
    assert await store.sender_of("newer", year / 2) is None
    await store.sweep(year * 1.5 + 1)
    assert await store.sender_of("abc", year) is None
    assert await store.keep_author("long@x.example", "abc", year * 2, year) == "abc"
    assert await store.token_for("long@x.example", year * 2, 1000.0) != "abc", "a sender is another matter"


async def test_stored_authors_are_bounded_among_themselves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_AUTHORS", 3)
    sender = await store.token_for("sender@x.example", 0.0, 10.0)

    async def kept_with(name: str) -> str:
        await store.keep_author(f"{name}@x.example", name * 16, 0.0, 1e6)
        return "".join([name for name in "acghkz" if await store.sender_of(name * 16, 1.0) is not None])

    assert [await kept_with(name) for name in "cgkazhc"] == ["c", "cg", "cgk", "agk", "agkz", "agh", "ach"]
    assert await store.sender_of(sender, 1.0) == "sender@x.example"


async def test_two_workers_store_a_sender_under_one_token(store: Store, url: str) -> None:
    other = Store(await connect(url), "worker-2/")
    both = await asyncio.gather(*(s.token_for("long@x.example", 0.0, 1000.0) for s in (store, other)))
    assert both[0] == both[1]
    both = await asyncio.gather(
        *(s.keep_author("long@x.example", t, 0.0, 1e6) for s, t in ((store, "a"), (other, "b")))
    )
    assert both[0] == both[1]
    await other.close()


def test_queue_ids_are_unique_ordered_and_readable() -> None:
    made = [IDS.new() for _ in range(10_000)]
    assert made == sorted(set(made))
    names = [id_text(n) for n in made]
    assert names == sorted(names) and {len(n) for n in names} == {12}
    assert [id_from_text(n.lower()) for n in names] == made
    with pytest.raises(ValueError, match="not a queue id"):
        id_from_text("I-am-no-id!!")
