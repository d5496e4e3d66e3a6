"""What a conversation needs to take a message in: each step of RCPT and DATA, for all connections of one worker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, Protocol

import structlog

from relay.accounts.user_senders import UserSenders
from relay.authenticate.examination import Examination
from relay.authenticate.examiner import Examiner
from relay.authenticate.forged_results import are_signed
from relay.bounce.notifier import Happening, Notice, Notifier
from relay.bounce.returns import Returns
from relay.config.model import Config
from relay.content_filter.spam_fields import strip_spam_fields
from relay.deliver.next_hop import NextHops
from relay.intake.fan_out import FORGED, fan_out
from relay.intake.recipients import Recipients
from relay.intake.screening import Screening
from relay.mail.address import domain_of
from relay.mail.arrival import Arrival
from relay.mail.envelope import RcptTo
from relay.mail.message import Message
from relay.mail.off_loop import run_off_loop
from relay.mail.queue_id import id_text
from relay.mail.reply import Refused
from relay.metrics import Metrics
from relay.queue.hop_keys import is_own_hop
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Delivery, StoredMessage
from relay.queue.stored_verdict import NextSeal, StoredVerdict
from relay.rate.traffic import Traffic
from relay.receive.handler import Gone
from relay.rewrite.from_decision import FromDecisions
from relay.rewrite.received_field import received_field
from relay.route.loops import is_looping, mark_fields, received_hops
from relay.route.router import Routed

log = structlog.get_logger()


class Space(Protocol):
    """Whether the disk has room for more mail (`queue.disk_space`)."""

    async def enough(self) -> bool: ...


class Queue(Protocol):
    """Where accepted messages go (`intake.enqueue`)."""

    async def put(self, stored: StoredMessage, deliveries: Sequence[Delivery], notice: Notice) -> None:
        """Make a message safe, with its deliveries and a notice to its sender.

        Raises:
            QueueUnavailable: nothing of it is stored.
        """
        ...

    async def hand_over(self, stored: StoredMessage, delivery: Delivery, gone: Gone) -> bool:
        """Offer a message to its next hop; make it safe where that does not take it. Returns whether it has taken it.

        Raises:
            Refused: the next hop refuses it for good.
            ClientGone: nobody has it, and the client is gone.
            QueueUnavailable: nobody has it.
        """
        ...


class Intake:
    """The steps of taking a message in.

    Args:
        secrets: with which loop marks are made.
        user_senders: the senders that users may use.
        traffic: how much mail is taken within a minute.
        screening: the access tables, the DNS lists and the filter.
    """

    def __init__(
        self,
        config: Config,
        metrics: Metrics,
        *,
        recipients: Recipients,
        examiner: Examiner,
        from_decisions: FromDecisions,
        returns: Returns,
        notifier: Notifier,
        secrets: Sequence[bytes],
        patience: RetrySchedule,
        next_hops: NextHops,
        space: Space,
        queue: Queue,
        user_senders: UserSenders,
        traffic: Traffic,
        screening: Screening,
    ) -> None:
        self.config = config
        self.metrics = metrics
        self.recipients = recipients
        self.examiner = examiner
        self.space = space
        self.queue = queue
        self.user_senders = user_senders
        self.traffic = traffic
        self.screening = screening
        self._from_decisions = from_decisions
        self._returns = returns
        self._notifier = notifier
        self._secrets = secrets
        self._patience = patience
        self._next_hops = next_hops

    # RCPT

    def refuses_unforwardable(self, routed: Routed) -> bool:
        """Whether a recipient wants a message refused for which DMARC would fail at the next hop."""
        return "reject" in self._from_decisions.treatments(target.address for target in routed.targets)

    def rebuilds_bounces(self, routes: Iterable[Routed]) -> bool:
        """Whether a bounce to these recipients is replaced by one of ours, as far as it can be read."""
        return self.config.srs.bounces == "rebuild" and any(routed.kind == "srs" for routed in routes)

    # DATA

    def refuse_loops(self, message: Message, routes: Iterable[Routed]) -> None:
        """Refuse a message that has been here before, or that has passed too many hosts.

        Raises:
            Refused: 554 5.4.6.
        """
        if received_hops(message) > self.config.receive.max_hops:
            raise Refused(554, "5.4.6", "too many hops, this message is looping")
        if is_looping(message, [routed.chain for routed in routes], self._secrets):
            raise Refused(554, "5.4.6", "this message has been forwarded here before, it is looping")

    async def rebuilt_bounce(self, arrival: Arrival, routes: Sequence[Routed]) -> StoredMessage | None:
        """Our bounce in the place of one that comes back to a sender; None for a message that goes on as it came."""
        returned = routes[0].returned
        if arrival.sender or returned is None or not self.rebuilds_bounces(routes):
            return None
        stored = await self._returns.rebuilt(arrival.message, arrival.id, returned.address, arrival.received)
        return None if stored is None else replace(stored, tls=arrival.tls_wish)

    async def without_spam_fields(self, examination: Examination) -> Examination:
        """The same without the fields of others that look like those of our filter, where there is one."""
        if self.screening.content is None:
            return examination
        message = examination.message
        stripped, fields = await run_off_loop(message, partial(strip_spam_fields, message))
        if not fields:
            return examination
        signed = are_signed(examination.arrival.message, fields)
        log.info("spam_fields_removed", id=examination.arrival.queue_id, fields=len(fields), signed=signed)
        return examination._replace(message=stripped, forged=(*examination.forged, *fields))

    def completed(self, examination: Examination, routes: Sequence[Routed], fields: bytes = b"") -> StoredMessage:
        """The message as it is stored: with our trace fields, and with what is kept of its examination.

        Raises:
            Refused: 550 5.7.1, a recipient wants mail refused for which DMARC would fail at the next hop.
        """
        arrival, mail = examination.arrival, examination.arrival.mail
        unforwardable = self._treat_unforwardable(examination, routes)
        trace = (
            self.examiner.results_field(examination)
            + fields
            + mark_fields([routed.chain for routed in routes], self._secrets)
            + received_field(
                arrival.client,
                self.config.hostname,
                arrival.queue_id,
                arrival.recipients[0].recipient if len(arrival.recipients) == 1 else "",
                mail.smtputf8,
                arrival.received,
                hidden=self.config.receive.hide_clients and arrival.client.user != "",
            )
        )
        return StoredMessage(
            id=arrival.id,
            received=arrival.received,
            sender=arrival.sender,
            trace=trace,
            message=examination.message,
            verdict=stored_verdict(examination, unforwardable=unforwardable),
            smtputf8=mail.smtputf8,
            ret=mail.ret,
            envid=mail.envid,
            tls=arrival.tls_wish,
        )

    def _treat_unforwardable(self, examination: Examination, routes: Iterable[Routed]) -> bool:
        reason = self._from_decisions.why_unforwardable(examination.verdict, examination.arrival.sender)
        if not reason:
            return False
        treatments = self._from_decisions.treatments(t.address for routed in routes for t in routed.targets)
        for treatment in treatments:
            self.metrics.unforwardable.add(treatment)
        queue_id = examination.arrival.queue_id
        log.info("unforwardable", id=queue_id, treatment=sorted(treatments), reason=reason)
        if "reject" in treatments:
            raise Refused(550, "5.7.1", f"{reason}: it would fail at the next hop, so it is not forwarded from here")
        return True

    def count(self, arrival: Arrival, routes: Iterable[Routed]) -> None:
        """Count a message for the rates of those whom it is for.

        Raises:
            Refused: 450 4.7.1, a rate is used up.
        """
        if not self.recipients.router.count(routes, arrival.sender, arrival.client, arrival.received):
            raise Refused(450, "4.7.1", "too many messages to the address behind a recipient, try later")

    def deliveries(self, stored: StoredMessage, routes: Sequence[tuple[RcptTo, Routed]]) -> list[Delivery]:
        """The deliveries of a message, see `fan_out`."""
        expires = self._patience.expires(stored.received, stored.sender)
        deliveries = fan_out(stored, routes, partial(self._next_hops.key, own=stored.is_own), expires)
        for delivery in deliveries:
            if delivery.state == "dead":
                log.warning("forged_kept", id=id_text(stored.id), rcpt=delivery.recipient, problem=FORGED)
                self.metrics.bounces.add("dead")
        return deliveries

    def held(self, stored: StoredMessage, deliveries: Sequence[Delivery], why: str) -> list[Delivery]:
        """The deliveries of a message that waits for `queue release`."""
        log.info("held", id=id_text(stored.id), reason=why)
        until = stored.received + self.config.filter.hold_for
        held = partial(replace, state="held", held_until=until, hold_reason=why)
        return [held(delivery) if delivery.state == "queued" else delivery for delivery in deliveries]

    def discard(self, arrival: Arrival, why: str) -> None:
        """Tells the log of a message that is accepted and not delivered."""
        log.info("discarded", id=arrival.queue_id, sender=arrival.sender, reason=why)
        self.metrics.discarded.add()

    def single_in_session(self, deliveries: Sequence[Delivery], notice: Notice, *, trusted: bool) -> Delivery | None:
        """The delivery of a message that is offered to its next hop while the client waits; None for one that goes
        into the queue.

        Where success is to be reported, the queue keeps the message until that is done.
        """
        if len(deliveries) != 1 or notice.report is not None:
            return None
        (delivery,) = deliveries
        if delivery.state != "queued" or is_own_hop(delivery.hop) or "SUCCESS" in delivery.notify:
            return None
        domain = domain_of(delivery.recipient)
        mode = self.config.delivery_mode(domain)
        if mode == "auto":
            mode = "queue" if trusted or domain in self.config.routes.domains else "in-session"
        return delivery if mode == "in-session" else None

    async def expansion_notice(self, stored: StoredMessage, routes: Sequence[tuple[RcptTo, Routed]]) -> Notice:
        """What the sender is told of aliases with several targets, where success was to be reported: nothing more
        can be said of such a recipient (RFC 3461 section 5.2.7.2)."""
        lists = [rcpt for rcpt, routed in routes if len(routed.targets) > 1 and "SUCCESS" in rcpt.notify]
        if not lists:
            return Notice()
        happened = [
            Happening(
                Delivery(stored.id, 0, rcpt.recipient, rcpt.recipient, notify=rcpt.notify, orcpt=rcpt.orcpt), 0, ""
            )
            for rcpt in lists
        ]
        targets = await self.recipients.targets_of_sender(stored.sender)
        return self._notifier.notice("expanded", stored, happened, targets, stored.received)


def stored_verdict(examination: Examination, *, unforwardable: bool) -> StoredVerdict:
    """What the queue keeps of an examination."""
    verdict = examination.verdict
    chain = verdict.arc
    instance = chain.sets[0].instance + 1 if chain.sets else 1
    cv: Literal["none", "pass"] = "pass" if chain.result == "pass" else "none"
    seal = NextSeal(cv, instance, examination.seal_is_useful) if verdict.may_be_sealed else None
    return StoredVerdict(
        trusted=verdict.trusted,
        spf=verdict.spf.result if verdict.spf is not None else "",
        dmarc=verdict.dmarc.result if verdict.dmarc is not None else "",
        aligned=verdict.aligned,
        sender_signed=verdict.sender_signed,
        unforwardable=unforwardable,
        authors=verdict.proven_authors,
        seal=seal,
    )
