"""Stored MTA-STS policies: found again, refreshed by one worker, bounded, and gone when they expire."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from relay.queue import stored_policies
from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.store import Store
from relay.transport_security.stored_policy import StoredPolicy

POLICY = StoredPolicy("a.test", "1", "version: STSv1\nmode: none\nmax_age: 100\n", 1000.0, 1100.0, 1050.0, 1000.0)


async def test_a_policy_is_found_again_and_replaced(store: Store, url: str) -> None:
    assert await store.mta_sts.policy_of("a.test") is None
    await store.mta_sts.keep_policy(POLICY)
    newer = replace(POLICY, policy_id="2", policy="x" * 65536, fetched=1001.0)
    await store.mta_sts.keep_policy(newer)
    other = Store(await connect(url), "worker-2/")
    assert await other.mta_sts.policy_of("a.test") == newer
    await other.close()


async def test_use_is_noted_and_never_goes_back(store: Store) -> None:
    await store.mta_sts.keep_policy(POLICY)
    for now in (1070.0, 1060.0):
        await store.mta_sts.policy_used("a.test", now)
    assert await store.mta_sts.policy_of("a.test") == replace(POLICY, used=1070.0)
    await store.mta_sts.policy_used("other.test", 1.0)


async def test_each_policy_is_refreshed_by_one_worker(store: Store, url: str) -> None:
    other = Store(await connect(url), "worker-2/")
    for n in range(6):
        await store.mta_sts.keep_policy(replace(POLICY, domain=f"{n}.test", refresh=1050.0 + n))
    for other_policy in (
        replace(POLICY, domain="early.test", refresh=1061.0),
        replace(POLICY, domain="expired.test", expires=1060.0),
        replace(POLICY, domain="unused.test", used=899.0),
    ):
        await store.mta_sts.keep_policy(other_policy)
    taken = await asyncio.gather(
        *(worker.mta_sts.policies_to_refresh(1060.0, 900.0, 1080.0, 4) for worker in (store, other, store, other))
    )
    assert sorted(policy.domain for part in taken for policy in part) == [f"{n}.test" for n in range(6)]
    assert all(policy.refresh == 1080.0 for part in taken for policy in part)
    assert await store.mta_sts.policies_to_refresh(1079.0, 900.0, 1099.0, 1) == [
        replace(POLICY, domain="early.test", refresh=1099.0)
    ]
    assert len(await store.mta_sts.policies_to_refresh(1080.0, 900.0, 1099.0, 10)) == 6
    await other.close()


async def test_expired_policies_are_swept_away(store: Store) -> None:
    for n in range(250):
        await store.mta_sts.keep_policy(replace(POLICY, domain=f"{n}.test", expires=1100.0 + n % 2))
    await store.sweep(1100.5)
    kept = [n for n in range(250) if await store.mta_sts.policy_of(f"{n}.test")]
    assert kept == list(range(1, 250, 2))


async def test_the_longest_unused_give_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_policies, "MAX_POLICIES", 3)
    for n, used in enumerate((1003.0, 1001.0, 1002.0, 1004.0, 1000.0)):
        await store.mta_sts.keep_policy(replace(POLICY, domain=f"{n}.test", used=used))
    assert [n for n in range(5) if await store.mta_sts.policy_of(f"{n}.test")] == [0, 3, 4]
    await store.sweep(1001.0)
    monkeypatch.setattr(stored_policies, "MAX_POLICIES", 4)
    for _ in range(3):
        await store.mta_sts.keep_policy(replace(POLICY, domain="5.test", used=1005.0))
        await store.sweep(1001.0)
    assert [n for n in range(6) if await store.mta_sts.policy_of(f"{n}.test")] == [0, 3, 4, 5]


async def test_long_policies_take_the_room_of_several(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_policies, "MAX_POLICIES", 20)
    long = "x" * (8 * stored_policies.SHARE - 1)
    for n in range(5):
        await store.mta_sts.keep_policy(replace(POLICY, domain=f"{n}.test", policy=long, used=1000.0 + n))
    assert [n for n in range(5) if await store.mta_sts.policy_of(f"{n}.test")] == [3, 4]
    for n in range(5, 9):  # what is dropped for them has made room for all
        await store.mta_sts.keep_policy(replace(POLICY, domain=f"{n}.test", used=1000.0 + n))
    assert [n for n in range(9) if await store.mta_sts.policy_of(f"{n}.test")] == list(range(3, 9))
    await store.mta_sts.keep_policy(replace(POLICY, domain="8.test", policy=long, used=1009.0))
    assert [n for n in range(9) if await store.mta_sts.policy_of(f"{n}.test")] != list(range(3, 9))


async def test_a_database_that_is_away_is_no_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise QueueUnavailable("away")

    for name in ("read", "write"):
        monkeypatch.setattr(store.mta_sts._database, name, fail)
    with capture_logs() as logs:
        assert await store.mta_sts.policy_of("a.test") is None
        assert await store.mta_sts.policies_to_refresh(1060.0, 900.0, 1080.0, 4) == []
        await store.mta_sts.keep_policy(POLICY)
        await store.mta_sts.policy_used("a.test", 1.0)
    assert [(line["event"], line["problem"]) for line in logs] == [("queue_unavailable", "away")] * 4
