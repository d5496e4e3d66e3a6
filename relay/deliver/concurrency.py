"""How many transactions each next hop may have at once, and which next hops cannot be reached.

A next hop begins with few places and gets one more with every answer, so that hosts that accept connections and then
stay silent take few of the places that all share. It never has more than it leaves free for others. A slow transaction
moves to the slow places; if its next hop has answered no other one meanwhile, its new transactions start there, too.
A next hop that cannot be reached is tried once after each pause. Deliveries that were due before such a try began share
its outcome; no delivery is deferred without a try after it was due.
Pure: the clock is passed in, in seconds since 1970.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from relay.deliver.deadline import Deadline
from relay.deliver.places import Place, Places
from relay.mail.outcome import Outcome
from relay.queue.change import is_own_hop

FIRST = 5  # transactions at once with a next hop that has not answered yet; Postfix initial_destination_concurrency
SLOW = 30.0  # seconds after which a transaction is slow: a busy server with a scanner answers in a few
LAGGING = 600.0  # seconds for which a next hop counts as slow, unless it answers quickly
REMEMBERED = 10_000  # next hops without a transaction


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The last try that reached no host of a next hop: when it began, and its outcome."""

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
    unreachable: Unreachable | None = None
    next_try: float = 0.0  # when it may be tried once more


class HopConcurrency:
    """The next hops of one worker, by `Delivery.hop`.

    Args:
        concurrency: transactions at once with one next hop that answers.
        total: transactions at once with all of them. Next hops that have not answered get half of it at most, slow
            transactions a quarter, own messages a tenth.
        pause: seconds between two tries of a next hop that cannot be reached.
    """

    def __init__(self, concurrency: int, total: int, pause: float) -> None:
        self._concurrency = concurrency
        self._first = min(FIRST, concurrency)
        self._unproven_places = max(1, total // 2)
        self._pause = pause
        self._hops: dict[str, _Hop] = {}
        self._all = Places(total, most=2 * total)
        ours = max(2, total // 10)  # at least one for a slow transaction, and one for the others
        self._ours = Places(ours, most=ours)
        self._unproven = 0  # transactions with next hops that have not answered

    @property
    def young(self) -> int:
        """Transactions under way that are not slow."""
        return self._all.young

    @property
    def free(self) -> int:
        """Free places, for all next hops together."""
        return self._all.left(slow=False)

    @property
    def ours_wait(self) -> bool:
        """Whether own messages have no place left except the slow ones."""
        return self._ours.left(slow=False) <= 0

    def room(self, hop: str, now: float) -> int:
        """How many more transactions a next hop may have; not negative."""
        return max(0, self._room(hop, now)[0])

    def refill(self, hop: str, now: float) -> int:
        """As `room`, but 0 until half of the places of the next hop are free: they are filled in one go."""
        room, places = self._room(hop, now)
        return room if room > 0 and (hop not in self._hops or 2 * room >= places) else 0

    def _room(self, hop: str, now: float) -> tuple[int, int]:
        """How many more transactions a next hop may have (negative where it has too many), and how many in all."""
        state = self._hops.get(hop) or _Hop(self._first)
        slow = _is_lagging(state, now)
        left = [(places.left(slow=slow), places.reserve(slow=slow)) for places in self._places_for(hop)]
        if not state.proven:
            left.append((self._unproven_places - self._unproven, self._unproven_places // 4))
        most = self._most(state, now)
        if not _is_configured(hop):  # it leaves as many to others as it has, and the reserve to those that have none
            spare = min(free - reserve for free, reserve in left)
            most = min(most, max(1, (spare + state.active + 1) // 2))
        return min(most - state.active, min(free for free, _ in left)), most

    def _places_for(self, hop: str) -> tuple[Places, ...]:
        return (self._all, self._ours) if is_own_hop(hop) else (self._all,)

    def _most(self, state: _Hop, now: float) -> int:
        """How many transactions a next hop may have by its own record."""
        if state.unreachable is not None:
            paused = 0 < state.next_try - now <= self._pause  # else it is over, or the clock was put back
            return 0 if paused else 1
        # At its full width as many again wait for their turn, so that a place that falls free is taken at once.
        return state.window if state.window < self._concurrency else 2 * self._concurrency

    def answered_since(self, hop: str, moment: float) -> bool:
        """Whether a next hop has answered at or after a moment, and was not unreachable since."""
        state = self._hops.get(hop)
        return state is not None and state.proven and state.answered >= moment

    def failure(self, hop: str) -> Unreachable | None:
        """The try that found a next hop unreachable; None where it can be reached, or was not tried."""
        state = self._hops.get(hop)
        return None if state is None else state.unreachable

    def started(self, hop: str, now: float, bound: Deadline | None = None) -> Place:
        """Take a place for a transaction; `bound` is its time limit."""
        state = self._hops.setdefault(hop, _Hop(self._first))
        place = Place(hop, bound or Deadline(), _is_lagging(state, now), state.quick_answers)
        state.active += 1
        self._unproven += not state.proven
        for places in self._places_for(hop):
            places.add(place)
        return place

    def slowed(self, place: Place, now: float) -> list[Place]:
        """Move a transaction that has lasted `SLOW` seconds to the slow places.

        Returns:
            The transactions to give up for it, perhaps itself.
        """
        if place.slow:
            return []
        state = self._hops[place.hop]
        if state.quick_answers == place.quick_answers:  # no quick answer to any other transaction since
            state.lags_until, state.window = now + LAGGING, 1
        for places in self._places_for(place.hop):
            places.turn_slow(place)
        place.slow = True
        given_up = []
        for places in self._places_for(place.hop):
            excess = places.excess()
            if excess is not None:
                given_up.append(excess)
                for held_in in self._places_for(excess.hop):
                    held_in.remove(excess)
        return given_up

    def released(self, place: Place) -> None:
        """Give a place back without an outcome."""
        state = self._hops[place.hop]
        state.active -= 1
        self._unproven -= not state.proven
        for places in self._places_for(place.hop):
            places.remove(place)
        if not state.active:
            self._hops[place.hop] = self._hops.pop(place.hop)
            self._forget_some()

    def ended(self, place: Place, began: float, now: float, outcomes: Sequence[Outcome]) -> None:
        """Give a place back, and note what the outcomes say about the next hop."""
        state = self._hops[place.hop]
        if any(outcome.remote or outcome.status != "deferred" for outcome in outcomes if not outcome.unreachable):
            self._has_answered(state, now, quickly=now - began < SLOW)
        elif outcomes and outcomes[0].unreachable:
            self._was_unreachable(state, Unreachable(began, outcomes[0]), now)
        self.released(place)

    def _has_answered(self, state: _Hop, now: float, *, quickly: bool) -> None:
        self._set_proven(state, True)
        state.window = self._first if state.unreachable is not None else min(state.window + 1, self._concurrency)
        state.unreachable = None
        state.answered = now
        if quickly:
            state.quick_answers += 1
            state.lags_until = 0.0

    def _was_unreachable(self, state: _Hop, unreachable: Unreachable, now: float) -> None:
        """Pause the next hop; where it has answered meanwhile, it only takes fewer connections at once than we had."""
        if state.answered > unreachable.began:
            state.window = max(1, state.window // 2)
            return
        self._set_proven(state, False)
        if state.unreachable is None or state.unreachable.began < unreachable.began:
            state.unreachable = unreachable
        state.next_try = now + self._pause

    def _set_proven(self, state: _Hop, proven: bool) -> None:
        self._unproven += state.active * (state.proven - proven)
        state.proven = proven

    def _forget_some(self) -> None:
        """Forget the next hops that were unused for longest, which stand first."""
        while len(self._hops) > REMEMBERED:
            oldest = next(iter(self._hops))
            if self._hops[oldest].active:
                return
            del self._hops[oldest]


def _is_lagging(state: _Hop, now: float) -> bool:
    return 0 < state.lags_until - now <= LAGGING  # else it is over, or the clock was put back


def _is_configured(hop: str) -> bool:
    """Whether it is a URL of the configuration, not a domain that a stranger may have chosen."""
    return "://" in hop
