"""What stands between a database and many sessions: memory, one question at a time, patience."""

from __future__ import annotations

import asyncio

import pytest

from relay.lookup import source
from relay.lookup.source import BadKey, Found, Remembering, SourceUnavailable


class Slow:
    """Answers `VALUE-key` when it is let go; None for keys with "no"."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self.problem: Exception | None = None

    async def get(self, key: str) -> str | None:
        self.asked.append(key)
        await self.go.wait()
        if self.problem is not None:
            raise self.problem
        return None if "no" in key else f"VALUE-{key}"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_answers_are_remembered_for_a_minute_also_that_there_is_none() -> None:
    slow, clock, counted = Slow(), Clock(), list[str]()
    table = Remembering(slow, "db", clock)
    table.count = counted.append
    for _ in range(3):
        assert await table.get("a") == Found("VALUE-a", "db")
        assert await table.get("no") is None
    assert slow.asked == ["a", "no"]
    assert counted == ["found", "notfound", *["remembered"] * 4]
    clock.now += source.REMEMBERED_FOR + 1
    assert await table.get("a") == Found("VALUE-a", "db")
    assert slow.asked == ["a", "no", "a"]


async def test_sessions_that_ask_the_same_wait_for_one_look_up() -> None:
    slow = Slow()
    slow.go.clear()
    table = Remembering(slow, "db")
    waiting = [asyncio.create_task(table.get("a")) for _ in range(100)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # a client that goes away does not take the answer from the others
    await asyncio.sleep(0)
    slow.go.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert set(answers[1:]) == {Found("VALUE-a", "db")}
    assert slow.asked == ["a"]


async def test_after_a_failure_nobody_waits_and_what_is_remembered_holds() -> None:
    slow, clock = Slow(), Clock()
    table = Remembering(slow, "db", clock)
    await table.get("kept")
    slow.problem = SourceUnavailable("gone")
    for _ in range(3):
        with pytest.raises(SourceUnavailable, match=r"^db: gone$"):
            await table.get("a")
    assert await table.get("kept") is not None
    assert slow.asked == ["kept", "a"]
    clock.now += source.RETRY_AFTER
    slow.problem = None
    assert await table.get("a") == Found("VALUE-a", "db")


async def test_a_key_that_the_database_refuses_costs_no_other() -> None:
    slow = Slow()
    table = Remembering(slow, "db")
    slow.problem = BadKey("no number")
    with pytest.raises(SourceUnavailable):
        await table.get("a")
    slow.problem = None
    assert await table.get("b") is not None


async def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "REMEMBERED", 10)
    monkeypatch.setattr(source, "REMEMBERED_CHARACTERS", 60)
    slow = Slow()
    table = Remembering(slow, "db")
    for number in range(50):
        await table.get(f"{number:02}")
    assert len(table._answers) == 6 and table._characters == 60
    await table.get("49")
    assert slow.asked.count("49") == 1
    await table.get("00")
    assert slow.asked.count("00") == 2


@pytest.mark.parametrize("key", ["a\0b", "x" * 321])
async def test_no_database_is_asked_for_what_is_no_key(key: str) -> None:
    slow = Slow()
    assert await Remembering(slow, "db").get(key) is None
    assert slow.asked == []
