"""Attempts to deliver messages: the sender and the signatures they leave with, and the outcome of each delivery.

Deliveries of a message that are leased together are attempted together: in one batch for each next hop, that is one
outgoing transaction. The sender hears in one notification of all that failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from relay.config.destinations import Destination
from relay.deliver.deadline import Deadline
from relay.deliver.destination_limits import ADMITTED, Admission, NoRoom
from relay.deliver.host_failover import Job
from relay.deliver.next_hop import NextHop, NextHops
from relay.deliver.outgoing import OutgoingMessage, OutgoingMessages
from relay.deliver.recorder import Observer, Recorder
from relay.deliver.settlement import Result, concerns_sender, may_need_notification
from relay.mail.address import domain_of
from relay.mail.envelope import Recipient
from relay.mail.message import Message
from relay.mail.outcome import Outcome
from relay.mail.queue_id import id_text
from relay.metrics import Metrics
from relay.queue.database import QueueUnavailable
from relay.queue.hop_keys import is_doubtful_hop, shown_hop
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Delivery, StoredMessage
from relay.rewrite.sender import Decision
from relay.rewrite.senders import Senders

log = structlog.get_logger()

RECIPIENTS = 100  # of one batch: RFC 5321 section 4.5.3.1.8 lets every server refuse more
TOGETHER = 30.0  # seconds for which the failures of a message wait for its other batches, to share a notification


class Deliverer(Protocol):
    """What carries a job to its next hop (`deliver.host_failover.DeliveryAgent`)."""

    async def deliver(self, next_hop: NextHop, job: Job) -> tuple[Outcome, ...]: ...

    async def destination(self, next_hop: NextHop) -> Destination | None: ...


@dataclass(eq=False, slots=True)
class Batch:
    """Deliveries of a message that leave in one outgoing transaction: they share a next hop and a sender.

    Attributes:
        bound: the time that the batch may take.
        admission: what lets it begin under the numbers of `[[delivery.destinations]]`.
        signed_by: the keys that have signed the message, as `domain:selector`.
    """

    deliveries: Sequence[Delivery]
    bound: Deadline = field(default_factory=Deadline)
    admission: Admission = ADMITTED
    signed_by: tuple[str, ...] = ()

    @property
    def hop(self) -> str:
        """The key of their next hop, see `Delivery.hop`."""
        return self.deliveries[0].hop


@dataclass(eq=False, slots=True)
class Attempt:
    """One try at those deliveries of a message that were leased together.

    Attributes:
        stored: the message; its content is empty once it was freed.
        waits: whether failures are kept back until the other batches are over.
        kept_back: the results that the sender may have to be told of.
        outgoing: the message as it leaves, by whether From is rewritten; each is made for the first batch that needs
            it.
    """

    stored: StoredMessage
    batches: Sequence[Batch]
    waits: bool = False
    kept_back: list[Result] = field(default_factory=list)
    outgoing: dict[bool, OutgoingMessage] = field(default_factory=dict)
    has_content: bool = True

    def free_content(self) -> None:
        """Free the memory of a message that every next hop has received. No delivery is tried again in this attempt."""
        self.has_content = False
        self.stored = replace(self.stored, message=Message(b""))
        for batch in self.batches:
            batch.bound.end("its content was let go")
        for outgoing in self.outgoing.values():
            outgoing.free()
        self.outgoing.clear()


class AttemptObserver(Observer, Protocol):
    """Is told how attempts go (`deliver.dispatcher`)."""

    def batch_ended(self, attempt: Attempt, batch: Batch, began: float, outcomes: Sequence[Outcome]) -> None:
        """A batch is over; it began at `began` (seconds since 1970)."""

    def put_back(self, batch: Batch, table: Destination) -> None:
        """A batch was not tried, since a table of `[[delivery.destinations]]` had no room. Its deliveries are due."""


class Attempts:
    """Makes the attempts of one worker.

    Args:
        patience: when the sender is told of a delay.
    """

    def __init__(
        self,
        agent: Deliverer,
        next_hops: NextHops,
        messages: OutgoingMessages,
        senders: Senders,
        recorder: Recorder,
        patience: RetrySchedule,
        metrics: Metrics,
    ) -> None:
        self._agent = agent
        self._next_hops = next_hops
        self._messages = messages
        self._senders = senders
        self._recorder = recorder
        self._patience = patience
        self._metrics = metrics

    def prepare(self, stored: StoredMessage, deliveries: Sequence[Delivery]) -> Attempt:
        """The attempt at deliveries of a message, sorted into batches: those that leave in the same way share one."""
        if len(deliveries) == 1:
            return Attempt(stored, [Batch(deliveries)])
        by_domain: dict[Hashable, list[Delivery]] = {}
        for delivery in deliveries:
            by_domain.setdefault((delivery.hop, delivery.srs, domain_of(delivery.recipient)), []).append(delivery)
        groups: dict[Hashable, list[Delivery]] = {}
        for some in by_domain.values():
            groups.setdefault((some[0].hop, *self._way(stored, some[0])), []).extend(some)
        return Attempt(
            stored,
            [Batch(g[start : start + RECIPIENTS]) for g in groups.values() for start in range(0, len(g), RECIPIENTS)],
        )

    def _way(self, stored: StoredMessage, delivery: Delivery) -> tuple[Hashable, ...]:
        """What the sender and the form of a message depend on, by the domain of a recipient."""
        return (
            self._next_hop(delivery),
            self._senders.mode(delivery),
            self._messages.rewrites_from(stored, delivery),
        )

    def _next_hop(self, delivery: Delivery) -> NextHop:
        """Where a delivery goes now, which may have changed since it was stored."""
        return self._next_hops.of(delivery.recipient, doubtful=is_doubtful_hop(delivery.hop))

    async def make(self, attempt: Attempt, observer: AttemptObserver) -> None:
        """Deliver all batches at once, and record the outcomes as they come.

        Raises:
            QueueUnavailable: the relay stops, and the outcomes cannot be recorded.
        """
        if len(attempt.batches) == 1:
            await self._deliver(attempt, attempt.batches[0], observer)
            return
        attempt.waits = True
        tasks = [asyncio.create_task(self._deliver(attempt, batch, observer)) for batch in attempt.batches]
        try:
            await asyncio.wait(tasks, timeout=TOGETHER)
            attempt.waits = False
            await self.settle(attempt, attempt.kept_back, observer)
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _deliver(self, attempt: Attempt, batch: Batch, observer: AttemptObserver) -> None:
        try:
            results = await self.results(attempt, batch, observer)
        except NoRoom as no_room:
            await self.put_back(batch, no_room.destination, observer)
            return
        if attempt.waits:
            now = time.time()
            attempt.kept_back += [result for result in results if concerns_sender(result, self._patience, now)]
            results = [result for result in results if not concerns_sender(result, self._patience, now)]
        await self.settle(attempt, results, observer)

    async def results(self, attempt: Attempt, batch: Batch, observer: AttemptObserver) -> Sequence[Result]:
        """Send one batch. Nothing is recorded. Never raises for what a server does, or for what the queue lacks.

        Raises:
            NoRoom: it was not tried.
        """
        began = time.time()
        outcomes: Sequence[Outcome] = ()
        try:
            outcomes = await self._send(attempt, batch)
        except NoRoom:
            raise
        except QueueUnavailable as error:
            outcomes = _all_deferred(batch, f"queue: {error}")
        except Exception:
            log.exception("attempt_failed", id=id_text(attempt.stored.id))
            outcomes = _all_deferred(batch, "internal error")
        finally:
            observer.batch_ended(attempt, batch, began, outcomes)
        hidden = [delivery.recipient for delivery in batch.deliveries if delivery.is_aliased]
        return [
            Result(delivery, outcome, batch.signed_by, _is_quotable(delivery, outcome, hidden))
            for delivery, outcome in zip(batch.deliveries, outcomes, strict=True)
        ]

    async def put_back(self, batch: Batch, table: Destination, observer: AttemptObserver) -> None:
        """Let a batch wait in the queue that was not tried, since the table of its next hop had no room.

        Raises:
            QueueUnavailable: the relay stops, and this cannot be recorded.
        """
        await self._recorder.put_back(batch.deliveries, observer)
        observer.put_back(batch, table)

    async def settle(self, attempt: Attempt, results: Sequence[Result], observer: Observer) -> None:
        """Record the outcomes of deliveries that are in the queue.

        Raises:
            QueueUnavailable: the relay stops, and they cannot be recorded.
        """
        stored, now = attempt.stored, time.time()
        if not attempt.has_content and any(may_need_notification(result, self._patience, now) for result in results):
            stored = await self._recorder.whole(stored, observer)
        await self._recorder.settle(stored, results, observer)

    async def _send(self, attempt: Attempt, batch: Batch) -> Sequence[Outcome]:
        """Send with the sender that a next hop with SMTPUTF8 gets, and again with another where the next hop has
        none."""
        first = batch.deliveries[0]
        next_hop = self._next_hop(first)
        if batch.admission.is_needed:
            batch.admission.enter(next_hop.key, await self._agent.destination(next_hop))
        decision = await self._senders.decide(attempt.stored, first, smtputf8=True)
        outcomes = await self._send_as(decision, next_hop, attempt, batch)
        if outcomes[0].status == "failed" and all(map(_lacks_smtputf8, outcomes)):
            ascii_decision = await self._senders.decide(attempt.stored, first, smtputf8=False)
            if ascii_decision.token_for is not None and decision.token_for is None:
                if batch.bound.over:
                    return _all_deferred(batch, batch.bound.over)
                outcomes = await self._send_as(ascii_decision, next_hop, attempt, batch)
        return outcomes

    async def _send_as(
        self, decision: Decision, next_hop: NextHop, attempt: Attempt, batch: Batch
    ) -> Sequence[Outcome]:
        first = batch.deliveries[0]
        outgoing = await self._outgoing(attempt, first)
        if decision.token_for is not None or decision.reason == "srs":
            self._metrics.srs.add("rewritten")
        sender = await self._senders.address(decision)
        job = _job(attempt.stored, outgoing, batch, sender)
        log.info(
            "attempt",
            id=job.id,
            hop=shown_hop(next_hop.key),
            doubtful=next_hop.doubtful or None,
            sender=sender,
            rewriting=decision.reason,
            from_rewritten=True if outgoing.message is not attempt.stored.message else None,
            to=[delivery.recipient for delivery in batch.deliveries],
            attempt=first.attempts + 1,
        )
        outcomes = await self._agent.deliver(next_hop, job)
        batch.signed_by = outgoing.signed_by
        return outcomes

    async def _outgoing(self, attempt: Attempt, delivery: Delivery) -> OutgoingMessage:
        rewrites_from = self._messages.rewrites_from(attempt.stored, delivery)
        outgoing = attempt.outgoing.get(rewrites_from)
        if outgoing is None:
            if rewrites_from:
                self._metrics.replies.add("written")
            outgoing = await self._messages.prepare(attempt.stored, rewrite_from=rewrites_from)
        return attempt.outgoing.setdefault(rewrites_from, outgoing)


def _job(stored: StoredMessage, outgoing: OutgoingMessage, batch: Batch, sender: str) -> Job:
    return Job(
        sender=sender,
        recipients=tuple([_shown(delivery) for delivery in batch.deliveries]),
        size=outgoing.octets,
        is_8bit=outgoing.message.is_8bit,
        # Mail that came with a raw 8-bit header and without SMTPUTF8 goes on as it came: a bounce would help nobody.
        needs_smtputf8=stored.smtputf8 and outgoing.message.has_utf8_header,
        ret=stored.ret,
        envid=stored.envid,
        content=outgoing.wire,
        id=id_text(stored.id),
        bound=batch.bound,
        tls=stored.tls,
        admission=batch.admission,
    )


def _shown(delivery: Delivery) -> Recipient:
    """The recipient as the next hop sees it.

    Behind an alias, success and delay are never asked of the next hop: its notice would show the sender the mailbox.
    """
    if delivery.recipient == delivery.original or not delivery.notify:
        orcpt = delivery.orcpt if delivery.recipient == delivery.original else ""
        return Recipient(delivery.recipient, delivery.notify, orcpt)
    return Recipient(delivery.recipient, "FAILURE" if "FAILURE" in delivery.notify else "NEVER")


def _lacks_smtputf8(outcome: Outcome) -> bool:
    """Whether only a next hop with SMTPUTF8 can take the sender or the recipient."""
    return outcome.status == "failed" and outcome.enhanced == "5.6.7"


def _all_deferred(batch: Batch, text: str) -> Sequence[Outcome]:
    return tuple(Outcome("deferred", 451, "4.3.0", text) for _ in batch.deliveries)


def _is_quotable(delivery: Delivery, outcome: Outcome, hidden: Sequence[str]) -> bool:
    """Whether the sender may read the words of an outcome.

    Args:
        hidden: the mailboxes behind aliases that shared the transaction. A reply about all of it may name them in any
            way, one about this recipient alone only as they are.
    """
    if not hidden:
        return True
    words = outcome.words.lower()
    return outcome.individual and not delivery.is_aliased and not any(mailbox.lower() in words for mailbox in hidden)
