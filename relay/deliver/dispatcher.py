"""Starts the attempts of one worker as soon as there is room for them, and hears how they go.

A message that was just stored is attempted from memory, where it may wait for a place for some seconds
(`relay.deliver.waiting_messages`). A message that does not fit there, was deferred, or was leased by a dead worker is
found again in the queue (`relay.deliver.due_deliveries`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace

import structlog

from relay.config.destinations import Destination
from relay.config.model import Config
from relay.deliver.attempts import Attempt, Attempts, Batch
from relay.deliver.concurrency import HopConcurrency
from relay.deliver.current_hops import CurrentHops
from relay.deliver.destination_limits import Admission, DestinationLimits, Kept, NoRoom
from relay.deliver.due_deliveries import DueDeliveries
from relay.deliver.held_leases import HeldLeases
from relay.deliver.in_session import Offer
from relay.deliver.new_messages import NewMessages
from relay.deliver.next_hop_health import LATELY
from relay.deliver.outcome_log import log_health, log_shaping, log_unstored
from relay.deliver.recorder import Recorder
from relay.deliver.rooms import Rooms
from relay.deliver.settlement import Result
from relay.deliver.shaping import Recovered, Shaped, Shaping
from relay.deliver.underway import Underway
from relay.deliver.waiting_messages import WaitingMessages
from relay.mail.outcome import Outcome
from relay.mail.queue_id import id_text
from relay.metrics import Metrics
from relay.queue.database import QueueUnavailable
from relay.queue.store import Delivery, Store, StoredMessage

log = structlog.get_logger()

PAUSE = 10.0  # seconds between two tries of a next hop out of reach, and at most one part in ten of `queue.retry_min`
IDLE = 1.0  # seconds between looks at an empty queue: other workers and the queue commands write there too
WAITING = 16  # one in so many octets of the memory may be used by messages that wait for a place
SOON = 0.05  # seconds between looks at least, where the rate of a table allows many messages


class Dispatcher:
    """Runs the attempts of one worker; it is told how they go, as an `AttemptObserver`.

    Args:
        limits: the numbers of `[[delivery.destinations]]`.
        hops: where due deliveries go now.
        shaping: what replies say of the speed of mail.
        memory: octets of message content that may be held for attempts.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        attempts: Attempts,
        recorder: Recorder,
        limits: DestinationLimits,
        current_hops: CurrentHops,
        shaping: Shaping,
        metrics: Metrics,
        memory: int,
    ) -> None:
        delivery = config.delivery
        self._store = store
        self._attempts = attempts
        self._recorder = recorder
        self._limits = limits
        self._metrics = metrics
        self._lease = config.queue.lease
        self._leases = HeldLeases(store, config.queue.lease)
        pause = min(PAUSE, config.queue.retry_min / 10)
        self._hops = HopConcurrency(
            lambda hop: limits.concurrency(hop) or delivery.concurrency, delivery.concurrency_total, pause, shaping
        )
        self._rooms = Rooms(self._hops, limits)
        waiting = memory // WAITING
        self._lines = WaitingMessages(waiting, config.queue.lease, shared=store.news.is_shared)
        self._underway = Underway(self._hops, memory - waiting)
        self._wake = asyncio.Event()
        self._new = NewMessages(
            store.owner, self._lease, self._rooms, self._lines, self._underway, self._begin, self._wake
        )
        self._due = DueDeliveries(
            store, self._rooms, self._new, self._underway, self._leases, limits, current_hops, shaping, recorder, self
        )
        self._running: set[asyncio.Task[None]] = set()
        self._offers: set[Offer] = set()
        self._offering = True
        self._stopping = False

    # a message that was just accepted

    def lease_at_once(self, deliveries: Sequence[Delivery], octets: int) -> list[Delivery]:
        """See `NewMessages.lease_at_once`."""
        return [] if self._stopping else self._new.lease_at_once(deliveries, octets)

    def leave(self, message_id: int) -> None:
        """Forget a new message that was leased and could not be stored."""
        self._new.leave(message_id)

    def take(self, stored: StoredMessage, deliveries: Sequence[Delivery], kept: Kept | None = None) -> None:
        """Attempt deliveries of one message that this worker holds leases on.

        Args:
            deliveries: for a new message what `lease_at_once` has returned.
            kept: shares that its transactions may have; for a new message they were kept by `lease_at_once`.
        """
        if not self._new.take(stored, deliveries):
            self._begin(stored, deliveries, kept)

    def _begin(self, stored: StoredMessage, deliveries: Sequence[Delivery], kept: Kept | None = None) -> None:
        if self._stopping:
            return  # nobody would wait for it; the supervisor frees its lease
        self._leases.hold(deliveries)
        attempt = self._attempts.prepare(stored, deliveries)
        if self._limits.exist:
            for batch in attempt.batches:
                batch.admission = Admission(self._limits, kept.one_for(batch.hop) if kept is not None else None)
        self._underway.begin(attempt)
        self._start(self._run_attempt(attempt, deliveries))

    def _start(self, run: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(run)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # a message that is offered to its next hop before it is stored

    def offer(self, stored: StoredMessage, delivery: Delivery) -> Offer | None:
        """Begin an attempt at a message that is not stored; None where its next hop has not answered lately, or has no
        room. What waits in the queue or in memory goes first. The caller says in the end whether it was stored: by
        `keep`, or `Offer.drop`."""
        now, hop, kept = time.time(), delivery.hop, Kept()
        if not self._offering or self._rooms.starved or hop in self._lines:
            return None
        if self._hops.free <= 0 or not self._underway.room_for(len(stored.message.content)):
            return None
        if not (self._hops.answered_since(hop, now - LATELY) and self._rooms.at_once(hop, kept, now)):
            return None
        offer = Offer(self._attempts.prepare(stored, [delivery]))
        if self._limits.exist:
            offer.batch.admission = Admission(self._limits, kept.one_for(hop))
        self._underway.begin(offer.attempt)
        self._offers.add(offer)
        self._start(self._run_offer(offer))
        return offer

    def leased(self, offer: Offer) -> Sequence[Delivery]:
        """The delivery of an offer as it is stored now: leased by this worker, which attempts it. `keep` follows, or
        `Offer.drop`."""
        offer.is_being_stored = True
        until = time.time() + self._lease
        offer.batch.deliveries = [self._new.leased(delivery, until) for delivery in offer.batch.deliveries]
        return offer.batch.deliveries

    def keep(self, offer: Offer) -> None:
        """Go on with the attempt at a message that was stored meanwhile, and record its outcome."""
        if offer.is_finished:
            return  # the attempt was cut: its lease ends, and it is made again
        self._leases.hold(offer.batch.deliveries)
        offer.keep()

    def end_offers(self) -> None:
        """Let no session wait for a next hop any longer: the relay stops, and stores what is not settled."""
        self._offering = False
        for offer in self._offers:
            offer.hurry()

    async def _run_offer(self, offer: Offer) -> None:
        attempt, batch = offer.attempt, offer.batch
        results: Sequence[Result] = ()
        full: Destination | None = None
        try:
            try:
                results = await self._attempts.results(attempt, batch, self)
            except NoRoom as no_room:
                full = no_room.destination
            offer.ended(results[0] if results else None)
            if not await offer.is_stored():
                log_unstored(attempt.stored, results, self._metrics)
            elif full is not None:
                await self._attempts.put_back(batch, full, self)
            else:
                leased = [replace(results[0], delivery=batch.deliveries[0])]
                await self._attempts.settle(attempt, leased, self)
        except QueueUnavailable:
            pass  # it was logged, and the relay stops
        except Exception:
            log.exception("attempt_failed", id=id_text(attempt.stored.id))
        finally:
            self._offers.discard(offer)
            offer.is_finished = True
            offer.ended(None)  # where the attempt was cut: nobody waits in vain
            self._finished(attempt, batch.deliveries)

    async def _run_attempt(self, attempt: Attempt, deliveries: Sequence[Delivery]) -> None:
        try:
            await self._attempts.make(attempt, self)
        except QueueUnavailable:
            pass  # it was logged, and the relay stops
        except Exception:
            log.exception("attempt_failed", id=id_text(attempt.stored.id))
        finally:
            self._finished(attempt, deliveries)

    def _finished(self, attempt: Attempt, deliveries: Sequence[Delivery]) -> None:
        was_full = self._underway.full
        self._underway.end(attempt)
        if was_full and not self._underway.full:
            self._new.look()  # places fall free before memory does
        self._leases.let_go(deliveries)
        for batch in attempt.batches:
            batch.admission.end()
        if self._rooms.starved and self._hops.free >= self._hops.young:
            self._wake.set()

    # what attempts tell

    def batch_ended(self, attempt: Attempt, batch: Batch, began: float, outcomes: Sequence[Outcome]) -> None:
        """Give the place of a batch back, to a message that waits in memory for the next hop, or look at the queue
        again where deliveries to it wait there and have room now."""
        batch.admission.end()
        now, hop = time.time(), batch.hop
        place = self._underway.place_of(attempt, batch)
        if place is None:
            return
        told = () if batch.bound.withdrawn else outcomes
        for event in self._hops.ended(place, began, now, told, attempt.stored.sender):
            if isinstance(event, Shaped | Recovered):
                log_shaping(hop, event, attempt.stored.id, self._metrics)
                self._metrics.slowed.set(self._hops.shaping.shaped)
                if isinstance(event, Shaped) and event.until is not None:
                    self._underway.end_what_is_paused(now)
            else:
                log_health(hop, event, self._metrics)
        self._metrics.suspended.set(self._hops.suspended)
        if hop in self._lines:
            self._new.begin_waiting(hop, now)
            if not self._rooms.may_have_line(hop):
                self._wake.set()
        if self._rooms.may_begin_waiting(hop, now):
            self._wake.set()

    def put_back(self, batch: Batch, table: Destination) -> None:
        """Let the next hop of a batch wait, whose table turned out to have no room; its deliveries are due again."""
        self._limits.note(batch.hop, table)
        self._rooms.let_wait(batch.hop)

    def notification_queued(self) -> None:
        """Look at the queue now, where a notification is due."""
        self._due.look_at_all()
        self._wake.set()

    def recorded_late(self) -> None:
        """Begin the next look at the beginning of the queue: deliveries may be due that it has passed."""
        self._due.begin_anew()

    async def run(self) -> None:
        """Find due deliveries and attempt them, until `stop`."""
        self._store.news.watch(self._hear)
        beside = [asyncio.create_task(self._leases.renew()), asyncio.create_task(self._underway.look_after())]
        try:
            while not self._stopping:
                self._wake.clear()
                try:
                    more = await self._due.look()
                    self._new.look()
                except QueueUnavailable as error:
                    log.error("queue_unavailable", problem=str(error))
                    more = False
                except Exception:  # without the loop, mail would be accepted and never leave
                    log.exception("dispatcher_failed")
                    more = False
                await (asyncio.sleep(0) if more else self._sleep())
        finally:
            for task in beside:
                task.cancel()

    def _hear(self) -> None:
        """Look at the whole queue now: another process may have made deliveries due."""
        self._due.look_at_all()
        self._wake.set()

    async def _sleep(self) -> None:
        """Wait until there may be something to do."""
        now = time.time()
        opens = self._rooms.opens(now)
        try:
            async with asyncio.timeout(IDLE if opens is None else min(max(opens - now, SOON), IDLE)):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def stop(self, patience: float) -> None:
        """Start no more attempts; wait `patience` seconds for those that run, then give them up.

        What waits in memory is due again at once. A delivery that is given up keeps its lease, which the supervisor
        frees: it is attempted again.
        """
        self._stopping = True
        self.end_offers()
        self._recorder.stop()
        self._wake.set()
        try:
            await self._due.put_back(self._lines.hops)
        except QueueUnavailable:
            pass  # it was logged, and the supervisor frees their leases
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=patience)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
