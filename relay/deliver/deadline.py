"""How long an attempt at a delivery may take, and that it may be given up, until its final dot is out.

From then on the message may have been taken, and whoever gives up delivers it twice: the reply to the final dot has a
time of its own (`delivery.final_timeout`), and nothing here cuts it.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

RATE = 8 * 1024  # octets a second at which a host must take a content on the whole: 25 MB in less than an hour


class Bound:
    """The time of one attempt, over all hosts and addresses of its next hop; a context in which it can be ended.

    Attributes:
        over: why the attempt was given up, for its outcome; empty while it goes on. No other host is tried then.
        final: whether a final dot is out whose reply is waited for.
    """

    __slots__ = ("_cancelled", "_cancelling", "_ends", "_extended", "_seconds", "_task", "_timer", "final", "over")

    def __init__(self) -> None:
        self.over = ""
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
    def left(self) -> float:
        """Seconds that are left; infinite before `begin`."""
        return float("inf") if self._ends is None else self._ends - asyncio.get_running_loop().time()

    def begin(self, seconds: float) -> None:
        """The attempt connects: it has `seconds` in all, whatever was tried before under the same bound."""
        if self._ends is None:
            self._seconds, self._ends = seconds, asyncio.get_running_loop().time() + seconds
            self._arm()

    def extend(self, octets: int) -> None:
        """A host takes the content, which gives time for so many octets, once."""
        if self._ends is not None and not self._extended:
            self._extended = True
            self._seconds += octets / RATE
            self._ends += octets / RATE  # the timer finds out

    def final_dot(self) -> None:
        """The final dot is out."""
        self.final = True

    def resume(self) -> None:
        """The reply to the final dot has left recipients for another host."""
        self.final = False
        if self._timer is None:
            self._arm()

    def end(self, why: str) -> None:
        """Give the attempt up. One that waits for the reply to its final dot goes on, and tries no other host."""
        if self.over:
            return
        self.over = why
        self._disarm()
        if self._task is not None and not self.final:
            self._cancelled = True
            self._task.cancel()

    def _time_is_up(self) -> None:
        self._timer = None
        if self.left > 0:
            self._arm()
        elif not self.final:
            self.end(f"given up after {self._seconds:.0f} s in all")

    def _arm(self) -> None:
        if self._task is not None and self._ends is not None and self.open:
            self._timer = asyncio.get_running_loop().call_at(self._ends, self._time_is_up)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> Bound:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self.final = False
        self._arm()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        """Swallow our own cancellation, and nobody else's."""
        self._disarm()
        task, self._task = self._task, None
        if not self._cancelled or task is None:
            return False
        self._cancelled = False
        return task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
