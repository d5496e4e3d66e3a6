"""Changes of the queue: all or nothing, and nothing from a worker that lost its lease."""

from __future__ import annotations

import asyncio
import os

from relay.queue.connect import connect
from relay.queue.database import Database
from relay.queue.hop_keys import is_own_hop, is_url, limited_hop, limiting_table, own_hop, shown_hop
from relay.queue.schema import CHUNK
from relay.queue.store import Change, Store
from tests.queue.changes import arrival, leased, sizes

EMPTY = {"message": 0, "chunk": 0, "delivery": 0}
LARGE = b"Subject: x\r\n\r\n" + os.urandom(CHUNK * 2 + 17)


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


def test_the_key_of_a_next_hop_for_own_messages_is_another_one_and_shown_as_the_same() -> None:
    for hop in ("d.example", "smtp://10.0.0.1:25"):
        assert is_own_hop(own_hop(hop)) and not is_own_hop(hop)
        assert shown_hop(own_hop(hop)) == shown_hop(hop) == hop


def test_the_key_of_mail_that_a_table_limits_says_which_one_and_is_shown_as_the_url() -> None:
    key = limited_hop("smtp://10.0.0.1:25", "d.example")
    for each in (key, own_hop(key)):
        assert limiting_table(each) == "d.example" and shown_hop(each) == "smtp://10.0.0.1:25" and is_url(each)
    assert limiting_table("smtp://10.0.0.1:25") == "" and not is_url("d.example")


def test_only_the_first_part_of_a_content_is_stored_in_the_transaction_of_its_row() -> None:
    assert arrival(b"x" * 10).octets == 10
    assert arrival(b"x" * (CHUNK + 1)).octets == CHUNK
