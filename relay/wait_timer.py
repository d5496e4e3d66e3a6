"""The time limit of the waits on one connection, of which nearly all are over long before it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

TICK = 0.002  # seconds by which the timers of a loop may be early


class WaitTimer:
    """One timer of the loop for all waits of a connection, one after the other.

    It is set where it would come too late, and where it comes too early it is set again, for the wait that is under way
    then. So a wait that ends in time costs no timer.

    Args:
        late: called when a wait was not over in time.
    """

    __slots__ = ("_at", "_ends", "_handle", "_late", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, late: Callable[[], None]) -> None:
        self._loop = loop
        self._late = late
        self._ends = math.inf
        self._at = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def begin(self, ends: float) -> None:
        """A wait begins, which is late at this time by the clock of the loop."""
        self._ends = ends
        if ends < self._at:
            self._set()

    def end(self) -> None:
        """The wait is over."""
        self._ends = math.inf

    def close(self) -> None:
        """There are no more waits: what begins from now on is never late. The owner is free to go."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._ends, self._at = math.inf, -math.inf
        self._late = _nothing

    def _set(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._at = self._ends
        self._handle = self._loop.call_at(self._at, self._look)

    def _look(self) -> None:
        self._handle = None
        self._at = math.inf
        if self._ends - self._loop.time() <= TICK:
            self._ends = math.inf
            self._late()
        elif self._ends < math.inf:
            self._set()


def _nothing() -> None:
    pass
