"""Dead letters are kept for a while and within a size; the oldest go first, and none that somebody wants back."""

from __future__ import annotations

import os

import pytest

from relay.mail.queue_id import id_text
from relay.queue import admin
from relay.queue import dead_letters as dead
from relay.queue.database import Database
from relay.queue.dead_letters import OVERHEAD
from relay.queue.schema import CHUNK
from relay.queue.store import Change, Store
from tests.queue.changes import arrival, bury, sizes

EMPTY = {"message": 0, "chunk": 0, "delivery": 0}


async def letter(store: Store, died: float, octets: int = 1000, recipients: int = 1) -> Change:
    """A dead letter; its content has so many octets."""
    change = arrival(b"Subject: x\r\n\r\n" + os.urandom(octets - 14), recipients, next_attempt=died)
    await store.apply(change)
    await bury(store, died)
    return change


async def ids(queue: Database) -> list[str]:
    return [row["id"] async for row in admin.rows(queue)]


async def test_they_are_kept_for_a_time_and_then_dropped(store: Store, queue: Database) -> None:
    await letter(store, 2000.0, 2 * CHUNK, recipients=100)
    await letter(store, 2001.0)
    await store.apply(arrival(next_attempt=1.0))
    assert await store.counts() == {"dead": 101, "queued": 1}
    assert await store.dead.drop(1999.0) == 0
    assert await store.dead.drop(2000.0) == 100
    assert await sizes(queue) == {"message": 2, "chunk": 0, "delivery": 2}
    assert await store.dead.drop(9999.0) == 1
    assert await store.counts() == {"queued": 1}


@pytest.mark.parametrize("step", [1, 10, 1000])
async def test_what_is_beyond_a_size_goes_the_oldest_first(
    store: Store, queue: Database, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(dead, "STEP", step)
    letters = [await letter(store, float(died)) for died in range(2000, 2010)]
    each = 1000 + OVERHEAD
    assert await store.dead.beyond(10 * each) == 0.0
    assert await store.dead.beyond(10 * each - 1) == 2000.0
    assert await store.dead.beyond(0) == 2009.0
    assert await store.dead.drop(await store.dead.beyond(4 * each)) == 6
    assert await ids(queue) == [id_text(change.arrived[0].id) for change in letters[6:]]
    assert await store.dead.beyond(4 * each) == 0.0


async def test_a_message_counts_once_however_many_recipients_died(store: Store) -> None:
    await letter(store, 2000.0)
    await letter(store, 2001.0, 5000, recipients=50)
    assert await store.dead.beyond(1000 + 5000 + 2 * OVERHEAD) == 0.0
    assert await store.dead.beyond(1000 + 5000 + 2 * OVERHEAD - 1) == 2000.0


async def test_only_so_much_is_dropped_at_once(store: Store, queue: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "OCTETS_AT_ONCE", 2500)
    for died in (2000.0, 2001.0, 2002.0, 2003.0):
        await letter(store, died)
    await letter(store, 2004.0, 9000)
    oldest_first = await ids(queue)
    assert await store.dead.drop_some() == 2
    assert await ids(queue) == oldest_first[2:]
    assert [await store.dead.drop_some() for _ in range(3)] == [2, 1, 0]
    assert await sizes(queue) == EMPTY


async def test_a_letter_that_is_retried_is_no_longer_dropped(store: Store, queue: Database) -> None:
    await letter(store, 2000.0)
    assert await admin.retry(queue, [], 2500.0, 1000.0) == 1
    assert await store.dead.drop(9999.0) == 0
    assert await store.counts() == {"queued": 1}
