"""Decides about each new message whether it is attempted at once, waits in memory for a place, or is left to the queue.

A new message is leased as it is stored, so that no other worker attempts it. Recipients at several next hops are
decided about one by one: those whose next hop has a place do not wait for the others.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from relay.deliver.destination_limits import Kept
from relay.deliver.rooms import Rooms
from relay.deliver.underway import Underway
from relay.deliver.waiting_messages import WaitingMessage, WaitingMessages, octets_of
from relay.queue.store import Delivery, StoredMessage

Begin = Callable[[StoredMessage, Sequence[Delivery], Kept | None], None]


class _Decision(NamedTuple):
    """What was decided about a message that is being stored.

    Attributes:
        kept: shares for the transactions that begin at once.
        waits: the next hops that its deliveries wait for in memory, with the octets that are reserved there.
        left: the next hops whose deliveries are left to the queue.
    """

    kept: Kept
    waits: Mapping[str, int]
    left: Collection[str]


class NewMessages:
    """The new messages of one worker.

    Args:
        owner, lease: the name of the worker in its leases, and the seconds that they last.
        begin: begins an attempt at deliveries of a message (`deliver.dispatcher`).
        wake: set where the queue is to be looked at.

    Attributes:
        lines: those that wait.
        token: of the first lease of each delivery, which it gets only once.
    """

    def __init__(
        self,
        owner: str,
        lease: float,
        rooms: Rooms,
        lines: WaitingMessages,
        underway: Underway,
        begin: Begin,
        wake: asyncio.Event,
    ) -> None:
        self._owner = owner
        self._lease = lease
        self.token = secrets.randbits(62)
        self._rooms = rooms
        self.lines = lines
        self._underway = underway
        self._begin = begin
        self._wake = wake
        self._decisions: dict[int, _Decision] = {}

    def lease_at_once(self, deliveries: Sequence[Delivery], octets: int) -> list[Delivery]:
        """The deliveries of a new message, those leased by this worker that are attempted from memory: at once, or when
        they have waited for a place. The others are due in the queue, where their next hops have to be looked for.
        Empty where none is leased.

        They are not stored yet; `take` follows once they are, or `leave` where they could not be.
        """
        rooms, hops = self._rooms, Counter([delivery.hop for delivery in deliveries])
        if rooms.free < len(hops) or not self._underway.room_for(octets):
            rooms.starved = True
            return []
        now, kept = time.time(), Kept()
        waits: dict[str, int] = {}
        left: set[str] = set()
        for hop, recipients in hops.items():
            if hop not in self.lines and rooms.at_once(hop, kept, now):
                continue
            taken = octets_of(octets, recipients)
            if rooms.may_line_up(hop, now) and self.lines.reserve(hop, taken):
                waits[hop] = taken
            else:
                rooms.let_wait(hop)
                left.add(hop)
        if left and rooms.has_open_table(left, now):
            self._wake.set()
        if len(left) == len(hops):
            return []
        if kept or waits or left:
            self._decisions[deliveries[0].message_id] = _Decision(kept, waits, left)
        until = now + self._lease
        return [each if each.hop in left else self.leased(each, until) for each in deliveries]

    def leased(self, delivery: Delivery, until: float) -> Delivery:
        """A delivery that is not in the queue yet as it is stored now, leased by this worker."""
        return replace(delivery, lease_owner=self._owner, lease_token=self.token, next_attempt=until)

    def leave(self, message_id: int) -> None:
        """Forget a message that was leased and could not be stored."""
        if decision := self._decisions.pop(message_id, None):
            decision.kept.refund()
            for hop, octets in decision.waits.items():
                self.lines.free(hop, octets)

    def take(self, stored: StoredMessage, deliveries: Sequence[Delivery]) -> bool:
        """Do what was decided about a message, which is stored now. Returns False, and does nothing, where that is to
        attempt all of it at once.

        Args:
            deliveries: what `lease_at_once` has returned.
        """
        decision = self._decisions.pop(stored.id, None)
        if decision is None:
            return False
        kept, waits, left = decision
        at_once: list[Delivery] = []
        waiting: dict[str, list[Delivery]] = {hop: [] for hop in waits}
        for each in deliveries:
            if each.hop not in left:
                waiting.get(each.hop, at_once).append(each)
        if at_once:
            self._begin(stored, at_once, kept)
        kept.refund()
        for hop, later in waiting.items():
            self.lines.add(hop, WaitingMessage(stored, later, later[0].next_attempt - self._lease))
            self.begin_waiting(hop, time.time())
        return True

    def look(self) -> None:
        """Attempt messages that wait in memory, where there are places that messages to other next hops have left."""
        now = time.time()
        for hop in self.lines.hops:
            self.begin_waiting(hop, now)

    def queue_had_turn(self, hop: str, transactions: int) -> None:
        """Let as many messages begin from memory now as have begun from the queue."""
        if hop in self.lines:
            self.lines.queue_had_turn(hop, transactions)
            self.begin_waiting(hop, time.time())

    def begin_waiting(self, hop: str, now: float) -> None:
        """Attempt messages that wait in memory for a next hop, as far as it has places. What is due in the queue and
        has no room at all goes first."""
        rooms, underway = self._rooms, self._underway
        while not (rooms.starved or underway.full) and rooms.may_have_line(hop) and rooms.has_place(hop, now):
            message = self.lines.next(hop, now, queue_waits=hop in rooms.waiting)
            if message is None:
                return
            self._begin(message.stored, message.deliveries, None)
