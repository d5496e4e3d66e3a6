"""Leases due deliveries and starts their attempts as soon as there is room for them.

A message that was just stored is attempted from memory. A message that does not fit there, was deferred, or was leased
by a dead worker is found again in the queue. A next hop without room is passed over, so that a slow or dead one does
not slow the others; its deliveries are fetched by its key once there is room again.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

import structlog

from relay.config.model import Config
from relay.deliver.attempts import Attempt, Attempts, Batch
from relay.deliver.concurrency import HopConcurrency
from relay.deliver.in_session import LATELY, PATIENCE, Offer
from relay.deliver.places import Place
from relay.deliver.recorder import Recorder
from relay.deliver.underway import Underway
from relay.mail.outcome import Outcome
from relay.mail.queue_id import id_text
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


class Dispatcher:
    """Runs the attempts of one worker; it is told how they go, as an `AttemptObserver`.

    Args:
        memory: octets of message content that may be held for attempts.
    """

    def __init__(self, config: Config, store: Store, attempts: Attempts, recorder: Recorder, memory: int) -> None:
        delivery = config.delivery
        self._store = store
        self._attempts = attempts
        self._recorder = recorder
        self._lease = config.queue.lease
        self._hops = HopConcurrency(
            delivery.concurrency, delivery.concurrency_total, min(PAUSE, config.queue.retry_min / 10)
        )
        self._underway = Underway(self._hops, memory)
        self._leased: dict[tuple[int, int], Key] = {}
        self._running: set[asyncio.Task[None]] = set()
        # Next hops without room, each with the time up to which its due deliveries were put off.
        self._passed_over: dict[str, float] = {}
        self._ready: set[str] = set()  # those of them that have room again
        self._position: Due | None = None
        self._rescan_at = 0.0
        self._full_scan_at = 0.0
        self._starved = False  # whether a delivery is due that there is no room for, whatever its next hop
        self._wake = asyncio.Event()
        self._stopping = False

    # a message that was just accepted

    def lease_at_once(self, deliveries: Sequence[Delivery], octets: int) -> list[Delivery]:
        """The deliveries of a new message, leased by this worker, where they may be attempted from memory.

        They are not stored yet; `take` follows once they are. Where one of them has no room, the result is empty, and
        the dispatcher remembers that deliveries wait in the queue for room in general, or for a next hop.
        """
        hops = {delivery.hop for delivery in deliveries}
        now = time.time()
        room = self._hops.free >= len(hops) and self._underway.room_for(octets) and not self._stopping
        self._starved = self._starved or not room
        for hop in hops:
            if hop in self._passed_over:
                room = False
            elif not self._hops.room(hop, now):
                self._passed_over[hop] = -math.inf
                room = False
        if not room:
            return []
        owner, token, until = self._store.owner, secrets.randbits(62), now + self._lease
        return [replace(delivery, lease_owner=owner, lease_token=token, next_attempt=until) for delivery in deliveries]

    def take(self, stored: StoredMessage, deliveries: Sequence[Delivery]) -> None:
        """Attempt deliveries of one message that this worker holds leases on."""
        for delivery in deliveries:
            self._leased[delivery.message_id, delivery.n] = delivery.key
        attempt = self._attempts.prepare(stored, deliveries)
        self._underway.begin(attempt)
        task = asyncio.create_task(self._run_attempt(attempt, deliveries))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # a message that is offered to its next hop before it is stored

    def offer(self, stored: StoredMessage, delivery: Delivery) -> Offer | None:
        """Begin an attempt at a message that is not stored. None where its next hop has not answered lately, or there
        is no room now. The caller says in the end whether it was stored: by `keep`, or `Offer.drop`."""
        now, hop = time.time(), delivery.hop
        if self._stopping or hop in self._passed_over or not self._hops.answered_since(hop, now - LATELY):
            return None
        if not self._hops.room(hop, now) or self._hops.free <= 0:
            return None
        if not self._underway.room_for(len(stored.message.content)):
            return None
        until = now + PATIENCE + self._lease  # the lease begins when the message is stored
        leased = replace(delivery, lease_owner=self._store.owner, lease_token=secrets.randbits(62), next_attempt=until)
        offer = Offer(self._attempts.prepare(stored, [leased]))
        self._underway.begin(offer.attempt)
        task = asyncio.create_task(self._run_offer(offer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return offer

    def keep(self, offer: Offer) -> None:
        """Go on with the attempt at a message that was stored meanwhile, and record its outcome."""
        for delivery in offer.deliveries:
            self._leased[delivery.message_id, delivery.n] = delivery.key
        offer.stored.set_result(True)

    async def _run_offer(self, offer: Offer) -> None:
        attempt = offer.attempt
        (batch,) = attempt.batches
        try:
            results = await self._attempts.results(attempt, batch, self)
            offer.result.set_result(results[0])
            if await offer.stored:
                await self._attempts.settle(attempt, results, self)
        except QueueUnavailable:
            pass  # it was logged, and the relay stops
        except Exception:
            log.exception("attempt_failed", id=id_text(attempt.stored.id))
        finally:
            offer.result.cancel()  # where the attempt was cancelled: nobody waits in vain
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

    def _finished(self, attempt: Attempt, deliveries: Iterable[Delivery]) -> None:
        self._underway.end(attempt)
        self._stop_renewing(deliveries)
        if self._starved and self._hops.free >= self._hops.young:
            self._wake.set()

    def _stop_renewing(self, deliveries: Iterable[Delivery]) -> None:
        """Renew these leases no more. The lease of a delivery that was not settled runs out, and it is due again."""
        for delivery in deliveries:
            self._leased.pop((delivery.message_id, delivery.n), None)

    # what attempts tell

    def batch_ended(self, attempt: Attempt, batch: Batch, began: float, outcomes: Sequence[Outcome]) -> None:
        """Give the place of a batch back, and look at the next hop again where it has room now."""
        now, hop = time.time(), batch.hop
        place = self._underway.place_of(attempt, batch)
        if place is None:
            return
        if attempt.withdrawn:
            self._hops.released(place)
        else:
            self._hops.ended(place, began, now, outcomes)
        if hop in self._passed_over and self._hops.refill(hop, now):
            self._ready.add(hop)
            self._wake.set()

    def notification_queued(self) -> None:
        """Look at the queue now, where a notification is due."""
        self._wake.set()

    def recorded_late(self) -> None:
        """Begin the next look at the beginning of the queue: deliveries may be due that it has passed."""
        self._full_scan_at = 0.0

    # due deliveries

    async def run(self) -> None:
        """Find due deliveries and attempt them, until `stop`."""
        beside = [asyncio.create_task(self._renew_leases()), asyncio.create_task(self._underway.look_after())]
        try:
            while not self._stopping:
                self._wake.clear()
                try:
                    more = await self._look()
                except QueueUnavailable as error:
                    log.error("queue_unavailable", problem=str(error))
                    more = False
                except Exception:  # without the loop, mail would be accepted and never leave
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
        """Look at the queue once. Returns whether another look right away may find more."""
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
        """The next hops to look at again: those with room again, and some of the others in turn."""
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
        """Look at the deliveries that wait for a passed over next hop: defer them where the next hop has failed
        since they were due, or attempt those that there is room for. Returns whether there are more to defer."""
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
            await self._claim([(delivery, self._hops.started(hop, now)) for delivery in due])
        return False

    async def _suspend(self, due: Sequence[Due], outcome: Outcome) -> None:
        if not due:
            return
        leased = await self._store.lease(due, time.time() + self._lease)
        self._leased |= {(delivery.message_id, delivery.n): delivery.key for delivery in leased}
        try:
            await self._recorder.suspend(leased, outcome, self)
        finally:
            self._stop_renewing(leased)

    def _go_back(self, now: float) -> None:
        if now >= self._full_scan_at:
            self._position = None
            self._full_scan_at, self._rescan_at = now + FULL_SCAN, now + RESCAN
        elif now >= self._rescan_at:
            since = now - OVERLAP
            if self._position is not None and self._position.next_attempt > since:
                self._position = Due(0, 0, "", since)
            self._rescan_at = now + RESCAN

    def _choose(self, page: Sequence[Due], now: float) -> list[tuple[Due, Place]]:
        """The deliveries of a page that there is room for, with their places taken. The next look goes on behind the
        page, or where the room ended."""
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
        """Lease the chosen deliveries and attempt them. Those of one message share places; some may be gone."""
        if not chosen:
            return
        try:
            leased = await self._store.lease([due for due, _ in chosen], time.time() + self._lease)
        finally:
            for _, place in chosen:
                self._hops.released(place)
        by_message: dict[int, list[Delivery]] = {}
        for delivery in leased:
            self._leased[delivery.message_id, delivery.n] = delivery.key
            by_message.setdefault(delivery.message_id, []).append(delivery)
        for message_id, deliveries in by_message.items():
            await self._underway.wait_for_memory()
            stored = await self._recorder.load(message_id, deliveries)
            if stored is not None:
                self.take(stored, deliveries)
            else:
                self._stop_renewing(deliveries)

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                await self._store.renew(list(self._leased.values()), time.time() + self._lease)
            except QueueUnavailable as error:
                log.error("lease_renewal_failed", problem=str(error))

    async def stop(self, patience: float) -> None:
        """Start no more attempts; wait `patience` seconds for those that run, then give them up.

        A delivery that is given up keeps its lease, which the supervisor frees: it is attempted again.
        """
        self._stopping = True
        self._recorder.stop()
        self._wake.set()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=patience)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
