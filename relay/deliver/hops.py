"""What a worker knows of each next hop: how many transactions it may have at once, and whether it can be reached.

A next hop begins with few places, and every answer wins it one more, so that hosts which accept a connection and then
say nothing hold little of what belongs to all. One that cannot be reached is tried once after each pause, and what fell
due before such a try began shares its fate: nothing is deferred for a next hop that was not tried since it was due.
Pure: the clock is passed in, in seconds since 1970.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from relay.deliver.reply import Outcome

FIRST = 5  # transactions at once with a next hop that has not answered yet; Postfix initial_destination_concurrency
REMEMBERED = 10_000  # next hops without anything under way


@dataclass(frozen=True, slots=True)
class Failure:
    """The last try that reached no host: when it began, and what it came to."""

    began: float
    outcome: Outcome


@dataclass(slots=True)
class _Hop:
    window: int
    active: int = 0
    proven: bool = False  # whether it has answered, and not been unreachable since
    answered: float = -math.inf
    failure: Failure | None = None
    again: float = 0.0  # when it may be tried once more


class Hops:
    """The next hops of one worker, by `Delivery.hop`.

    Args:
        concurrency: transactions at once with one next hop that answers.
        total: transactions at once with all of them; those that do not answer get half of it at most.
        pause: seconds between two tries of one that cannot be reached.
    """

    def __init__(self, concurrency: int, total: int, pause: float) -> None:
        self._concurrency = concurrency
        self._first = min(FIRST, concurrency)
        self._total = total
        self._pause = pause
        self._hops: dict[str, _Hop] = {}
        self._active = 0
        self._unproven = 0  # of the active ones, those with next hops that have not answered

    @property
    def active(self) -> int:
        """Transactions under way."""
        return self._active

    @property
    def free(self) -> int:
        """Places that are left for all next hops together."""
        return self._total - self._active

    def room(self, hop: str, now: float) -> int:
        """How many more transactions a next hop may have; not negative."""
        known = self._hops.get(hop)
        if known is None:
            return max(0, min(self._first, self._left(proven=False)))
        return max(0, min(self._places(known, now) - known.active, self._left(known.proven)))

    def refill(self, hop: str, now: float) -> int:
        """As `room`, but nothing until half of the places are free: they are filled in one go."""
        known = self._hops.get(hop)
        room = self.room(hop, now)
        return room if known is None or 2 * room >= self._places(known, now) else 0

    def _left(self, proven: bool) -> int:
        return self.free if proven else min(self.free, max(1, self._total // 2) - self._unproven)

    def _places(self, known: _Hop, now: float) -> int:
        if known.failure is not None:
            paused = 0 < known.again - now <= self._pause  # else it is over, or the clock was put back
            return 0 if paused else 1
        # At its full width as many again wait for their turn, so that a place that falls free is taken at once.
        return known.window if known.window < self._concurrency else 2 * self._concurrency

    def failure(self, hop: str) -> Failure | None:
        """Why a next hop cannot be reached; None where it can, or nobody knows."""
        known = self._hops.get(hop)
        return None if known is None else known.failure

    def started(self, hop: str) -> None:
        """A transaction takes a place."""
        known = self._hops.setdefault(hop, _Hop(self._first))
        known.active += 1
        self._active += 1
        self._unproven += not known.proven

    def ended(self, hop: str, began: float, now: float, outcomes: Sequence[Outcome]) -> None:
        """A transaction gives its place back. What it came to may say something of its next hop."""
        known = self._hops[hop]
        known.active -= 1
        self._active -= 1
        self._unproven -= not known.proven
        if any(one.remote or one.status != "deferred" for one in outcomes if not one.unreachable):
            self._has_answered(known, now)
        elif outcomes and outcomes[0].unreachable:
            self._was_unreachable(known, Failure(began, outcomes[0]), now)
        if not known.active:
            self._hops[hop] = self._hops.pop(hop)
            self._forget_some()

    def _has_answered(self, known: _Hop, now: float) -> None:
        self._prove(known, True)
        known.window = self._first if known.failure is not None else min(known.window + 1, self._concurrency)
        known.failure = None
        known.answered = now

    def _was_unreachable(self, known: _Hop, failure: Failure, now: float) -> None:
        """While others get through, a server only takes fewer connections at once than we had."""
        if known.answered > failure.began:
            known.window = max(1, known.window // 2)
            return
        self._prove(known, False)
        if known.failure is None or known.failure.began < failure.began:
            known.failure = failure
        known.again = now + self._pause

    def _prove(self, known: _Hop, proven: bool) -> None:
        self._unproven += known.active * (known.proven - proven)
        known.proven = proven

    def _forget_some(self) -> None:
        """The ones that nothing was sent to for longest stand first."""
        while len(self._hops) > REMEMBERED:
            oldest = next(iter(self._hops))
            if self._hops[oldest].active:
                return
            del self._hops[oldest]
