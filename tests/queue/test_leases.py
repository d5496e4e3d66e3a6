"""Leases: each delivery for one worker and a time, and free again when the worker is dead."""

from __future__ import annotations

import asyncio
import os

from relay.queue.connect import connect
from relay.queue.schema import CHUNK
from relay.queue.store import Store
from tests.queue.changes import arrival, leased

EMPTY = {"message": 0, "chunk": 0, "delivery": 0}
LARGE = b"Subject: x\r\n\r\n" + os.urandom(CHUNK * 2 + 17)


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
