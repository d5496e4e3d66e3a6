"""The leases that the supervisor ends: those of everybody at the start, those of dead workers later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from structlog.testing import capture_logs

from relay.process import leases
from relay.process.leases import free_leases, prepare_queue
from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.store import Store
from tests.queue.changes import arrival, leased

T = TypeVar("T")


def with_store(url: str, owner: str, use: Callable[[Store], Awaitable[T]]) -> T:
    async def run() -> T:
        store = Store(await connect(url), owner)
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(run())


async def _take(store: Store) -> None:
    await store.apply(arrival())
    assert await leased(store, time.time())


async def _due(store: Store) -> int:
    return len(await store.due(time.time(), 100))


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A queue with one delivery that the worker `a` has leased, and one that `b` has."""
    url = f"sqlite:///{tmp_path}/queue.db"
    for owner in ("a", "b"):
        with_store(url, owner, _take)
    assert with_store(url, "", _due) == 0
    return url


def test_a_dead_workers_deliveries_are_due_again_and_no_others(url: str) -> None:
    with capture_logs() as logs:
        free_leases(url, ["a", "never seen"])
    assert [(log["event"], log["count"]) for log in logs] == [("leases_freed", 1)]
    assert with_store(url, "", _due) == 1


def test_all_leases_end_where_no_worker_can_be_alive(url: str) -> None:
    prepare_queue(url, alone=False)
    assert with_store(url, "", _due) == 0
    prepare_queue(url, alone=True)
    assert with_store(url, "", _due) == 2


def test_the_queue_is_made_where_there_is_none(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    with capture_logs() as logs:
        prepare_queue(url, alone=True)
    assert logs == []
    assert with_store(url, "", _due) == 0
    (tmp_path / "other").write_text("no database")
    with pytest.raises(QueueUnavailable):
        prepare_queue(f"sqlite:///{tmp_path}/other", alone=True)


def test_a_queue_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    async def stuck(*_: object) -> int:
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(leases, "FREE_PATIENCE", 0.05)
    monkeypatch.setattr(Store, "free", stuck)
    with capture_logs() as logs:
        free_leases(url, ["a"])
    assert [(log["event"], log["problem"]) for log in logs] == [("leases_not_freed", "the queue does not answer")]
