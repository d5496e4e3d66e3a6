"""Stored senders and authors: found by their tokens, bounded in number, and gone when they expire."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Select, func, select

from relay.queue import schema
from relay.queue import sender_tokens as tokens
from relay.queue.connect import connect
from relay.queue.database import Database
from relay.queue.schema import CHUNK
from relay.queue.store import Store

EMPTY = {"message": 0, "chunk": 0, "delivery": 0}
LARGE = b"Subject: x\r\n\r\n" + os.urandom(CHUNK * 2 + 17)


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
