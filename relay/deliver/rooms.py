"""Which next hop may have one more transaction now: by its places, and by the table that limits it.

A next hop without room waits. Domains that share a table go in turn, and none of them goes before those that wait.
Pure: the clock is passed in, in seconds since 1970.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from relay.deliver.attempts import RECIPIENTS
from relay.deliver.concurrency import HopConcurrency
from relay.deliver.destination_limits import DestinationLimits, Kept
from relay.deliver.next_hop_health import LATELY, Failure
from relay.deliver.places import Place
from relay.deliver.waiting_hops import WaitingHops
from relay.queue.store import Due


class Choice:
    """Deliveries to lease. Those of one message to one next hop share a transaction.

    Attributes:
        due: the deliveries.
        transactions: how many they are.
        places: the places of their transactions, by message.
        kept: a share for each transaction that a table limits.
    """

    def __init__(self) -> None:
        self.due: list[Due] = []
        self.transactions = 0
        self.places: dict[int, list[Place]] = {}
        self.kept = Kept()
        self._recipients: Counter[tuple[int, str]] = Counter()

    def shares_transaction(self, due: Due) -> bool:
        """Whether a transaction was begun that a delivery can share."""
        return self._recipients[due.message_id, due.hop] % RECIPIENTS > 0

    def add(self, due: Due, place: Place | None = None) -> None:
        """Add a delivery, with the place of its transaction where it begins one."""
        self._recipients[due.message_id, due.hop] += 1
        self.due.append(due)
        if place is not None:
            self.transactions += 1
            self.places.setdefault(due.message_id, []).append(place)


class Rooms:
    """The room of one worker.

    Args:
        hops: the places of every next hop.
        limits: the numbers of `[[delivery.destinations]]`.

    Attributes:
        waiting: the next hops that have none.
        starved: whether a delivery is due that there is no room for, whatever its next hop.
    """

    def __init__(self, hops: HopConcurrency, limits: DestinationLimits) -> None:
        self._hops = hops
        self._limits = limits
        self.waiting = WaitingHops()
        self.starved = False

    @property
    def free(self) -> int:
        """Free places, for all next hops together."""
        return self._hops.free

    def failure(self, hop: str) -> Failure | None:
        """The try that failed a next hop as a whole; None while it is well."""
        return self._hops.failure(hop)

    def at_once(self, hop: str, kept: Kept, now: float) -> bool:
        """Whether a new message may begin a transaction with a next hop; the share that it needs is added to `kept`."""
        # A next hop that is in trouble gets one try at a time, of a delivery that is in the queue already.
        return self.is_well(hop) and self._admits(hop, kept, now)

    def is_well(self, hop: str) -> bool:
        """Whether the last try did not fail a next hop as a whole."""
        return self._hops.failure(hop) is None

    def has_place(self, hop: str, now: float) -> bool:
        """Whether a next hop that no table limits may have one more transaction, whatever waits for it."""
        return self._hops.has_room(hop, now)

    def may_have_line(self, hop: str) -> bool:
        """Whether new messages may wait for a place in the memory of this worker: their next hop is well, and no table
        limits it. Whose turn it is at a table is for all workers to say, so that its mail waits in the queue."""
        return self.is_well(hop) and self._limits.of(hop) is None

    def may_line_up(self, hop: str, now: float) -> bool:
        """Whether one more new message may wait: its next hop has answered lately besides."""
        return self.may_have_line(hop) and self._hops.answered_since(hop, now - LATELY)

    def choose(self, due: Due, choice: Choice, now: float, *, has_turn: bool = False) -> bool:
        """Choose a delivery, where there is room for its transaction; otherwise its next hop waits.

        Args:
            has_turn: whether its next hop waits, and it is its turn.
        """
        if choice.shares_transaction(due):
            choice.add(due)
        elif self._admits(due.hop, choice.kept, now, has_turn=has_turn):
            choice.add(due, self._hops.started(due.hop, now))
        else:
            self.let_wait(due.hop)
            return False
        return True

    def give_back(self, choice: Choice, message_id: int) -> None:
        """Give back the places that were kept for a message: its attempt takes its own now."""
        for place in choice.places.pop(message_id, ()):
            self._hops.released(place)

    def give_all_back(self, choice: Choice) -> None:
        """Give back the places and shares of a choice that nobody has used."""
        for message_id in tuple(choice.places):
            self.give_back(choice, message_id)
        choice.kept.refund()

    def _admits(self, hop: str, kept: Kept, now: float, *, has_turn: bool = False) -> bool:
        """Whether a next hop has a place, by its turn or because nothing waits, and a share where a table limits it."""
        if not has_turn and (hop in self.waiting or not self._hops.has_room(hop, now)):
            return False
        table = self._limits.of(hop)
        if table is None:
            return True
        if not has_turn and self.waiting.count(table.name):
            return False
        share = self._limits.take(table, now)
        if share is not None:
            kept.add(hop, share)
        return share is not None

    def let_wait(self, hop: str) -> None:
        """Let a next hop wait for room."""
        table = self._limits.of(hop)
        self.waiting.add(hop, "" if table is None else table.name)

    def for_waiting(self, hop: str, now: float) -> int:
        """How many transactions with a next hop that waits may begin in one go; 0 where its table says whose turn it
        is."""
        if self._limits.of(hop) is None:
            return self._hops.refill(hop, now)
        self.let_wait(hop)  # the table may not have been known when it began to wait
        return 0

    def in_turn(self, table: str, now: float) -> Iterator[tuple[str, int]]:
        """The next hops that wait for a table and how many transactions each may begin, while the table has room."""
        each = 0
        for hop in self.waiting.turns(table):
            destination = self._limits.of(hop)
            if destination is None or destination.name != table:
                self.let_wait(hop)  # its MX hosts have changed
                continue
            room = self._limits.room(destination, now)
            if not room:
                return
            each = each or max(1, room // self.waiting.count(table))
            yield hop, min(each, room, self._hops.room(hop, now))

    def has_open_table(self, hops: Collection[str], now: float) -> bool:
        """Whether the table of one of these next hops has room, although they have to wait for their turn."""
        tables = (self._limits.of(hop) for hop in hops)
        return any(table is not None and self._limits.room(table, now) > 0 for table in tables)

    def may_begin_waiting(self, hop: str, now: float) -> bool:
        """Whether a transaction that is over leaves room for one that waits: for the same next hop, or the same
        table."""
        table = self._limits.of(hop)
        if table is not None:
            return self.waiting.count(table.name) > 0
        if hop in self.waiting and self._hops.refill(hop, now):
            self.waiting.look_first(hop)
            return True
        return False

    def opens(self, now: float) -> float | None:
        """When the rate of a table allows a message that waits for that; None where none does."""
        times = (self._limits.opens(table, now) for table in self.waiting.tables)
        return min((when for when in times if when is not None), default=None)
