"""What the filter or an access table holds goes when its time is over; what `queue hold` holds never does."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from relay.queue import admin, held_mail
from relay.queue.admin import Selector
from relay.queue.database import Database
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
