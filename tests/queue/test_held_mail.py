"""What the filter or an access table holds goes when its time is over; what `queue hold` holds never does."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from relay.queue import admin, held_mail
from relay.queue.admin import Selector
from relay.queue.connect import connect
from relay.queue.database import Database, repeat_until_done
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.schema import CHUNK
from relay.queue.store import Change, Store
from tests.queue.changes import arrival, sizes

PATIENCE = RetrySchedule(retry_for=500.0, bounce_retry_for=50.0)


async def held(store: Store, until: float, octets: int = 100, recipients: int = 1) -> Change:
    change = arrival(
        b"Subject: x\r\n\r\n" + os.urandom(octets),
        recipients,
        state="held",
        held_until=until,
        hold_reason="filter.rspamd",
        expires=1500.0,
    )
    await store.apply(change)
    return change


def selected(change: Change) -> list[Selector]:
    return [Selector(change.arrived[0].id)]


async def drop(store: Store, now: float) -> list[str]:
    dropped = []
    while gone := await store.held.drop_some(now):
        assert {each.reason for each in gone} == {"filter.rspamd"}
        dropped += [each.recipient for each in gone]
    return dropped


async def test_it_goes_with_its_content_when_its_time_is_over(
    store: Store, queue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_mail, "AT_ONCE", 2)
    await held(store, 2000.0, 2 * CHUNK, recipients=3)
    await held(store, 2001.0)
    await store.apply(arrival(next_attempt=1.0))
    assert await drop(store, 1999.0) == []
    assert sorted(await drop(store, 2000.0)) == ["r0@c.example", "r1@c.example", "r2@c.example"]
    assert await sizes(queue) == {"message": 2, "chunk": 0, "delivery": 2}
    assert await drop(store, 9999.0) == ["r0@c.example"]
    assert await store.counts() == {"queued": 1}


async def test_what_is_released_is_tried_as_long_as_new_mail(store: Store, queue: Database) -> None:
    change = await held(store, 2000.0)
    assert not await store.due(9999.0, 10)
    assert await admin.release(queue, selected(change), 1900.0, PATIENCE) == 1
    assert await drop(store, 9999.0) == []
    (row,) = await admin.show(queue, selected(change)[0])
    assert (row["state"], row["held_until"], row["hold_reason"]) == ("queued", None, None)
    assert row["expires"] == pytest.approx(2400.0, abs=5)
    assert [due.message_id for due in await store.due(2000.0, 10)] == [change.arrived[0].id]


async def test_a_bounce_that_is_released_is_tried_as_long_as_a_new_bounce(store: Store, queue: Database) -> None:
    change = arrival(state="held", held_until=2000.0, hold_reason="filter.rspamd")
    await store.apply(replace(change, arrived=[replace(change.arrived[0], sender="")]))
    await store.apply(other := arrival(state="held", held_until=2000.0, hold_reason="filter.rspamd"))
    assert await admin.release(queue, [*selected(change), *selected(other)], 1900.0, PATIENCE) == 2
    expires = [row["expires"] async for row in admin.rows(queue)]
    assert expires == [pytest.approx(1950.0, abs=5), pytest.approx(2400.0, abs=5)]


async def test_what_is_held_by_hand_never_goes(store: Store, queue: Database) -> None:
    filtered, other = await held(store, 2000.0), arrival(expires=1500.0)
    await store.apply(other)
    assert await admin.hold(queue, selected(filtered)) == await admin.hold(queue, selected(other)) == 1
    assert await admin.hold(queue, selected(filtered)) == 0, "it is held already"
    assert await drop(store, 9e9) == []
    assert [row["hold_reason"] async for row in admin.rows(queue, "held")] == ["filter.rspamd", None]
    assert await admin.release(queue, [], 1900.0, PATIENCE) == 2
    expires = [row["expires"] async for row in admin.rows(queue)]
    assert expires == [pytest.approx(2400.0, abs=5), 1500.0], "only a filtered message begins anew"


async def test_it_can_be_dropped_and_not_retried(store: Store, queue: Database) -> None:
    change = await held(store, 2000.0)
    assert await admin.retry(queue, selected(change), 1900.0, 500.0) == 0
    assert await admin.drop(queue, selected(change)) == 1
    assert await sizes(queue) == {"message": 0, "chunk": 0, "delivery": 0}


async def test_of_what_is_released_or_kept_at_the_last_moment_each_delivery_has_one_fate(
    store: Store, queue: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_mail, "AT_ONCE", 7)
    changes = [await held(store, 1.0 + n, recipients=12) for n in range(30)]
    other = Store(await connect(url), "worker-2/")

    async def sweep(of: Store) -> int:
        """As the upkeep does it."""

        async def some() -> int:
            return len(await of.held.drop_some(9.9e9))

        return await repeat_until_done(some)

    async def by_hand() -> list[int]:
        done = [0, 0, 0]
        for change in reversed(changes):
            message = change.arrived[0].id
            keep, release, remove = ([Selector(message, n) for n in range(first, first + 4)] for first in (0, 4, 8))
            done[0] += await admin.hold(queue, keep)
            done[1] += await admin.release(queue, release, 2.0, PATIENCE)
            done[2] += await admin.drop(queue, remove)
        return done

    try:
        one, two, (kept, released, removed) = await asyncio.gather(sweep(store), sweep(other), by_hand())
    finally:
        await other.close()
    left = [row async for row in admin.rows(queue)]
    assert one + two and kept and released and removed, "nobody was faster than all others"
    assert one + two + kept + released + removed == 360
    states = [("held", None)] * kept + [("queued", None)] * released
    assert sorted((row["state"], row["held_until"]) for row in left) == states
    messages = len({row["id"] for row in left})
    assert await sizes(queue) == {"message": messages, "chunk": 0, "delivery": kept + released}


async def test_a_crash_in_the_middle_leaves_all_as_it_was(
    store: Store, queue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held(store, 2000.0, recipients=3)
    await store.apply(arrival())
    before = await sizes(queue)

    def crash(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(held_mail, "forget", crash)
        with pytest.raises(MemoryError):
            await store.held.drop_some(3000.0)
    assert await sizes(queue) == before
    assert len(await drop(store, 3000.0)) == 3 and await store.counts() == {"queued": 1}
