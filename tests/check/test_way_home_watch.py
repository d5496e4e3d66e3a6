"""How serve tries the way home: soon, daily, more often while it is broken, and without any harm to mail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from relay.check.finding import Finding
from relay.check.site import Site
from relay.check.way_home_watch import (
    APART,
    EVERY,
    SECOND_TRY,
    START_AFTER,
    TURN,
    WHILE_BROKEN,
    WayHomeWatch,
    watch_way_home,
)
from relay.dns import StaticResolver
from relay.metrics import Metrics
from relay.process.supervisor import WorkerSetup
from relay.queue.database import QueueUnavailable
from relay.queue.store import Store

OK = Finding("way-home", "fwd.test", "ok", "an SRS address arrives")
WARNING = Finding("way-home", "fwd.test", "warning", "not provable from here", "try it elsewhere")
ERROR = Finding("way-home", "fwd.test", "error", "it is refused", "publish an MX record")


class Days:
    """A watch whose time passes at once, and whose trials have the results that a test gives them.

    Attributes:
        pauses: the seconds that it waited, each time.
        tries: when it tried.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *results: Sequence[Finding] | Exception) -> None:
        self.now = 1_000_000.0
        self.metrics = Metrics()
        self.pauses: list[float] = []
        self.tries: list[float] = []
        self.claims: list[bool | Exception] = []
        self._results = list(results)
        monkeypatch.setattr("relay.check.way_home_watch.way_home.check", self._check)
        monkeypatch.setattr("relay.check.way_home_watch.asyncio.sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if not self._results:
            raise asyncio.CancelledError
        self.now += seconds

    async def _check(self, site: Site) -> Sequence[Finding]:
        self.tries.append(self.now)
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    async def _claim(self) -> bool:
        claim = self.claims.pop(0) if self.claims else True
        if isinstance(claim, Exception):
            raise claim
        return claim

    async def watch(self) -> list[Any]:
        """The log of a watch that ends with the results."""
        watch = WayHomeWatch(lambda: cast(Site, None), self.metrics, self._claim, lambda: self.now)
        with capture_logs() as lines, pytest.raises(asyncio.CancelledError):
            await watch.run()
        return lines

    def result(self) -> str:
        [result] = [value for value in ("ok", "unproven", "broken") if self.metrics.way_home.get(value)]
        return result


async def test_it_is_tried_soon_and_then_daily(monkeypatch: pytest.MonkeyPatch) -> None:
    days = Days(monkeypatch, [OK], [OK])
    lines = await days.watch()
    assert days.pauses == [START_AFTER, EVERY, EVERY]
    assert [(line["event"], line["log_level"], line["domain"]) for line in lines] == [
        ("way_home", "info", "fwd.test")
    ] * 2
    assert days.result() == "ok" and days.metrics.way_home_checked.get() == days.tries[-1]


async def test_a_break_is_said_loudly_each_time_until_it_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    days = Days(monkeypatch, [OK, ERROR], [ERROR])
    lines = await days.watch()
    assert days.pauses == [START_AFTER, WHILE_BROKEN, WHILE_BROKEN]
    broken = {"event": "way_home_broken", "log_level": "error", "domain": "fwd.test"}
    said = {**broken, "problem": ERROR.text, "mend": ERROR.mend}
    assert [line for line in lines if line["event"] != "way_home"] == [said, said]
    assert days.result() == "broken"
    mended = Days(monkeypatch, [ERROR], [OK])
    await mended.watch()
    assert mended.result() == "ok" and mended.pauses[-1] == EVERY


async def test_what_cannot_be_proved_is_said_once_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    days = Days(monkeypatch, [WARNING], [WARNING], [OK], [WARNING])
    lines = await days.watch()
    assert days.pauses == [START_AFTER, SECOND_TRY, EVERY, EVERY, SECOND_TRY], "hosts may come up after the relay"
    assert [line["event"] for line in lines] == ["way_home_unproven", "way_home", "way_home_unproven"]
    assert lines[0]["log_level"] == "warning" and lines[0]["mend"] == "try it elsewhere"
    assert days.result() == "unproven"


async def test_a_reload_or_a_dead_worker_does_not_try_it_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    days = Days(monkeypatch, [OK])
    days.metrics.way_home_checked.set(days.now - 60)
    await days.watch()
    assert days.pauses[0] == APART - 60
    jumped_back = Days(monkeypatch, [OK])
    jumped_back.metrics.way_home_checked.set(jumped_back.now + 1e9)
    await jumped_back.watch()
    assert jumped_back.pauses[0] == START_AFTER


async def test_a_host_that_is_not_the_one_waits_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    days = Days(monkeypatch, [OK])
    days.claims = [False, QueueUnavailable("the server is away"), True]
    lines = await days.watch()
    assert len(days.tries) == 1 and days.pauses == [START_AFTER, TURN, WHILE_BROKEN, EVERY]
    assert [line["event"] for line in lines] == ["queue_unavailable", "way_home"]


async def test_a_fault_of_the_check_is_logged_and_the_watch_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    days = Days(monkeypatch, ZeroDivisionError(), [OK])
    lines = await days.watch()
    assert [line["event"] for line in lines] == ["way_home_failed", "way_home"]
    assert days.pauses[1] < EVERY


async def test_one_worker_of_a_host_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    class Index:
        index = 1
        config = metrics = files = None

    second = cast(WorkerSetup, Index())
    assert watch_way_home(second, StaticResolver({}), cast(Store, None)) is None
    second.index = 0
    task = watch_way_home(second, StaticResolver({}), cast(Store, None))
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
