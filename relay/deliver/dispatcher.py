"""From the queue to the next hops: what is due is leased, attempted as soon as there is room for it, and let go.

A message that was just stored is attempted from memory; whatever does not fit there, was deferred, or was left behind
by a dead worker is found again in the queue. A next hop without room is passed over, so that one that is slow or dead
does not slow the others; what waits for it is fetched by its name once there is room again.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import islice

import structlog

from relay.config.model import Config
from relay.deliver.attempts import Attempts, Round, Transaction
from relay.deliver.concurrency import Hops
from relay.deliver.places import Place
from relay.deliver.underway import Underway
from relay.mail.address import domain_of
from relay.mail.outcome import Outcome
from relay.mail.queue_id import text as id_text
from relay.queue.change import for_ours
from relay.queue.database import QueueUnavailable
from relay.queue.store import Delivery, Due, Key, Store, StoredMessage

log = structlog.get_logger()

PAGE = 500  # due deliveries looked at in one go
LOOKS = 500  # next hops that were passed over looked at again in one go: a stranger may have made up any number
SUSPENDED = 100  # deliveries put off in one go, for want of a next hop that can be reached
PAUSE = 10.0  # seconds between two tries of such a next hop, and at most one part in ten of `queue.retry_min`
RESCAN = 60.0  # seconds after which the look goes back, for what other processes made due behind its back
OVERLAP = 120.0  # seconds that it goes back: longer than any transaction waits for its lock
FULL_SCAN = 3600.0  # seconds after which it begins at the beginning, whatever the clocks of other hosts say
IDLE = 1.0  # seconds between looks at an empty queue: other workers and the queue commands write there too


def hop_of(config: Config, recipient: str, *, ours: bool = False) -> str:
    """The key by which deliveries share places and fate: the configured next hop, or the recipient's domain; one of its
    own for what we write ourselves (`ours`)."""
    next_hop, smarthost = config.next_hop(domain_of(recipient)), config.delivery.smarthost
    if next_hop is None and smarthost is not None:
        next_hop = smarthost.url
    hop = domain_of(recipient) if next_hop is None else str(next_hop)
    return for_ours(hop) if ours else hop


class Dispatcher:
    """Runs the attempts of one worker.

    Args:
        memory: octets of message content that may be held for attempts.
    """

    def __init__(self, config: Config, store: Store, attempts: Attempts, memory: int) -> None:
        delivery = config.delivery
        self._store = store
        self._attempts = attempts
        self._lease = config.queue.lease
        self._hops = Hops(delivery.concurrency, delivery.concurrency_total, min(PAUSE, config.queue.retry_min / 10))
        self._underway = Underway(self._hops, memory)
        self._leased: dict[tuple[int, int], Key] = {}
        self._rounds: set[asyncio.Task[None]] = set()
        self._passed_over: dict[str, float] = {}  # hops, and until when what fell due for them has been put off
        self._ready: set[str] = set()  # those of them that have given places back
        self._position: Due | None = None
        self._rescan_at = 0.0
        self._full_scan_at = 0.0
        self._starved = False  # whether something is due that there was no place or memory for, whatever its hop
        self._wake = attempts.news
        self._stopping = False

    def has_room(self, hops: Collection[str], octets: int) -> bool:
        """Whether a message for these next hops may be attempted from memory right now."""
        now = time.time()
        room = self._hops.free >= len(hops) and self._underway.room_for(octets) and not self._stopping
        self._starved = self._starved or not room
        for hop in hops:
            if hop in self._passed_over:
                room = False
            elif not self._hops.room(hop, now):
                self._passed_over[hop] = -math.inf
                room = False
        return room

    def leased(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """The same deliveries, not yet stored, as leased by this worker."""
        until = time.time() + self._lease
        token = secrets.randbits(62)
        return [
            replace(one, lease_owner=self._store.owner, lease_token=token, next_attempt=until) for one in deliveries
        ]

    def take(self, stored: StoredMessage, deliveries: Sequence[Delivery]) -> None:
        """Attempt deliveries of one message that this worker holds leases on."""
        for one in deliveries:
            self._leased[one.message_id, one.n] = one.key
        round = self._attempts.round(stored, deliveries)
        self._underway.begin(round)
        task = asyncio.create_task(self._conduct(round, deliveries))
        self._rounds.add(task)
        task.add_done_callback(self._rounds.discard)

    async def _conduct(self, round: Round, deliveries: Sequence[Delivery]) -> None:
        try:
            await self._attempts.make(round, self._ended)
        except QueueUnavailable:
            pass  # it was logged, and the relay stops
        except Exception:
            log.exception("attempt_failed", id=id_text(round.stored.id))
        finally:
            self._underway.end(round)
            self._let_go(deliveries)
            if self._starved and self._hops.free >= self._hops.young:
                self._wake.set()

    def _ended(self, round: Round, transaction: Transaction, began: float, outcomes: Sequence[Outcome]) -> None:
        now, hop = time.time(), transaction.hop
        place = self._underway.place_of(round, transaction)
        if place is None:
            return
        self._hops.ended(place, began, now, outcomes)
        if hop in self._passed_over and self._hops.refill(hop, now):
            self._ready.add(hop)
            self._wake.set()

    def _let_go(self, deliveries: Iterable[Delivery]) -> None:
        """Renew these leases no more; those of what was not settled run out, and it is looked at again."""
        for one in deliveries:
            self._leased.pop((one.message_id, one.n), None)

    # what is due

    async def run(self) -> None:
        """Find what is due and attempt it, until `stop`."""
        beside = [asyncio.create_task(self._renew_leases()), asyncio.create_task(self._underway.look_after())]
        try:
            while not self._stopping:
                self._wake.clear()
                try:
                    more = await self._look()
                except QueueUnavailable as error:
                    log.error("queue_unavailable", problem=str(error))
                    more = False
                except Exception:  # mail would be taken, and never leave
                    log.exception("dispatcher_failed")
                    more = False
                await (asyncio.sleep(0) if more else self._sleep(IDLE))
        finally:
            for task in beside:
                task.cancel()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _look(self) -> bool:
        """One look at the queue. Returns whether another one right away may find more."""
        more = False
        for hop in self._next_passed_over():
            more = await self._look_again(hop) or more
        self._starved = not self._has_space
        if self._starved:
            return more
        now = time.time()
        self._go_back(now)
        page = await self._store.due(now, PAGE, after=self._position)
        chosen = self._choose(page, now)
        await self._claim(chosen)
        return more or (len(page) == PAGE and not self._starved)

    def _next_passed_over(self) -> Iterable[str]:
        """The next hops to look at again: those that have given places back, and some of the others in turn."""
        ready = [hop for hop in self._ready if hop in self._passed_over]
        self._ready.clear()
        hops = dict.fromkeys([*ready, *islice(self._passed_over, LOOKS)])
        for hop in hops:
            self._passed_over[hop] = self._passed_over.pop(hop)
        return hops

    @property
    def _has_space(self) -> bool:
        return self._hops.free > 0 and not self._underway.full

    async def _look_again(self, hop: str) -> bool:
        """See to what waits for a next hop that was passed over: put it off where the hop has been tried in vain since,
        or attempt what there is room for. Returns whether there is more to put off."""
        failure = self._hops.failure(hop)
        if failure is not None and failure.began > self._passed_over[hop]:
            due = await self._store.due(failure.began, SUSPENDED, hop=hop)
            await self._suspend(due, failure.outcome)
            if len(due) == SUSPENDED:
                return True
            self._passed_over[hop] = failure.began
        now = time.time()
        room = self._hops.refill(hop, now)
        if room and self._has_space:
            due = await self._store.due(now, room, hop=hop)
            if len(due) < room:
                del self._passed_over[hop]
            await self._claim([(one, self._hops.started(hop, now)) for one in due])
        return False

    async def _suspend(self, due: Sequence[Due], outcome: Outcome) -> None:
        if not due:
            return
        leased = await self._store.lease(due, time.time() + self._lease)
        self._leased |= {(one.message_id, one.n): one.key for one in leased}
        try:
            await self._attempts.suspend(leased, outcome)
        finally:
            self._let_go(leased)

    def _go_back(self, now: float) -> None:
        if self._attempts.late:
            self._attempts.late, self._full_scan_at = False, now
        if now >= self._full_scan_at:
            self._position = None
            self._full_scan_at, self._rescan_at = now + FULL_SCAN, now + RESCAN
        elif now >= self._rescan_at:
            since = now - OVERLAP
            if self._position is not None and self._position.next_attempt > since:
                self._position = Due(0, 0, "", since)
            self._rescan_at = now + RESCAN

    def _choose(self, page: Sequence[Due], now: float) -> list[tuple[Due, Place]]:
        """What of the page there is room for, its places taken. The look goes on behind it, or where they ran out."""
        chosen: list[tuple[Due, Place]] = []
        for due in page:
            if due.hop in self._passed_over:
                pass
            elif self._hops.free <= 0:
                self._starved = True
                break
            elif self._hops.room(due.hop, now):
                chosen.append((due, self._hops.started(due.hop, now)))
            else:
                self._passed_over[due.hop] = -math.inf
            self._position = due
        return chosen

    async def _claim(self, chosen: Sequence[tuple[Due, Place]]) -> None:
        """Lease what was chosen and attempt it: deliveries of one message share places, and some may be gone."""
        if not chosen:
            return
        try:
            leased = await self._store.lease([due for due, _ in chosen], time.time() + self._lease)
        finally:
            for _, place in chosen:
                self._hops.released(place)
        by_message: dict[int, list[Delivery]] = {}
        for one in leased:
            self._leased[one.message_id, one.n] = one.key
            by_message.setdefault(one.message_id, []).append(one)
        for message_id, deliveries in by_message.items():
            await self._underway.wait_for_memory()
            stored = await self._attempts.load(message_id, deliveries)
            if stored is not None:
                self.take(stored, deliveries)
            else:
                self._let_go(deliveries)

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                await self._store.renew(list(self._leased.values()), time.time() + self._lease)
            except QueueUnavailable as error:
                log.error("lease_renewal_failed", problem=str(error))

    async def stop(self, patience: float) -> None:
        """Start nothing more; wait `patience` seconds for what is under way, then give it up.

        A delivery that is given up keeps its lease, which the supervisor frees: it is attempted again.
        """
        self._stopping = True
        self._attempts.stop()
        self._wake.set()
        if self._rounds:
            _, late = await asyncio.wait(self._rounds, timeout=patience)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
