"""What the queue commands do, on SQLite and on PostgreSQL; `tests/cli/test_queue.py` tests the commands themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.mail.queue_id import id_text
from relay.queue import admin
from relay.queue.admin import Selector
from relay.queue.database import Database
from relay.queue.hop_keys import own_hop
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Change, Store
from tests.queue.changes import arrival, bury, leased, sizes


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "PAGE", 3)


async def states(queue: Database) -> dict[str, int]:
    rows = [row["state"] async for row in admin.rows(queue)]
    return {state: rows.count(state) for state in rows}


def chosen(change: Change, n: int | None = None) -> list[Selector]:
    name = id_text(change.arrived[0].id)
    return [Selector.parse(name.lower() if n is None else f"{name}/{n}")]


async def test_a_message_or_one_of_its_recipients_is_held_released_and_dropped(store: Store, queue: Database) -> None:
    change = arrival(recipients=2)
    await store.apply(change)
    second, both = chosen(change, 1), chosen(change)
    assert await admin.hold(queue, second) == 1
    assert [d.n for d in await store.due(2000.0, 10)] == [0]
    assert [(r["n"], r["state"]) for r in await admin.show(queue, both[0])] == [(0, "queued"), (1, "held")]
    assert await admin.release(queue, both, 1500.0, RetrySchedule()) == 1
    assert [d.n for d in await store.due(2000.0, 10)] == [0, 1]
    assert await admin.drop(queue, second) == 1
    assert [(r["n"], r["state"]) for r in await admin.show(queue, both[0])] == [(0, "queued")]
    assert await admin.drop(queue, both) == 1
    assert await store.load(change.arrived[0].id) is None


async def test_the_list_is_read_in_pages_the_oldest_message_first(store: Store, queue: Database) -> None:
    for _ in range(3):
        await store.apply(arrival(recipients=3))
    listed = [(row["id"], row["n"]) async for row in admin.rows(queue)]
    assert len(listed) == 9 and listed == sorted(set(listed))


async def test_a_key_for_what_we_write_ourselves_is_shown_as_the_next_hop_that_it_is(
    store: Store, queue: Database
) -> None:
    change = arrival(recipients=1)
    await store.apply(replace(change, deliveries=[replace(d, hop=own_hop("d.test")) for d in change.deliveries]))
    assert [row["next_hop"] async for row in admin.rows(queue)] == ["d.test"]
    assert [d.hop for d in await store.due(2000.0, 10, hop=own_hop("d.test"))] == [own_hop("d.test")]


async def test_the_list_of_one_state(store: Store, queue: Database) -> None:
    changes = [arrival(recipients=2) for _ in range(4)]
    for change in changes:
        await store.apply(change)
    for change in changes[1:]:
        await admin.hold(queue, chosen(change, 1))
    assert len([row async for row in admin.rows(queue, "queued")]) == 5
    held = [(row["id"], row["n"]) async for row in admin.rows(queue, "held")]
    assert held == [(id_text(change.arrived[0].id), 1) for change in changes[1:]]
    assert [row async for row in admin.rows(queue, "dead")] == []


async def test_everything_at_once_is_done_page_by_page(store: Store, queue: Database) -> None:
    for _ in range(4):
        await store.apply(arrival(recipients=2))
    assert await admin.hold(queue, []) == 8
    assert await states(queue) == {"held": 8}
    assert await admin.release(queue, [], 1500.0, RetrySchedule()) == 8
    assert await admin.retry(queue, [], 1600.0, 100.0) == 8
    times = [d.next_attempt for d in await store.due(2000.0, 10)]
    assert times == [pytest.approx(1600.0, abs=60)] * 8
    assert await admin.drop(queue, []) == 8
    assert await sizes(queue) == {"message": 0, "chunk": 0, "delivery": 0}


async def test_a_dead_letter_that_is_retried_has_a_new_life(store: Store, queue: Database) -> None:
    dead, waiting = arrival(expires=7000.0), arrival(next_attempt=9000.0, expires=7000.0)
    await store.apply(dead)
    await bury(store, 2000.0, expires=1.0)
    await store.apply(waiting)
    assert await states(queue) == {"dead": 1, "queued": 1}
    assert await admin.retry(queue, [*chosen(dead), *chosen(waiting)], 2500.0, 100.0) == 2
    listed = {row["id"]: (row["state"], row["next_attempt"], row["expires"]) async for row in admin.rows(queue)}
    assert listed[id_text(dead.arrived[0].id)] == ("queued", 2500.0, 2600.0)
    assert listed[id_text(waiting.arrived[0].id)] == ("queued", 2500.0, 7000.0)


@pytest.mark.parametrize("deed", ["retry", "release"])
async def test_a_long_deed_makes_each_page_due_when_it_gets_there(store: Store, queue: Database, deed: str) -> None:
    """Workers have looked at what was due earlier by then, and go back two minutes at most."""
    for _ in range(4):
        await store.apply(arrival(next_attempt=5000.0))
    if deed == "release":
        await admin.hold(queue, [])
        await admin.release(queue, [], 1500.0, RetrySchedule())
    else:
        await admin.retry(queue, [], 1500.0, 100.0)
    first, *_, last = [d.next_attempt for d in await store.due(4000.0, 10)]
    assert first < last


async def test_an_attempt_under_way_is_shown_and_not_doubled(store: Store, queue: Database) -> None:
    change = arrival()
    await store.apply(change)
    (attempt,) = await leased(store, 2000.0)
    (row,) = await admin.show(queue, chosen(change)[0])
    assert (row["state"], row["next_attempt"]) == ("active", None)
    assert await admin.retry(queue, [], 2001.0, 100.0) == 0
    assert await admin.hold(queue, []) == 1
    assert await admin.release(queue, [], 2001.0, RetrySchedule()) == 1
    assert await store.due(2059.0, 10) == [], "released into a second attempt beside the first"
    await store.apply(Change(finished=[attempt.key]))
    assert await states(queue) == {}


async def test_what_is_held_during_an_attempt_stays_held_after_it(store: Store, queue: Database) -> None:
    await store.apply(arrival())
    (attempt,) = await leased(store, 2000.0)
    await admin.hold(queue, [])
    await store.apply(Change(updated=[(attempt.key, {"next_attempt": 2100.0, "attempts": 1})]))
    assert await states(queue) == {"held": 1}
    assert await store.due(9999.0, 10) == []


async def test_nobody_is_told_of_what_is_dropped_during_an_attempt(store: Store, queue: Database) -> None:
    await store.apply(arrival())
    (attempt,) = await leased(store, 2000.0)
    await admin.drop(queue, [])
    report = arrival()
    await store.apply(Change(report.arrived, report.deliveries, finished=[attempt.key]))
    assert await sizes(queue) == {"message": 0, "chunk": 0, "delivery": 0}


async def deferred(store: Store, attempts: int, now: float, until: float) -> None:
    """Let an attempt at all that is due fail."""
    for delivery in await leased(store, now):
        await store.apply(
            Change(updated=[(delivery.key, {"attempts": attempts, "state": "queued", "next_attempt": until})])
        )


async def counts(queue: Database) -> list[tuple[int, int]]:
    return [(row["attempts"], row["by_hand"]) async for row in admin.rows(queue)]


async def test_an_attempt_by_hand_is_told_apart_once(store: Store, queue: Database) -> None:
    change = arrival()
    await store.apply(change)
    assert await admin.retry(queue, chosen(change), 1000.0, 100.0) == 1
    assert await counts(queue) == [(0, 0)], "the first attempt comes anyway"
    await deferred(store, 3, 1000.0, 5000.0)
    for now in (2000.0, 2000.0, 2001.0):
        assert await admin.retry(queue, chosen(change), now, 100.0) == 1
    assert await counts(queue) == [(3, 1)]
    await deferred(store, 4, 2001.0, 5000.0)
    assert await admin.retry(queue, chosen(change), 6000.0, 100.0) == 1
    assert await counts(queue) == [(4, 1)], "it was due"
    assert [d.by_hand for d in await leased(store, 6000.0)] == [1]


async def test_a_dead_letter_that_is_retried_counts_as_by_hand(store: Store, queue: Database) -> None:
    change = arrival()
    await store.apply(change)
    await deferred(store, 5, 1000.0, 1000.0)
    await bury(store, 2000.0)
    for now in (2500.0, 2600.0):
        assert await admin.retry(queue, chosen(change), now, 100.0) == 1
    (only,) = await counts(queue)
    assert only[1] == 1


async def test_an_attempt_after_a_release_counts_as_by_hand(store: Store, queue: Database) -> None:
    change = arrival()
    await store.apply(change)
    await deferred(store, 3, 1000.0, 5000.0)
    for now, by_hand in ((2000.0, 1), (2001.0, 1), (6000.0, 1)):  # early, again before the attempt, when it was due
        await admin.hold(queue, chosen(change))
        assert await admin.release(queue, chosen(change), now, RetrySchedule()) == 1
        assert await counts(queue) == [(3, by_hand)]


async def test_how_much_there_is(store: Store, queue: Database) -> None:
    change = arrival(recipients=2)
    assert await admin.count(queue) == 0
    await store.apply(change)
    assert await admin.count(queue) == 2
    (selector,) = chosen(change, 1)
    assert await admin.present(queue, selector)
    assert not await admin.present(queue, Selector(selector.message_id, 2))
