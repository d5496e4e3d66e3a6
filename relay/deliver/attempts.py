"""The attempts at one message: the sender it leaves with, its signature, what the next hops say, and what follows.

Deliveries of a message that are claimed together are attempted together, a transaction for each next hop, and its
sender hears of those that failed in one notification.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import structlog

from relay.bounce.notifier import Notifier
from relay.config.model import Config
from relay.deliver.deadline import Bound
from relay.deliver.host_failover import Job
from relay.deliver.outgoing import Departures, Leaving
from relay.deliver.settlement import (
    Attempt,
    Event,
    Settlement,
    concerns_sender,
    damaged,
    needs_letter,
    needs_sender,
    settle,
    shared_fate,
    suspend,
)
from relay.mail.address import domain_of
from relay.mail.envelope import Recipient
from relay.mail.message import Message
from relay.mail.outcome import Outcome
from relay.mail.queue_id import given_at, id_text
from relay.metrics import Metrics
from relay.network import Endpoint
from relay.queue.change import shown_hop
from relay.queue.database import QueueUnavailable
from relay.queue.store import Damaged, Delivery, Store, StoredMessage
from relay.rewrite.sender import Decision
from relay.rewrite.senders import Senders
from relay.route.router import Target

T = TypeVar("T")

log = structlog.get_logger()

RECIPIENTS = 100  # of one transaction: what RFC 5321 section 4.5.3.1.8 lets every server refuse beyond
TOGETHER = 30.0  # seconds for which the failures of a message wait for its other transactions, to be told of at once
SETTLE_RETRY = 5.0  # seconds between tries to record an outcome in a queue that cannot be written


class Deliverer(Protocol):
    """What carries a job to its next hop (`relay.deliver.host_failover.Agent`)."""

    async def deliver(self, domain: str, next_hop: Endpoint | None, job: Job) -> tuple[Outcome, ...]: ...


@dataclass(eq=False, slots=True)
class Transaction:
    """Deliveries that share a next hop and a sender, and the time that their attempt may take."""

    deliveries: Sequence[Delivery]
    bound: Bound = field(default_factory=Bound)

    @property
    def hop(self) -> str:
        """The key of their next hop, see `Delivery.hop`."""
        return self.deliveries[0].hop


@dataclass(eq=False, slots=True)
class Round:
    """One message and the deliveries of it that were claimed together.

    Attributes:
        stored: the message, its content empty once that was let go.
        waits: whether failures are kept back until its other transactions are over.
        kept_back: the attempts that its sender may have to be told of.
        leaving: the message as it leaves, with From as it is and rewritten, each made for the first transaction that
            needs it.
    """

    stored: StoredMessage
    transactions: Sequence[Transaction]
    waits: bool = False
    kept_back: list[Attempt] = field(default_factory=list)
    leaving: dict[bool, Leaving] = field(default_factory=dict)
    has_content: bool = True

    @classmethod
    def of(
        cls, stored: StoredMessage, deliveries: Iterable[Delivery], variant: Callable[[Delivery], Hashable]
    ) -> Round:
        """The transactions of a message: deliveries with equal next hop and variant, sender included, share one."""
        groups: dict[Hashable, list[Delivery]] = {}
        for one in deliveries:
            groups.setdefault((one.hop, variant(one)), []).append(one)
        return cls(
            stored,
            [Transaction(g[at : at + RECIPIENTS]) for g in groups.values() for at in range(0, len(g), RECIPIENTS)],
        )

    def let_go_of_content(self) -> None:
        """Free the memory of a message that every next hop has; nothing of it is tried again in this round."""
        self.has_content = False
        self.stored = replace(self.stored, message=Message(b""))
        for transaction in self.transactions:
            transaction.bound.end("its content was let go")
        for leaving in self.leaving.values():
            leaving.let_go()
        self.leaving.clear()


Ended = Callable[[Round, Transaction, float, Sequence[Outcome]], None]
"""Is told of a transaction that is over: when it began (seconds since 1970), and its outcomes."""


class Attempts:
    """Makes the attempts of one worker and records what they came to.

    Args:
        route: where mail for an address goes; empty where it would be refused.

    Attributes:
        news: is set when a notification has entered the queue.
        late: whether an outcome was recorded long after it was decided, so that what it deferred may be due already.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        agent: Deliverer,
        departures: Departures,
        senders: Senders,
        notifier: Notifier,
        route: Callable[[str], Awaitable[Sequence[Target]]],
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._store = store
        self._agent = agent
        self._departures = departures
        self._senders = senders
        self._notifier = notifier
        self._patience = notifier.patience
        self._route = route
        self._metrics = metrics
        self._stopping = False
        self.news = asyncio.Event()
        self.late = False

    def round(self, stored: StoredMessage, deliveries: Iterable[Delivery]) -> Round:
        """The deliveries of a message that are attempted together."""
        return Round.of(
            stored, deliveries, lambda one: (self._senders.mode(one), self._departures.rewrites(stored, one))
        )

    def stop(self) -> None:
        """Give up on what cannot be recorded: its lease ends, and it is attempted again."""
        self._stopping = True

    async def make(self, round: Round, ended: Ended) -> None:
        """Attempt every transaction of a round at once, and record the outcomes as they come."""
        if len(round.transactions) == 1:
            await self._attempt(round, round.transactions[0], ended)
            return
        round.waits = True
        tasks = [asyncio.create_task(self._attempt(round, group, ended)) for group in round.transactions]
        try:
            await asyncio.wait(tasks, timeout=TOGETHER)
            round.waits = False
            await self._settle_round(round, round.kept_back)
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _attempt(self, round: Round, group: Transaction, ended: Ended) -> None:
        began = time.time()
        outcomes: Sequence[Outcome] = ()
        try:
            outcomes = await self._outcomes(round, group)
        finally:
            ended(round, group, began, outcomes)
        attempts = [Attempt(d, o) for d, o in zip(group.deliveries, outcomes, strict=True)]
        if round.waits:
            now = time.time()
            round.kept_back += [a for a in attempts if concerns_sender(a, self._patience, now)]
            attempts = [a for a in attempts if not concerns_sender(a, self._patience, now)]
        await self._settle_round(round, attempts)

    async def _outcomes(self, round: Round, group: Transaction) -> Sequence[Outcome]:
        try:
            return await self._deliver(round, group)
        except QueueUnavailable as error:
            return _all_deferred(group, f"queue: {error}")
        except Exception:
            log.exception("attempt_failed", id=id_text(round.stored.id))
            return _all_deferred(group, "internal error")

    async def _deliver(self, round: Round, group: Transaction) -> Sequence[Outcome]:
        first = group.deliveries[0]
        decision = await self._senders.decide(round.stored, first, smtputf8=True)
        outcomes = await self._deliver_as(decision, round, group)
        if all(o.status == "failed" and o.enhanced == "5.6.7" for o in outcomes):
            plain = await self._senders.decide(round.stored, first, smtputf8=False)
            if plain.token_for is not None and decision.token_for is None:
                if group.bound.over:
                    return _all_deferred(group, group.bound.over)
                outcomes = await self._deliver_as(plain, round, group)
        return outcomes

    async def _deliver_as(self, decision: Decision, round: Round, group: Transaction) -> Sequence[Outcome]:
        first = group.deliveries[0]
        leaving = await self._leaving(round, first)
        if decision.token_for is not None or decision.reason == "srs":
            self._metrics.srs.add("rewritten")
        job = self._job(round.stored, leaving, group, decision, await self._senders.address(decision))
        domain = domain_of(first.recipient)
        return await self._agent.deliver(domain, self._config.next_hop(domain), job)

    async def _leaving(self, round: Round, one: Delivery) -> Leaving:
        rewrite_from = self._departures.rewrites(round.stored, one)
        found = round.leaving.get(rewrite_from)
        if found is None:
            if rewrite_from:
                self._metrics.replies.add("written")
            found = await self._departures.prepare(round.stored, rewrite_from=rewrite_from)
        return round.leaving.setdefault(rewrite_from, found)

    def _job(self, stored: StoredMessage, leaving: Leaving, group: Transaction, decision: Decision, sender: str) -> Job:
        message, deliveries = leaving.message, group.deliveries
        log.info(
            "attempt",
            id=id_text(stored.id),
            hop=shown_hop(group.hop),
            sender=sender,
            rewriting=decision.reason,
            from_rewritten=True if message is not stored.message else None,
            to=[d.recipient for d in deliveries],
            attempt=deliveries[0].attempts + 1,
        )
        return Job(
            sender=sender,
            recipients=tuple(_shown(d) for d in deliveries),
            size=leaving.octets,
            is_8bit=message.is_8bit,
            # A raw 8-bit header of mail that came without SMTPUTF8 goes on as it came: to bounce it would serve nobody.
            needs_smtputf8=stored.smtputf8 and message.has_utf8_header,
            ret=stored.ret,
            envid=stored.envid,
            content=leaving.wire,
            id=id_text(stored.id),
            bound=group.bound,
        )

    # what follows from it

    async def suspend(self, deliveries: Sequence[Delivery], outcome: Outcome) -> None:
        """Defer deliveries, under a lease, that share the fate of another's attempt at their next hop."""
        now, shared = time.time(), shared_fate(outcome)
        quiet: list[Delivery] = []
        by_message: dict[int, list[Attempt]] = {}
        for one in deliveries:
            attempt = Attempt(one, shared)
            if concerns_sender(attempt, self._patience, now):
                by_message.setdefault(one.message_id, []).append(attempt)
            else:
                quiet.append(one)
        if quiet:
            await self._record(suspend(quiet, shared, self._patience, random.random, now))
        for message_id, attempts in by_message.items():
            stored = await self.load(message_id, [a.delivery for a in attempts])
            if stored is not None:
                await self._settle(stored, attempts)

    async def load(self, message_id: int, deliveries: Sequence[Delivery]) -> StoredMessage | None:
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

    async def _settle_round(self, round: Round, attempts: Sequence[Attempt]) -> None:
        stored = round.stored
        if not round.has_content and any(needs_letter(a, self._patience, time.time()) for a in attempts):
            stored = await self._patiently(lambda: self._whole(stored))
        await self._settle(stored, attempts)

    async def _whole(self, stored: StoredMessage) -> StoredMessage:
        """A message with its content, which a letter about it returns; as it is where that is lost. Raises
        QueueUnavailable."""
        try:
            return await self._store.load(stored.id) or stored
        except Damaged as error:
            log.error("message_damaged", id=id_text(stored.id), problem=str(error))
            return stored

    async def _settle(self, stored: StoredMessage, attempts: Sequence[Attempt]) -> None:
        if not attempts:
            return
        home: Sequence[Target] = ()
        if needs_sender(stored, attempts):
            home = await self._patiently(lambda: self._route(stored.sender))
        await self._record(settle(stored, attempts, self._notifier, home, random.random, time.time()))

    async def _record(self, settlement: Settlement) -> None:
        await self._patiently(lambda: self._store.apply(settlement.change))
        for report in settlement.change.arrived:
            log_queued(report, settlement.change.deliveries)
            self.news.set()
        now = time.time()
        for event in settlement.events:
            age = now - given_at(event.attempt.delivery.message_id)
            self._metrics.deliveries.add(event.attempt.outcome.status)
            match event.name:
                case "delivered":
                    self._metrics.transit.observe(age)
                case "bounced":
                    self._metrics.bounces.add("sent")
                case "dead":
                    self._metrics.bounces.add("dead")
            _log_event(event, age)

    async def _patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """What `act` returns, as soon as the queue answers.

        Raises:
            QueueUnavailable: the relay stops and it still does not.
        """
        failed = False
        while True:
            try:
                done = await act()
            except QueueUnavailable as error:
                log.error("queue_unavailable", problem=str(error))
                failed = True
                if self._stopping:
                    raise
            else:
                self.late = self.late or failed
                return done
            await asyncio.sleep(SETTLE_RETRY)


def log_queued(stored: StoredMessage, deliveries: Iterable[Delivery]) -> None:
    """A message is safe now; `deliveries` may be those of others, too."""
    log.info(
        "queued",
        id=id_text(stored.id),
        sender=stored.sender,
        to=[d.recipient for d in deliveries if d.message_id == stored.id],
        size=len(stored.message.content),
    )


def _shown(one: Delivery) -> Recipient:
    """The recipient as the next hop gets to see it.

    Behind an alias, success and delay are never asked of the next hop: its notice would show the sender the mailbox.
    """
    if one.recipient == one.original or not one.notify:
        return Recipient(one.recipient, one.notify, one.orcpt if one.recipient == one.original else "")
    return Recipient(one.recipient, "FAILURE" if "FAILURE" in one.notify else "NEVER")


def _all_deferred(group: Transaction, text: str) -> Sequence[Outcome]:
    return tuple(Outcome("deferred", 451, "4.3.0", text) for _ in group.deliveries)


def _log_event(event: Event, age: float) -> None:
    one, outcome = event.attempt.delivery, event.attempt.outcome
    log.info(
        event.name,
        id=id_text(one.message_id),
        to=one.recipient,
        code=outcome.code,
        status=outcome.enhanced,
        text=outcome.text,
        host=outcome.host,
        address=outcome.address,
        tls=outcome.tls or None,
        delay=round(age, 3),
        **event.extra,
    )
