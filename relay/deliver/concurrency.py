"""How many transactions each next hop may have at once.

A next hop begins with few places and gets one more with every answer, so that hosts that accept connections and then
stay silent take few of the places that all share. It never has more than it leaves free for others. A slow transaction
moves to the slow places; if its next hop has answered no other one meanwhile, its new transactions start there, too.
A next hop that cannot be reached, or refuses us, is tried once after each pause (`relay.deliver.next_hop_health`).
Deliveries that were due before such a try began share its outcome; none is deferred without a try after it was due.
Pure: the clock is passed in, in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.deliver.deadline import Deadline
from relay.deliver.next_hop_health import Failure, NextHopHealth, Resumed, Suspended
from relay.deliver.places import Place, Places
from relay.deliver.shaping import Group, Recovered, Shaped, Shaping
from relay.mail.outcome import Outcome
from relay.queue.hop_keys import is_own_hop, is_url, peer

FIRST = 5  # transactions at once with a next hop that has not answered yet; Postfix initial_destination_concurrency
SLOW = 30.0  # seconds after which a transaction is slow: a busy server with a scanner answers in a few
LAGGING = 600.0  # seconds for which a next hop counts as slow, unless it answers quickly
REMEMBERED = 10_000  # next hops without a transaction


@dataclass(slots=True)
class _Hop:
    window: int
    health: NextHopHealth
    full: int  # transactions at once where it answers
    places: tuple[Places, ...]  # that these take
    is_configured: bool
    active: int = 0
    proven: bool = False  # whether it has answered, and not been unreachable since
    quick_answers: int = 0
    lags_until: float = 0.0
    group: Group | None = None  # that its transactions under way are counted in

    @property
    def waiting(self) -> int:
        """How many of its transactions wait for a connection, since the others have all that there may be."""
        return max(0, self.active - self.full)


Event = Suspended | Resumed | Shaped | Recovered
"""What the end of a transaction has shown about its next hop, or its provider."""


class HopConcurrency:
    """The next hops of one worker, by `Delivery.hop`.

    Args:
        concurrency: transactions at once with a next hop that answers, by its key.
        total: transactions at once with all of them. Next hops that have not answered get half of it at most, slow
            transactions a quarter, own messages a tenth.
        pause: seconds between two tries of a next hop that cannot be reached.
        shaping: what replies have said of the speed of mail to a next hop, or its provider.

    Attributes:
        suspended: next hops that refuse us.
    """

    def __init__(
        self, concurrency: Callable[[str], int], total: int, pause: float, shaping: Shaping | None = None
    ) -> None:
        self.suspended = 0
        self.shaping = shaping or Shaping()
        self._concurrency = concurrency
        self._unproven_places = max(1, total // 2)
        self._pause = pause
        self._hops: dict[str, _Hop] = {}
        self._health: dict[str, NextHopHealth] = {}  # by the next hop that is shown
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

    def has_room(self, hop: str, now: float) -> bool:
        """Whether a next hop may have one more transaction."""
        return self._room(hop, now)[0] > 0

    def room(self, hop: str, now: float) -> int:
        """How many more transactions a next hop may have; not negative."""
        return max(0, self._room(hop, now)[0])

    def refill(self, hop: str, now: float) -> int:
        """As `room`, but 0 until half of the places of the next hop are free: they are filled in one go."""
        room, places = self._room(hop, now)
        return room if room > 0 and (hop not in self._hops or 2 * room >= places) else 0

    def _room(self, hop: str, now: float) -> tuple[int, int]:
        """How many more transactions a next hop may have (negative where it has too many), and how many in all."""
        state = self._hops.get(hop) or self._new(hop)
        slow = _is_lagging(state, now)
        free = min([places.left(slow=slow) for places in state.places])
        most = self._most(state, now)
        if not state.proven:
            free = min(free, self._unproven_places - self._unproven)
        if not state.is_configured:  # it leaves as many to others as it has, and the reserve to those that have none
            spare = self._spare(state, slow)
            most = min(most, max(1, (spare + state.active + 1) // 2))
        shaped = self.shaping.room(hop, now)
        if shaped is not None:
            return min(most - state.active, free, shaped), min(most, max(1, shaped))
        return min(most - state.active, free), most

    def _spare(self, state: _Hop, slow: bool) -> int:
        """Free places beyond the reserve."""
        spare = min([places.left(slow=slow) - places.reserve(slow=slow) for places in state.places])
        if state.proven:
            return spare
        return min(spare, self._unproven_places - self._unproven - self._unproven_places // 4)

    def _most(self, state: _Hop, now: float) -> int:
        """How many transactions a next hop may have by its own record."""
        tries = state.health.tries(now)
        if tries is not None:
            return state.active + tries
        # At its full width as many again wait for their turn, so that a place that falls free is taken at once.
        return state.window if state.window < state.full else 2 * state.full

    def _new(self, hop: str) -> _Hop:
        """A next hop of which only its health may be known."""
        full = self._concurrency(hop)
        return _Hop(
            min(FIRST, full),
            self._health.get(peer(hop)) or NextHopHealth(),
            full,
            (self._all, self._ours) if is_own_hop(hop) else (self._all,),
            is_url(hop),
        )

    def failure(self, hop: str) -> Failure | None:
        """The try that failed a next hop as a whole; None where it is well, or was not tried."""
        health = self._health.get(peer(hop))
        failure = None if health is None else health.failure
        return failure or self.shaping.failure(hop)

    def is_paused(self, hop: str, now: float) -> bool:
        """Whether a reply has paused the group of a next hop."""
        group = self.shaping.group_of(hop)
        return group is not None and group.is_paused(now)

    def answered_since(self, hop: str, moment: float) -> bool:
        """Whether a next hop has answered at or after a moment, and is well."""
        health = self._health.get(peer(hop))
        return health is not None and health.answered_since(moment)

    def started(self, hop: str, now: float, bound: Deadline | None = None) -> Place:
        """Take a place for a transaction; `bound` is its time limit."""
        state = self._hops.get(hop) or self._remember(hop)
        place = Place(hop, bound or Deadline(), _is_lagging(state, now), state.quick_answers)
        self._count_in(state, self.shaping.group_of(hop))
        state.active += 1
        if state.group is not None:
            state.group.active += 1
            state.group.waiting += state.active > state.full
            state.group.pay(now)
        state.health.active += 1
        self._unproven += not state.proven
        for places in state.places:
            places.add(place)
        return place

    def _count_in(self, state: _Hop, group: Group | None) -> None:
        """Count the transactions of a next hop in its group, which may have become known."""
        if state.group is group:
            return
        if state.group is not None:
            state.group.active -= state.active
            state.group.waiting -= state.waiting
        if group is not None:
            group.active += state.active
            group.waiting += state.waiting
        state.group = group

    def _remember(self, hop: str) -> _Hop:
        state = self._hops[hop] = self._new(hop)
        self._health[peer(hop)] = state.health
        state.health.keys += 1
        return state

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
        for places in state.places:
            places.turn_slow(place)
        place.slow = True
        given_up = []
        for places in state.places:
            excess = places.excess()
            if excess is not None:
                given_up.append(excess)
                for held_in in self._hops[excess.hop].places:
                    held_in.remove(excess)
        return given_up

    def released(self, place: Place) -> None:
        """Give a place back without an outcome."""
        group = self._hops[place.hop].group
        if group is not None:
            group.refund()
        self._free(place)

    def _free(self, place: Place) -> None:
        state = self._hops[place.hop]
        if state.group is not None:
            state.group.active -= 1
            state.group.waiting -= state.active > state.full
        state.active -= 1
        state.health.active -= 1
        self._unproven -= not state.proven
        for places in state.places:
            places.remove(place)
        if not state.active:
            self._hops[place.hop] = self._hops.pop(place.hop)
            self._forget_some()

    def ended(
        self, place: Place, began: float, now: float, outcomes: Sequence[Outcome], sender: str = ""
    ) -> Sequence[Event]:
        """Give a place back, and note what the outcomes say about the next hop. Returns what that has changed.

        Args:
            sender: empty for the null sender.
        """
        state = self._hops[place.hop]
        was_well = state.health.failure is None
        verdict, event = state.health.note(began, now, outcomes, sender, self._pause)
        match verdict:
            case "answers" | "refuses":
                self._set_proven(state, True)
                if not was_well:
                    state.window = min(FIRST, state.full)
                elif verdict == "answers" and state.window < state.full:
                    state.window += 1
                if now - began < SLOW:
                    state.quick_answers += 1
                    state.lags_until = 0.0
            case "is busy":  # it only takes fewer connections at once than we had
                state.window = max(1, state.window // 2)
            case "fails":
                self._set_proven(state, False)
        if event is not None:
            self.suspended += 1 if isinstance(event, Suspended) else -1
        learned = self.shaping.note(place.hop, began, now, outcomes, state.active - state.waiting)
        self._count_in(state, self.shaping.group_of(place.hop))
        self._free(place)
        return [each for each in (event, learned) if each is not None]

    def _set_proven(self, state: _Hop, proven: bool) -> None:
        self._unproven += state.active * (state.proven - proven)
        state.proven = proven

    def _forget_some(self) -> None:
        """Forget the next hops that were unused for longest, which stand first."""
        while len(self._hops) > REMEMBERED:
            oldest = next(iter(self._hops))
            if self._hops[oldest].active:
                return
            health = self._hops.pop(oldest).health
            health.keys -= 1
            if not health.keys:
                del self._health[peer(oldest)]
                self.suspended -= health.is_suspended


def _is_lagging(state: _Hop, now: float) -> bool:
    return 0 < state.lags_until - now <= LAGGING  # else it is over, or the clock was put back
