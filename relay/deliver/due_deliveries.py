"""Finds the deliveries that are due and have room, leases them, and hands them over to be attempted.

A next hop without room is passed over: its deliveries are fetched by its key once there is room again. Those that were
due before a try that failed their next hop as a whole share its outcome.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from relay.deliver.attempts import RECIPIENTS
from relay.deliver.current_hops import CurrentHops
from relay.deliver.destination_limits import DestinationLimits, Kept
from relay.deliver.held_leases import HeldLeases
from relay.deliver.new_messages import NewMessages
from relay.deliver.queue_reader import PAGE, QueueReader
from relay.deliver.recorder import Observer, Recorder
from relay.deliver.rooms import Choice, Rooms
from relay.deliver.shaping import Shaping
from relay.deliver.underway import Underway
from relay.queue.store import Delivery, Due, Store, StoredMessage

PAUSE = 0.1  # seconds
MISSED = 60.0  # seconds until those are looked for that could not be leased, perhaps because somebody failed to do so
SHARED = 100  # deliveries deferred in one go by the outcome of another's try at their next hop
CHECK = 1.0  # seconds between looks at whether what waits in memory was held or dropped meanwhile
TOGETHER = 16  # small messages loaded in one go, which are beyond the limit of memory until their turn: at most 1 MiB


class Attempter(Observer, Protocol):
    """Attempts what was leased (`deliver.dispatcher`)."""

    def take(self, stored: StoredMessage, deliveries: Sequence[Delivery], kept: Kept | None = None) -> None: ...


class DueDeliveries:
    """The deliveries of the queue that are due, for one worker."""

    def __init__(
        self,
        store: Store,
        rooms: Rooms,
        new: NewMessages,
        underway: Underway,
        leases: HeldLeases,
        limits: DestinationLimits,
        current_hops: CurrentHops,
        shaping: Shaping,
        recorder: Recorder,
        attempter: Attempter,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._waiting = rooms.waiting
        self._new = new
        self._underway = underway
        self._leases = leases
        self._limits = limits
        self._current_hops = current_hops
        self._shaping = shaping
        self._recorder = recorder
        self._attempter = attempter
        self._reader = QueueReader(store)
        self._look_at_all_at = 0.0
        self._missed: dict[str, float] = {}  # next hops of those that could not be leased, and when to look for them
        self._check_at = 0.0

    def begin_anew(self) -> None:
        """Begin the next look at the beginning of the queue."""
        self._reader.begin_anew()

    def look_at_all(self) -> None:
        """Leave nothing out in the next look."""
        self._look_at_all_at = 0.0

    async def look(self) -> bool:
        """Look at the queue once. Returns whether another look right away may find more.

        What has room again is looked at each time. For the rest, which may be hundreds of next hops, the pause is
        `PAUSE`, unless something is known to be due.
        """
        now, more = time.monotonic(), False
        at_all = self._rooms.starved or now >= self._look_at_all_at
        if at_all:
            self._look_at_all_at = now + PAUSE
        await self.put_back(self._new.lines.leaving(time.time(), self._rooms.may_have_line))
        self._look_for_missed(now)
        if now >= self._check_at and self._new.lines.hops:
            self._check_at = now + CHECK
            await self._put_back_changed()
        turns = self._waiting.take_turns(others=at_all)
        self._shaping.find_out(turns)
        for hop in turns:
            more = await self._share_failure(hop) or more
            await self._begin_waiting(hop, self._rooms.for_waiting(hop, time.time()))
        for table in self._waiting.tables:
            for hop, room in self._rooms.in_turn(table, time.time()):
                await self._begin_waiting(hop, room)
        self._rooms.starved = not self._has_space
        if self._rooms.starved or not at_all:
            return more
        page = await self._reader.page(time.time())
        await self._limits.find_out(due.hop for due in page if due.hop not in self._waiting)
        self._shaping.find_out(due.hop for due in page)
        await self._begin(await self._current_hops.of(page))
        if len(page) < PAGE or self._rooms.starved:
            return more
        self.look_at_all()
        return True

    def _look_for_missed(self, now: float) -> None:
        """Let the next hops wait of deliveries that could not be leased: the look at the queue has passed them."""
        for hop in [hop for hop, at in self._missed.items() if at <= now]:
            del self._missed[hop]
            self._rooms.let_wait(hop)

    @property
    def _has_space(self) -> bool:
        return self._rooms.free > 0 and not self._underway.full

    async def put_back(self, hops: Sequence[str]) -> None:
        """Leave the messages that wait in memory for these next hops to the queue, where they are due since they came.

        Raises:
            QueueUnavailable
        """
        waited: list[tuple[Sequence[Delivery], float]] = []
        for hop in hops:
            self._rooms.let_wait(hop)
            self._waiting.look_first(hop)  # if it has failed, they share that
            waited += [(message.deliveries, message.since) for message in self._new.lines.remove(hop)]
        if waited:
            await self._recorder.put_all_back(waited, self._attempter)

    async def _put_back_changed(self) -> None:
        """Leave messages to the queue that queue commands have held or dropped while they waited in memory."""
        waiting = self._new.lines.all()
        active = await self._store.active(self._new.token)
        changed = {d.message_id for message in waiting for d in message.deliveries if (d.message_id, d.n) not in active}
        waited = [(message.deliveries, message.since) for message in self._new.lines.remove_some(changed)]
        if waited:
            await self._recorder.put_all_back(waited, self._attempter)

    async def _share_failure(self, hop: str) -> bool:
        """Defer the deliveries that were due before a try that has failed their next hop as a whole. Returns whether
        there are more."""
        failure = self._rooms.failure(hop)
        if failure is None or failure.began <= self._waiting.deferred_up_to(hop):
            return False
        found = await self._store.due(failure.began, SHARED, hop=hop)
        if due := await self._still_for(hop, found):
            leased = await self._leases.lease(due)
            try:
                await self._recorder.share_outcome(leased, failure.outcome, self._attempter)
            finally:
                self._leases.let_go(leased)
        if len(found) == SHARED:
            self._waiting.look_first(hop)
            return True
        self._waiting.was_deferred(hop, failure.began)
        return False

    async def _still_for(self, hop: str, found: Sequence[Due]) -> list[Due]:
        """Those of the deliveries that still go to the next hop for which they were stored; the others wait for
        theirs."""
        current = await self._current_hops.of(found)
        for due in current:
            if due.hop != hop:
                self._rooms.let_wait(due.hop)
        return [due for due in current if due.hop == hop]

    async def _begin_waiting(self, hop: str, room: int) -> None:
        """Attempt up to `room` deliveries to a next hop that waits."""
        if not room or not self._has_space:
            return
        now = time.time()
        limit = room + RECIPIENTS  # those of one message may share a transaction
        found = await self._store.due(now, limit, hop=hop)
        choice = Choice()
        for due in await self._still_for(hop, found):
            if choice.transactions == room and not choice.shares_transaction(due):
                break
            if not self._rooms.choose(due, choice, now, has_turn=True):
                break
        else:
            if len(found) < limit:
                self._waiting.remove(hop)
        await self._claim(choice)
        self._new.queue_had_turn(hop, choice.transactions)

    async def _begin(self, page: Sequence[Due]) -> None:
        """Attempt the deliveries of a page that there is room for. The next look goes on behind the page, or where the
        room ended."""
        choice, now = Choice(), time.time()
        for due in page:
            if self._rooms.free <= 0 and due.hop not in self._waiting:
                self._rooms.starved = True
                break
            self._rooms.choose(due, choice, now)
            self._reader.passed(due)
        await self._claim(choice)

    async def _claim(self, choice: Choice) -> None:
        """Lease the chosen deliveries and attempt them; some may be gone."""
        if not choice.due:
            return
        missed = {(due.message_id, due.n): due.hop for due in choice.due}
        by_message: dict[int, list[Delivery]] = {}
        try:
            for delivery in await self._leases.lease(choice.due):
                missed.pop((delivery.message_id, delivery.n), None)
                by_message.setdefault(delivery.message_id, []).append(delivery)
            small: dict[int, StoredMessage] = {}
            for number, message_id in enumerate(tuple(by_message)):
                await self._underway.wait_for_memory()
                if number % TOGETHER == 0:
                    small = await self._recorder.load_small(list(islice(by_message, TOGETHER)))
                deliveries = by_message[message_id]
                stored = small.pop(message_id, None) or await self._recorder.load(message_id, deliveries)
                self._rooms.give_back(choice, message_id)
                if stored is not None:
                    self._attempter.take(stored, deliveries, choice.kept)
                else:
                    self._leases.let_go(deliveries)
                del by_message[message_id]
        finally:
            at = time.monotonic() + MISSED
            for hop in missed.values():
                self._missed.setdefault(hop, at)
            for deliveries in by_message.values():  # an error came between: they are due again when their leases end
                self._leases.let_go(deliveries)
            self._rooms.give_all_back(choice)
