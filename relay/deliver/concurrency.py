"""What a worker knows of each next hop: how many transactions it may have at once, and whether it can be reached.

A next hop begins with few places, and every answer wins it one more, so that hosts which accept a connection and then
say nothing hold little of what belongs to all; and it never has more than it leaves to others. A transaction that lasts
moves to the slow share of the places, and a next hop that answers no other one meanwhile starts new ones there only.
One that cannot be reached is tried once after each pause, and what fell due before such a try began shares its fate:
nothing is deferred for a next hop that was not tried since it was due.
Pure: the clock is passed in, in seconds since 1970.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from relay.deliver.concurrency_share import Place, Places
from relay.deliver.deadline import Bound
from relay.mail.outcome import Outcome
from relay.queue.change import is_ours

FIRST = 5  # transactions at once with a next hop that has not answered yet; Postfix initial_destination_concurrency
SLOW = 30.0  # seconds after which a transaction is slow: a busy server with a scanner answers in a few
LAGGING = 600.0  # seconds for which a next hop that has turned slow is taken to be so, unless it answers quickly
REMEMBERED = 10_000  # next hops without anything under way


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The last try that reached no host: when it began, and what it came to."""

    began: float
    outcome: Outcome


@dataclass(slots=True)
class _Hop:
    window: int
    active: int = 0
    proven: bool = False  # whether it has answered, and not been unreachable since
    answered: float = -math.inf
    quick_answers: int = 0
    lags_until: float = 0.0
    failure: Unreachable | None = None
    again: float = 0.0  # when it may be tried once more


class Hops:
    """The next hops of one worker, by `Delivery.hop`.

    Args:
        concurrency: transactions at once with one next hop that answers.
        total: transactions at once with all of them. Those that do not answer get half of it at most, slow ones a
            quarter, mail of our own a tenth.
        pause: seconds between two tries of one that cannot be reached.
    """

    def __init__(self, concurrency: int, total: int, pause: float) -> None:
        self._concurrency = concurrency
        self._first = min(FIRST, concurrency)
        self._unproven_places = max(1, total // 2)
        self._pause = pause
        self._hops: dict[str, _Hop] = {}
        self._all = Places(total, most=2 * total)
        ours = max(2, total // 10)  # one for a slow transaction, and one for the others
        self._ours = Places(ours, most=ours)
        self._unproven = 0  # transactions with next hops that have not answered

    @property
    def young(self) -> int:
        """Transactions under way that are not slow."""
        return self._all.young

    @property
    def free(self) -> int:
        """Places that are left for all next hops together."""
        return self._all.left(slow=False)

    @property
    def ours_wait(self) -> bool:
        """Whether mail of our own has no place left but among the slow ones."""
        return self._ours.left(slow=False) <= 0

    def room(self, hop: str, now: float) -> int:
        """How many more transactions a next hop may have; not negative."""
        return max(0, self._room(hop, now)[0])

    def refill(self, hop: str, now: float) -> int:
        """As `room`, but nothing until half of what the next hop may have is free: it is filled in one go."""
        room, places = self._room(hop, now)
        return room if room > 0 and (hop not in self._hops or 2 * room >= places) else 0

    def _room(self, hop: str, now: float) -> tuple[int, int]:
        """How many more transactions a next hop may have, less than none where it has too many, and how many in all
        while the others have theirs."""
        known = self._hops.get(hop) or _Hop(self._first)
        slow = _is_lagging(known, now)
        left = [(share.left(slow=slow), share.reserve(slow=slow)) for share in self._shares(hop)]
        if not known.proven:
            left.append((self._unproven_places - self._unproven, self._unproven_places // 4))
        places = self._places(known, now)
        if not _is_configured(hop):  # it leaves as many to others as it has, and the reserve to those that have none
            spare = min(free - reserve for free, reserve in left)
            places = min(places, max(1, (spare + known.active + 1) // 2))
        return min(places - known.active, min(free for free, _ in left)), places

    def _shares(self, hop: str) -> tuple[Places, ...]:
        return (self._all, self._ours) if is_ours(hop) else (self._all,)

    def _places(self, known: _Hop, now: float) -> int:
        if known.failure is not None:
            paused = 0 < known.again - now <= self._pause  # else it is over, or the clock was put back
            return 0 if paused else 1
        # At its full width as many again wait for their turn, so that a place that falls free is taken at once.
        return known.window if known.window < self._concurrency else 2 * self._concurrency

    def failure(self, hop: str) -> Unreachable | None:
        """Why a next hop cannot be reached; None where it can, or nobody knows."""
        known = self._hops.get(hop)
        return None if known is None else known.failure

    def started(self, hop: str, now: float, bound: Bound | None = None) -> Place:
        """A transaction takes a place; `bound` is what it may be given up by."""
        known = self._hops.setdefault(hop, _Hop(self._first))
        place = Place(hop, bound or Bound(), _is_lagging(known, now), known.quick_answers)
        known.active += 1
        self._unproven += not known.proven
        for share in self._shares(hop):
            share.add(place)
        return place

    def slowed(self, place: Place, now: float) -> list[Place]:
        """A transaction has lasted `SLOW` seconds. Returns those that are to be given up for it, perhaps itself."""
        if place.slow:
            return []
        known = self._hops[place.hop]
        if known.quick_answers == place.quick_answers:  # it has answered nobody else since, either
            known.lags_until, known.window = now + LAGGING, 1
        shares = self._shares(place.hop)
        for share in shares:
            share.turn_slow(place)
        place.slow = True
        given_up = []
        for share in shares:
            victim = share.one_too_many()
            if victim is not None:
                given_up.append(victim)
                for each in self._shares(victim.hop):
                    each.remove(victim)
        return given_up

    def released(self, place: Place) -> None:
        """A place is given back that nothing was done with."""
        known = self._hops[place.hop]
        known.active -= 1
        self._unproven -= not known.proven
        for share in self._shares(place.hop):
            share.remove(place)
        if not known.active:
            self._hops[place.hop] = self._hops.pop(place.hop)
            self._forget_some()

    def ended(self, place: Place, began: float, now: float, outcomes: Sequence[Outcome]) -> None:
        """A transaction gives its place back. What it came to may say something of its next hop."""
        known = self._hops[place.hop]
        if any(one.remote or one.status != "deferred" for one in outcomes if not one.unreachable):
            self._has_answered(known, now, quickly=now - began < SLOW)
        elif outcomes and outcomes[0].unreachable:
            self._was_unreachable(known, Unreachable(began, outcomes[0]), now)
        self.released(place)

    def _has_answered(self, known: _Hop, now: float, *, quickly: bool) -> None:
        self._prove(known, True)
        known.window = self._first if known.failure is not None else min(known.window + 1, self._concurrency)
        known.failure = None
        known.answered = now
        if quickly:
            known.quick_answers += 1
            known.lags_until = 0.0

    def _was_unreachable(self, known: _Hop, failure: Unreachable, now: float) -> None:
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


def _is_lagging(known: _Hop, now: float) -> bool:
    return 0 < known.lags_until - now <= LAGGING  # else it is over, or the clock was put back


def _is_configured(hop: str) -> bool:
    """Whether it is a URL of the configuration, and no domain that a stranger may have chosen."""
    return "://" in hop
