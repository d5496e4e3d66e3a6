"""Which changes share a transaction, and for how long one waits: on a database that only counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from relay.queue import group_commit
from relay.queue.change import Change, Key
from relay.queue.database import QueueUnavailable, Rejected, Work
from relay.queue.group_commit import GroupCommit
from tests.queue.changes import arrival

SETTLED = Change(finished=[Key(1, 0, 7)], durable=False)


class Counting:
    """A database whose transactions take until `go_on` is set.

    Attributes:
        writes: whether each of them was durable.
        errors: what the next ones raise.
    """

    def __init__(self) -> None:
        self.writes: list[bool] = []
        self.errors: list[Exception] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def write(self, work: Work[object], *, durable: bool) -> None:
        self.writes.append(durable)
        await self.go_on.wait()
        if self.errors:
            raise self.errors.pop(0)


class Worker:
    """The changes of a worker with so many sessions in DATA, where only the others can end a wait."""

    def __init__(self, sessions: int) -> None:
        self.database = Counting()
        self.commits = GroupCommit(self.database, lambda _: None)  # type: ignore[arg-type]
        self.commits.sessions = lambda: sessions

    async def begin(self, *changes: Change) -> list[asyncio.Task[None]]:
        """Hand these changes in, and let them come as far as they can."""
        tasks = [asyncio.create_task(self.commits.carry_out(change)) for change in changes]
        for _ in range(10):
            await asyncio.sleep(0)
        return tasks


@pytest.fixture(autouse=True)
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "WAIT", 3600.0)


def done(tasks: Sequence[asyncio.Task[None]]) -> list[bool]:
    return [task.done() for task in tasks]


@pytest.mark.parametrize("sessions", [0, 1])
@pytest.mark.parametrize("change", [arrival(), SETTLED], ids=["message", "outcome"])
async def test_a_change_that_comes_alone_does_not_wait(sessions: int, change: Change) -> None:
    worker = Worker(sessions)
    assert done(await worker.begin(change)) == [True]
    assert worker.database.writes == [change.durable]


async def test_a_message_waits_for_that_of_the_other_session() -> None:
    worker = Worker(2)
    first = await worker.begin(arrival())
    assert done(first) == [False] and worker.database.writes == []
    assert done(first + await worker.begin(arrival())) == [True, True]
    assert worker.database.writes == [True]


async def test_an_outcome_goes_with_the_messages_that_come_next() -> None:
    worker = Worker(2)
    tasks = await worker.begin(SETTLED, arrival())
    assert done(tasks) == [False, False]
    assert done(tasks + await worker.begin(arrival())) == [True] * 3
    assert worker.database.writes == [True]


async def test_a_session_that_sends_on_and_on_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "WAIT", 0.002)
    worker = Worker(2)
    for change in (arrival(), SETTLED):
        (task,) = await worker.begin(change)
        await asyncio.wait_for(task, 10)
    assert worker.database.writes == [True, False]


async def test_what_comes_while_a_transaction_is_under_way_shares_the_next_one() -> None:
    worker = Worker(1)
    worker.database.go_on.clear()
    tasks = await worker.begin(arrival())
    tasks += await worker.begin(SETTLED, arrival(), arrival())
    assert worker.database.writes == [True]
    worker.database.go_on.set()
    await asyncio.gather(*tasks)
    assert worker.database.writes == [True, True]


async def test_sessions_whose_message_is_being_stored_are_not_waited_for() -> None:
    worker = Worker(2)
    worker.database.go_on.clear()
    tasks = await worker.begin(arrival(), arrival())
    tasks += await worker.begin(SETTLED)
    worker.database.go_on.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert worker.database.writes == [True, False]


async def test_what_waits_is_carried_out_before_the_queue_closes() -> None:
    worker = Worker(5)
    tasks = await worker.begin(arrival(), SETTLED)
    assert done(tasks) == [False, False]
    await worker.commits.close()
    assert worker.database.writes == [True]
    await asyncio.gather(*tasks)


async def test_a_change_whose_session_was_dropped_is_carried_out_like_the_others() -> None:
    worker = Worker(3)
    first, second = await worker.begin(arrival(), arrival())
    first.cancel()
    (third,) = await worker.begin(arrival())
    assert done([second, third]) == [True, True] and first.cancelled()
    assert worker.database.writes == [True]


async def test_after_an_error_the_next_change_counts_sessions_anew() -> None:
    worker = Worker(2)
    for error in (QueueUnavailable("disk full"), Rejected("twice")):
        worker.database.errors = [error] * 3
        tasks = await worker.begin(arrival(), arrival())
        assert [type(task.exception()) for task in tasks] == [type(error)] * 2
    assert worker.database.writes == [True] * 4, "what is wrong with a change is found by itself, a full disk is not"
    assert done(await worker.begin(arrival())) == [False]
    await worker.commits.close()
