"""From the queue to the next hops: what is due is leased, grouped into transactions, attempted, and settled.

A message that was just stored is attempted from memory; whatever does not fit there, was deferred, or was left behind
by a dead worker is found again in the queue. No next hop can take more than its share of the attempts under way, so
that one that is slow or dead does not slow the others.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from relay.address import domain_of, is_ascii
from relay.config import Config
from relay.deliver.agent import Job
from relay.deliver.reply import Outcome
from relay.deliver.settle import Attempt, Event, Settlement, damaged, needs_sender, settle
from relay.message import Recipient
from relay.network import Endpoint, endpoint
from relay.queue.database import QueueUnavailable
from relay.queue.ids import text as id_text
from relay.queue.store import Damaged, Delivery, Due, Key, Store, StoredMessage
from relay.report.metrics import Metrics
from relay.report.notify import Notifier
from relay.rewrite.sender import Decision, leaving_sender
from relay.rewrite.srs import Scheme, forward_token
from relay.route.router import Target
from relay.sign.signer import Signer

log = structlog.get_logger()

PAGE = 500  # due deliveries looked at in one go
RECIPIENTS = 100  # of one transaction: what RFC 5321 section 4.5.3.1.8 lets every server refuse beyond
RESCAN = 60.0  # seconds after which the look goes back, for what other processes made due behind its back
OVERLAP = 120.0  # seconds that it goes back: longer than any transaction waits for its lock
FULL_SCAN = 3600.0  # seconds after which it begins at the beginning, whatever the clocks of other hosts say
IDLE = 1.0  # seconds between looks at an empty queue: other workers and the queue commands write there too
SETTLE_RETRY = 5.0  # seconds between tries to record an outcome in a queue that cannot be written


class Deliverer(Protocol):
    """What carries a job to its next hop (`relay.deliver.agent.Agent`)."""

    async def deliver(self, domain: str, next_hop: Endpoint | None, job: Job) -> tuple[Outcome, ...]: ...


def hop_of(config: Config, recipient: str, next_hop: str) -> str:
    """The key by which deliveries share connections: the configured next hop, or the recipient's domain."""
    if next_hop:
        return next_hop
    smarthost = config.delivery.smarthost
    return str(smarthost.url) if smarthost is not None else domain_of(recipient)


class Dispatcher:
    """Runs the attempts of one worker.

    Args:
        route: where mail for an address goes; empty where it would be refused.
        memory: octets of message content that may be held for attempts.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        agent: Deliverer,
        signer: Signer,
        scheme: Scheme,
        notifier: Notifier,
        route: Callable[[str], Awaitable[Sequence[Target]]],
        metrics: Metrics,
        memory: int,
    ) -> None:
        self._config = config
        self._store = store
        self._agent = agent
        self._signer = signer
        self._scheme = scheme
        self._notifier = notifier
        self._route = route
        self._metrics = metrics
        self._memory = memory
        self._octets = 0
        self._active: Counter[str] = Counter()
        self._leased: dict[tuple[int, int], Key] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._skipped: set[str] = set()
        self._position: Due | None = None
        self._rescan_at = 0.0
        self._full_scan_at = 0.0
        self._starved = False  # whether something is due that there was no room for
        self._wake = asyncio.Event()
        self._stopping = False

    def has_room(self, hops: Iterable[str], octets: int) -> bool:
        """Whether a message for these next hops may be attempted from memory right now."""
        room = (
            not self._stopping
            and self._active.total() < self._config.delivery.concurrency_total
            and self._octets + octets <= self._memory
            and all(self._room_at(hop) > 0 and hop not in self._skipped for hop in hops)
        )
        self._starved = self._starved or not room
        return room

    def _room_at(self, hop: str) -> int:
        return 2 * self._config.delivery.concurrency - self._active[hop]

    def leased(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """The same deliveries, not yet stored, as leased by this worker."""
        until = time.time() + self._config.queue.lease
        token = secrets.randbits(62)
        return [
            replace(one, lease_owner=self._store.owner, lease_token=token, next_attempt=until) for one in deliveries
        ]

    def take(self, stored: StoredMessage, deliveries: Sequence[Delivery]) -> None:
        """Attempt deliveries that this worker holds leases on."""
        by_transaction: dict[tuple[str, bool], list[Delivery]] = {}
        for one in deliveries:
            self._leased[one.message_id, one.n] = one.key
            by_transaction.setdefault((one.hop, one.srs), []).append(one)
        for group in by_transaction.values():
            for start in range(0, len(group), RECIPIENTS):
                self._start(stored, group[start : start + RECIPIENTS])

    def _start(self, stored: StoredMessage, group: list[Delivery]) -> None:
        hop, octets = group[0].hop, len(stored.message.content)
        self._active[hop] += 1
        self._octets += octets
        task = asyncio.create_task(self._attempt(stored, group))
        self._tasks.add(task)

        def over(finished: asyncio.Task[None]) -> None:
            self._tasks.discard(finished)
            self._active[hop] -= 1
            if not self._active[hop]:
                del self._active[hop]
            self._octets -= octets
            for one in group:
                self._leased.pop((one.message_id, one.n), None)
            if self._starved and self._active.total() <= self._config.delivery.concurrency_total // 2:
                self._wake.set()

        task.add_done_callback(over)

    # one attempt

    async def _attempt(self, stored: StoredMessage, group: list[Delivery]) -> None:
        try:
            outcomes = await self._deliver(stored, group)
        except QueueUnavailable as error:
            outcomes = _all_deferred(group, "4.3.0", f"queue: {error}")
        except Exception:
            log.exception("attempt_failed", id=id_text(stored.id))
            outcomes = _all_deferred(group, "4.3.0", "internal error")
        await self._settle(stored, [Attempt(d, o) for d, o in zip(group, outcomes, strict=True)])

    async def _deliver(self, stored: StoredMessage, group: list[Delivery]) -> tuple[Outcome, ...]:
        first = group[0]
        decision = self._decide(stored, first, smtputf8=True)
        sender = await self._address(stored, decision)
        outcomes = await self._agent.deliver(
            domain_of(first.recipient), self._endpoint(first), self._job(stored, group, sender)
        )
        if not is_ascii(sender) and all(o.status == "failed" and o.enhanced == "5.6.7" for o in outcomes):
            decision = self._decide(stored, first, smtputf8=False)
            if decision.token_for is not None:
                sender = await self._address(stored, decision)
                outcomes = await self._agent.deliver(
                    domain_of(first.recipient), self._endpoint(first), self._job(stored, group, sender)
                )
        return outcomes

    def _decide(self, stored: StoredMessage, one: Delivery, *, smtputf8: bool) -> Decision:
        return leaving_sender(
            stored.sender,
            authorised=bool(stored.verdict.get("trusted")) or stored.verdict.get("spf") == "pass",
            srs_wanted=one.srs,
            smtputf8=smtputf8,
            local_domains=self._config.senders.local_domains,
            scheme=self._scheme,
            now=time.time(),
        )

    async def _address(self, stored: StoredMessage, decision: Decision) -> str:
        if decision.address != stored.sender or decision.token_for is not None:
            self._metrics.srs.add("rewritten")
        if decision.token_for is None:
            return decision.address
        now = time.time()
        lifetime = (self._scheme.max_age + 1) * 86400.0
        return forward_token(await self._store.token_for(decision.token_for, now, lifetime), self._scheme, now)

    @staticmethod
    def _endpoint(one: Delivery) -> Endpoint | None:
        return endpoint(one.next_hop) if one.next_hop else None

    def _job(self, stored: StoredMessage, group: list[Delivery], sender: str) -> Job:
        message = stored.message
        recipients = tuple(_shown(d) for d in group)
        log.info(
            "attempt",
            id=id_text(stored.id),
            hop=group[0].hop,
            sender=sender,
            to=[d.recipient for d in group],
            attempt=group[0].attempts + 1,
        )
        return Job(
            sender=sender,
            recipients=recipients,
            size=len(stored.trace) + len(message.content),
            is_8bit=message.is_8bit,
            # A raw 8-bit header of mail that came without SMTPUTF8 goes on as it came: to bounce it would serve nobody.
            needs_smtputf8=stored.smtputf8 and message.has_utf8_header,
            ret=stored.ret,
            envid=stored.envid,
            content=lambda: message.wire(self._signer.fields(message) + stored.trace),
        )

    async def _settle(self, stored: StoredMessage, attempts: list[Attempt]) -> None:
        home = await self._route(stored.sender) if needs_sender(stored, attempts) else ()
        settlement = settle(stored, attempts, self._notifier, home, random.random, time.time())
        while True:
            try:
                await self._store.apply(settlement.change)
                break
            except QueueUnavailable as error:
                log.error("queue_unavailable", id=id_text(stored.id), problem=str(error))
                if self._stopping:
                    return
                await asyncio.sleep(SETTLE_RETRY)
        self._tell(stored, settlement)
        if settlement.change.arrived:
            self._wake.set()

    def _tell(self, stored: StoredMessage, settlement: Settlement) -> None:
        age = time.time() - stored.received
        for event in settlement.events:
            self._metrics.deliveries.add(event.attempt.outcome.status)
            match event.name:
                case "delivered":
                    self._metrics.transit.observe(age)
                case "bounced":
                    self._metrics.bounces.add("sent")
                case "dead":
                    self._metrics.bounces.add("dead")
            _log_event(stored, event, age)

    # what is due

    async def run(self) -> None:
        """Find what is due and attempt it, until `stop`."""
        renewing = asyncio.create_task(self._renew_leases())
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
            renewing.cancel()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _look(self) -> bool:
        """One look at the queue. Returns whether another one right away may find more."""
        now = time.time()
        total = self._config.delivery.concurrency_total - self._active.total()
        if total <= 0 or self._octets >= self._memory:
            self._starved = True
            return False
        self._starved = False
        for hop in [h for h in self._skipped if self._room_at(h) >= self._config.delivery.concurrency]:
            room = min(self._room_at(hop), total)
            due = await self._store.due(now, room, hop=hop)
            if len(due) < room:
                self._skipped.discard(hop)
            total -= await self._claim(due)
            if total <= 0:
                self._starved = True
                return False
        self._go_back(now)
        page = await self._store.due(now, PAGE, after=self._position)
        chosen = self._choose(page, total)
        await self._claim(chosen)
        self._starved = bool(self._skipped) or len(chosen) == total
        return len(page) == PAGE and len(chosen) < total

    def _go_back(self, now: float) -> None:
        if now >= self._full_scan_at:
            self._position = None
            self._full_scan_at, self._rescan_at = now + FULL_SCAN, now + RESCAN
        elif now >= self._rescan_at:
            since = now - OVERLAP
            if self._position is not None and self._position.next_attempt > since:
                self._position = Due(0, 0, "", since)
            self._rescan_at = now + RESCAN

    def _choose(self, page: list[Due], total: int) -> list[Due]:
        chosen: list[Due] = []
        taken: Counter[str] = Counter()
        for due in page:
            if due.hop in self._skipped:
                pass
            elif self._room_at(due.hop) - taken[due.hop] <= 0:
                self._skipped.add(due.hop)
            elif len(chosen) >= total:
                break
            else:
                chosen.append(due)
                taken[due.hop] += 1
            self._position = due
        return chosen

    async def _claim(self, wanted: list[Due]) -> int:
        if not wanted:
            return 0
        leased = await self._store.lease(wanted, time.time() + self._config.queue.lease)
        by_message: dict[int, list[Delivery]] = {}
        for one in leased:
            self._leased[one.message_id, one.n] = one.key
            by_message.setdefault(one.message_id, []).append(one)
        for message_id, deliveries in by_message.items():
            stored = await self._load(message_id, deliveries)
            if stored is not None:
                self.take(stored, deliveries)
                continue
            for one in deliveries:  # the lease runs out, and the delivery is looked at again
                self._leased.pop((one.message_id, one.n), None)
        return len(leased)

    async def _load(self, message_id: int, deliveries: list[Delivery]) -> StoredMessage | None:
        """A message to attempt; None where it is gone, cannot be read now, or is not whole, and then is buried."""
        try:
            try:
                return await self._store.load(message_id)
            except Damaged as error:
                log.error("message_damaged", id=id_text(message_id), problem=str(error))
                await self._store.apply(damaged(deliveries, str(error), time.time()))
        except QueueUnavailable as error:
            log.error("message_unreadable", id=id_text(message_id), problem=str(error))
        return None

    async def _renew_leases(self) -> None:
        lease = self._config.queue.lease
        while True:
            await asyncio.sleep(lease / 3)
            try:
                await self._store.renew(list(self._leased.values()), time.time() + lease)
            except QueueUnavailable as error:
                log.error("lease_renewal_failed", problem=str(error))

    async def stop(self, patience: float) -> None:
        """Start nothing more; wait `patience` seconds for what is under way, then give it up.

        A delivery that is given up keeps its lease, which the supervisor frees: it is attempted again.
        """
        self._stopping = True
        self._wake.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=patience)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)


def _shown(one: Delivery) -> Recipient:
    """The recipient as the next hop gets to see it.

    Behind an alias, success and delay are never asked of the next hop: its notice would show the sender the mailbox.
    """
    if one.recipient == one.original or not one.notify:
        return Recipient(one.recipient, one.notify, one.orcpt if one.recipient == one.original else "")
    return Recipient(one.recipient, "FAILURE" if "FAILURE" in one.notify else "NEVER")


def _all_deferred(group: list[Delivery], enhanced: str, text: str) -> tuple[Outcome, ...]:
    return tuple(Outcome("deferred", 451, enhanced, text) for _ in group)


def _log_event(stored: StoredMessage, event: Event, age: float) -> None:
    outcome = event.attempt.outcome
    log.info(
        event.name,
        id=id_text(stored.id),
        to=event.attempt.delivery.recipient,
        code=outcome.code,
        status=outcome.enhanced,
        text=outcome.text,
        host=outcome.host,
        address=outcome.address,
        tls=outcome.tls or None,
        delay=round(age, 3),
        **event.extra,
    )
