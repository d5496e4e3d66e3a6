"""One timer for many waits: it ends those that are late, and is set once for all that are not."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from relay.wait_timer import WaitTimer


@dataclass
class Handle:
    """A timer of the loop."""

    at: float
    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Clock:
    """A loop with a clock that the test moves."""

    now: float = 0.0
    handles: list[Handle] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, call: Callable[[], None]) -> Handle:
        self.handles.append(Handle(at, call))
        return self.handles[-1]

    @property
    def waiting(self) -> list[float]:
        """When the timers that are set come."""
        return [handle.at for handle in self.handles if not handle.cancelled]

    def go_to(self, moment: float) -> None:
        """Let the time pass, with all timers until then."""
        while due := [h for h in self.handles if not h.cancelled and h.at <= moment]:
            first = min(due, key=lambda handle: handle.at)
            self.handles.remove(first)
            self.now = first.at
            first.call()
        self.now = moment


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def late(clock: Clock) -> list[float]:
    """When waits were found to be late."""
    return []


@pytest.fixture
def timer(clock: Clock, late: list[float]) -> WaitTimer:
    return WaitTimer(clock, lambda: late.append(clock.now))  # type: ignore[arg-type]


def test_a_wait_is_late_at_its_end_and_only_once(clock: Clock, timer: WaitTimer, late: list[float]) -> None:
    timer.begin(10)
    clock.go_to(9.9)
    assert late == []
    clock.go_to(1000)
    assert late == [10]
    assert clock.waiting == []


def test_waits_that_end_in_time_share_one_timer(clock: Clock, timer: WaitTimer, late: list[float]) -> None:
    for second in range(100):
        clock.go_to(second)
        timer.begin(second + 300)
        timer.end()
    assert len(clock.handles) == 1
    clock.go_to(1000)
    assert late == []
    assert clock.waiting == []


def test_a_timer_that_comes_for_an_earlier_wait_is_set_again(clock: Clock, timer: WaitTimer, late: list[float]) -> None:
    timer.begin(300)
    timer.end()
    clock.go_to(200)
    timer.begin(500)
    clock.go_to(499)
    assert late == []
    clock.go_to(501)
    assert late == [500]


def test_a_shorter_wait_after_a_longer_one(clock: Clock, timer: WaitTimer, late: list[float]) -> None:
    timer.begin(300)
    timer.end()
    timer.begin(5)
    assert clock.waiting == [5]
    clock.go_to(6)
    assert late == [5]
    timer.begin(20)
    clock.go_to(20)
    assert late == [5, 20]


def test_nothing_comes_after_the_last_wait(clock: Clock, timer: WaitTimer, late: list[float]) -> None:
    timer.begin(10)
    timer.close()
    assert clock.waiting == []
    timer.begin(5)
    timer.begin(20)
    assert clock.waiting == []
    clock.go_to(100)
    assert late == []


def test_a_closed_timer_does_not_keep_its_owner(clock: Clock) -> None:
    class Owner:
        def __init__(self) -> None:
            self.timer = WaitTimer(clock, self.late)  # type: ignore[arg-type]

        def late(self) -> None:
            pass

    owner = Owner()
    owner.timer.begin(10)
    owner.timer.close()
    gone = weakref.ref(owner)
    gc.disable()
    try:
        del owner
        assert gone() is None
    finally:
        gc.enable()


async def test_on_a_real_loop() -> None:
    loop = asyncio.get_running_loop()
    came = loop.create_future()
    timer = WaitTimer(loop, lambda: came.set_result(loop.time()))
    ends = loop.time() + 0.05
    timer.begin(ends)
    assert await asyncio.wait_for(came, 10) > ends - 0.01
