"""The time that an attempt at a delivery may take, and how it is given up before its final dot is out.

After the final dot the message may have been delivered, and another attempt would deliver it twice. So the reply to the
final dot has a time of its own (`delivery.final_timeout`), which nothing here shortens.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType

RATE = 8 * 1024  # octets a second, on average, at which a host must take the content: 50 MB in less than two hours


class Deadline:
    """The time limit of one attempt, over all hosts and addresses of its next hop.

    As a context manager it cancels what runs inside when the time is up, or when the attempt is given up.

    Attributes:
        over: why the attempt was given up, for its outcome; empty while it goes on. Then no other host is tried.
        withdrawn: whether nobody wants the message delivered any more, which says nothing about the next hop.
        final: whether a final dot is out and its reply is not there yet.
    """

    __slots__ = (
        "_cancelled",
        "_cancelling",
        "_ends",
        "_extended",
        "_seconds",
        "_task",
        "_timer",
        "final",
        "over",
        "withdrawn",
    )

    def __init__(self) -> None:
        self.over = ""
        self.withdrawn = False
        self.final = False
        self._seconds = 0.0
        self._ends: float | None = None  # by the clock of the loop
        self._extended = False
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cancelled = False
        self._cancelling = 0

    @property
    def open(self) -> bool:
        """Whether the attempt may still be given up, and was not."""
        return not (self.final or self.over)

    @property
    def waits(self) -> bool:
        """Whether the attempt has not had its turn yet, and was not given up."""
        return self._ends is None and not self.over

    @property
    def left(self) -> float:
        """Seconds that are left; infinite before `begin`."""
        return math.inf if self._ends is None else self._ends - self._loop.time()

    def begin(self, seconds: float) -> None:
        """Start the clock when the attempt connects: it has `seconds` in all. Later calls change nothing."""
        if self._ends is None:
            self._seconds, self._ends = seconds, self._loop.time() + seconds
            self._arm()

    def extend(self, octets: int) -> None:
        """Add the time for a content of this size, once an attempt, when a host begins to take it."""
        if self._ends is not None and not self._extended:
            self._extended = True
            self._seconds += octets / RATE
            self._ends += octets / RATE  # `_time_is_up` arms the timer again

    def final_dot(self) -> None:
        """Note that the final dot is out: from now on nothing cuts the attempt."""
        self.final = True

    def resume(self) -> None:
        """Go on with another host, for recipients that the reply to a final dot has left open."""
        self.final = False
        if self._timer is None:
            self._arm()

    def end(self, why: str) -> None:
        """Give the attempt up. Where its final dot is out it still gets the reply, and then tries no other host."""
        if self.over:
            return
        self.over = why
        self._disarm()
        if self._task is not None and not self.final:
            self._cancelled = True
            self._task.cancel()

    def withdraw(self, why: str) -> bool:
        """Give the attempt up because nobody wants the message delivered any more, unless its final dot is out.
        Returns whether it was given up."""
        if self.final:
            return False
        self.withdrawn = True
        self.end(why)
        return True

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop() if self._task is None else self._task.get_loop()

    def _time_is_up(self) -> None:
        self._timer = None
        if self.left > 0:
            self._arm()
        elif not self.final:
            self.end(f"given up after {self._seconds:.0f} s in all")

    def _arm(self) -> None:
        if self._task is not None and self._ends is not None and self.open:
            self._timer = self._loop.call_at(self._ends, self._time_is_up)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> Deadline:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self.final = False
        self._arm()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        """Swallow our own cancellation and no other."""
        self._disarm()
        task, self._task = self._task, None
        if not self._cancelled or task is None:
            return False
        self._cancelled = False
        return task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
