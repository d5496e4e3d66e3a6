"""What the commands of one SMTP connection lead to: MAIL, RCPT, and DATA down to the reply to its final dot.

`receive.session` speaks the protocol and asks a `Conversation`; `Intake` has what it takes to decide.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial

import structlog

from relay.authenticate import spf
from relay.authenticate.control_characters import refuse_control_characters
from relay.authenticate.dns_budget import Budget
from relay.authenticate.iprev import Iprev
from relay.authenticate.refusals import apply_spf
from relay.content_filter.scanned import Scanned
from relay.deliver.in_session import ClientGone
from relay.intake.intake import Intake
from relay.intake.origin import Origin
from relay.intake.parties import parties
from relay.intake.screening import RcptVerdict, Screen
from relay.intake.submission import missing_fields, refuse_authors, refuse_sender, with_fields_on_top
from relay.mail.arrival import Arrival
from relay.mail.envelope import Client, RcptTo
from relay.mail.message import Message
from relay.mail.off_loop import read_header, run_off_loop
from relay.mail.queue_id import id_text
from relay.mail.reply import ComeAgain, Refused, Reply
from relay.metrics import refusal
from relay.queue.database import QueueUnavailable
from relay.rate.traffic import Counted, UsedUp
from relay.receive.command import Transaction
from relay.receive.handler import Gone
from relay.route.router import Routed
from relay.route.srs_reverse import RouteRequest

log = structlog.get_logger()

TARGETS = 1000  # deliveries of one transaction, after aliases: as many as Postfix expands one recipient to


@dataclass(slots=True)
class _Accepted:
    """What a transaction has led to so far.

    Attributes:
        budget: the questions to DNS that its checks may still ask.
        spf: the SPF verdict, once it was asked for.
        refuses_unforwardable: whether a recipient wants mail refused for which DMARC would fail at the next hop. The
            first recipient decides it for the whole message.
        counted: for whom the message counts.
        screen: what access tables, DNS lists and the filter say of it; None before the first recipient, and where
            there are none.
    """

    budget: Budget
    routes: list[tuple[RcptTo, Routed]] = field(default_factory=list)
    targets: int = 0
    spf: spf.SpfVerdict | None = None
    refuses_unforwardable: bool = False
    counted: Counted = field(default_factory=Counted)
    screen: Screen | None = None


class Conversation:
    """Decides for one connection; a `Handler` of `receive.session`, to be used in a `with`."""

    def __init__(self, intake: Intake, client: Client) -> None:
        self._intake = intake
        self._accepted = _Accepted(intake.examiner.budget())
        self._iprev: asyncio.Future[Iprev] | None = None

    def __enter__(self) -> Conversation:
        self._intake.metrics.connections.add()
        self._intake.metrics.sessions.add(1)
        return self

    def __exit__(self, *_: object) -> None:
        """The connection is over; a look-up of its address that is still under way is cancelled."""
        self._intake.metrics.sessions.add(-1)
        if self._iprev is not None:
            self._iprev.cancel()

    def refused(self, reply: Reply) -> None:
        self._intake.metrics.refused.add(refusal(reply))

    def reset(self) -> None:
        self._accepted = _Accepted(self._intake.examiner.budget())

    # MAIL

    async def mail(self, client: Client, transaction: Transaction) -> None:
        """Refuses the sender of another user here, and not at RCPT: it is wrong for every recipient."""
        if client.user:
            refuse_sender(self._intake.user_senders, client.user, transaction.mail.sender)
        if not await self._intake.space.enough():
            raise Refused(452, "4.3.1", "Insufficient system storage, try again later")

    # RCPT

    async def rcpt(self, client: Client, transaction: Transaction, rcpt: RcptTo) -> None:
        accepted, sender = self._accepted, transaction.mail.sender
        request = RouteRequest(rcpt.recipient, sender, client, time.time(), rcpt.given)
        try:
            routed = await self._route(request, client)
        except QueueUnavailable as error:
            log.error("queue_unavailable", id=id_text(transaction.id), problem=str(error))
            raise Refused(451, "4.3.0", "the address cannot be looked up now, try again later") from None
        except Refused:
            self._intake.recipients.count_refused(request)
            raise
        self._intake.recipients.count_accepted(routed)
        refuses_unforwardable = self._intake.refuses_unforwardable(routed)
        if accepted.routes:
            self._refuse_mixed(sender, routed, refuses_unforwardable)
        screened = await self._screen(client, transaction, rcpt.recipient, routed)
        if screened.doubt and not screened.held and self._intake.doubtful is not None:
            place = f"<{rcpt.recipient}>: "
            self._intake.doubtful.refuse_over_budget(id_text(transaction.id), [routed], time.time(), place)
        if self._intake.traffic.is_limited:
            await self._count(client, sender, rcpt.recipient, routed, id_text(transaction.id))
        if accepted.screen is not None:
            accepted.screen.accept(screened)
        accepted.routes.append((rcpt, routed))
        accepted.targets += len(routed.targets)
        accepted.refuses_unforwardable = refuses_unforwardable
        self._begin_iprev(client)

    def _begin_iprev(self, client: Client) -> None:
        if self._iprev is None and client.known:
            self._iprev = self._intake.examiner.iprev(self._accepted.budget, client.ip)

    async def _reverse(self, client: Client) -> Iprev | None:
        """The look-up of the name of the client's address; None where the address is not known."""
        self._begin_iprev(client)
        return None if self._iprev is None else await self._iprev

    async def _screen(self, client: Client, transaction: Transaction, recipient: str, routed: Routed) -> RcptVerdict:
        """What the access tables and the DNS lists say. Raises Refused, as `Screen.recipient`."""
        if not self._intake.screening.is_needed:
            return RcptVerdict()
        if self._accepted.screen is None:
            sender = transaction.mail.sender
            spf = partial(self._spf, client, sender)
            origin = Origin(id_text(transaction.id), client, sender, spf, partial(self._reverse, client))
            self._accepted.screen = Screen(self._intake.screening, origin)
        return await self._accepted.screen.recipient(recipient, [target.address for target in routed.targets])

    async def _route(self, request: RouteRequest, client: Client) -> Routed:
        """Where a recipient leads.

        Only a client that may use the sender learns anything about the person behind a return address: where mail for
        that person leads, and whether a rate is used up.

        Raises:
            Refused: as `Router.route`, `Router.reverse`, `Router.refuse_over_rate` and `_check_sender`.
        """
        router = self._intake.recipients.router
        returned = await router.reverse(request)
        if returned is not None:
            await self._check_sender(client, request.sender)
            router.refuse_over_rate((returned,), request)
        routed = await router.route(request, returned)
        await self._check_sender(client, request.sender)
        router.refuse_over_rate(routed.persons, request)
        return routed

    def _refuse_mixed(self, sender: str, routed: Routed, refuses_unforwardable: bool) -> None:
        """Ask for a transaction of its own where a recipient cannot share the message with those before it.

        Raises:
            Refused: 452 4.5.3.
        """
        if self._accepted.targets + len(routed.targets) > TARGETS:
            raise ComeAgain(452, "4.5.3", "too many recipients behind these aliases, send the others again")
        routes = [routed, *(earlier for _, earlier in self._accepted.routes)]
        if not sender and self._intake.rebuilds_bounces(routes):
            raise ComeAgain(452, "4.5.3", "a bounce is for one recipient, send it for the others on its own")
        if refuses_unforwardable != self._accepted.refuses_unforwardable:
            raise ComeAgain(452, "4.5.3", "this recipient has another policy for the message, send it on its own")

    async def _check_sender(self, client: Client, sender: str) -> None:
        """Refuse a sender for whom SPF fails; one verdict serves all recipients of a transaction.

        Raises:
            Refused: 550 5.7.23, 550 5.7.24 or 451 4.7.24.
        """
        if not client.trusted:
            apply_spf(self._intake.config.spf, await self._spf(client, sender), client.ip)

    async def _count(self, client: Client, sender: str, recipient: str, routed: Routed, queue_id: str) -> None:
        """Count a recipient for the rates of mail. Raises ComeAgain 450 4.7.1, one has no room for it."""
        passes = not client.trusted and (await self._spf(client, sender)).result == "pass"
        whose = parties(client, sender, routed, spf_passes=passes)
        used_up = self._intake.traffic.accept(self._accepted.counted, whose, time.time())
        if used_up is not None:
            raise _too_much(used_up, queue_id, f"<{recipient}>: ")

    async def _spf(self, client: Client, sender: str) -> spf.SpfVerdict:
        if self._accepted.spf is None:
            self._accepted.spf = await self._intake.examiner.spf(self._accepted.budget, client, sender)
        return self._accepted.spf

    # DATA

    async def data(self, client: Client, transaction: Transaction, message: Message, gone: Gone) -> Reply:
        queue_id = id_text(transaction.id)
        try:
            delivered = await self._accept(await self._arrival(client, transaction, message), gone)
        except Refused as refused:
            log.info("refused", id=queue_id, ip=client.ip, reply=str(refused.reply))
            return refused.reply
        except QueueUnavailable as error:
            log.error("queue_unavailable", id=queue_id, problem=str(error))
            return Reply(452, "4.3.1", "the message cannot be stored now, try again later")
        except ClientGone:
            log.info("client_gone", id=queue_id, ip=client.ip)
            return Reply(451, "4.4.2", "the connection was closed before the message was handed on")
        self._intake.metrics.accepted.add()
        return Reply(250, "2.0.0", f"Ok: {'delivered' if delivered else 'queued'} as {queue_id}")

    async def _arrival(self, client: Client, transaction: Transaction, message: Message) -> Arrival:
        received = time.time()
        name = await self._iprev if self._iprev is not None else None
        client = client._replace(ptr=name.name if name is not None else "")
        whole = await run_off_loop(message, message.without_mbox_lines)
        if whole is not message:
            octets = len(message.content) - len(whole.content)
            log.info("mbox_lines_removed", id=id_text(transaction.id), octets=octets)
            await read_header(whole)
        if client.user:
            whole = await self._submitted(client, transaction, whole, received)
        recipients = tuple(transaction.recipients)
        return Arrival(transaction.id, received, client, transaction.mail, recipients, whole)

    async def _submitted(self, client: Client, transaction: Transaction, message: Message, now: float) -> Message:
        """The message of a user, with the fields that it lacks. Raises Refused, as `refuse_authors`."""
        refuse_authors(self._intake.user_senders, client.user, message)
        queue_id = id_text(transaction.id)
        log.info("submitted", id=queue_id, user=client.user)
        fields = missing_fields(message, self._intake.config.hostname, queue_id, now)
        if not fields:
            return message
        names = [field.name for field in Message(fields).fields]
        log.info("fields_added", id=queue_id, fields=names)
        message = await run_off_loop(message, partial(with_fields_on_top, message, fields))
        await read_header(message)
        return message

    async def _accept(self, arrival: Arrival, gone: Gone) -> bool:
        """Take a message in: examine it, complete it, and hand it to the next hop or make it safe in the queue.

        Returns:
            Whether the next hop has it.

        Raises:
            Refused: it is not accepted, here or by its next hop.
            ClientGone: the client is gone, and nobody has it.
            QueueUnavailable: it could not be stored.
        """
        intake, accepted, client, screen = self._intake, self._accepted, arrival.client, self._accepted.screen
        if screen is not None and screen.discarded:
            intake.discard(arrival, screen.discarded)
            return False
        routes = [routed for _, routed in accepted.routes]
        intake.refuse_loops(arrival.message, routes)
        if not client.trusted:
            await run_off_loop(arrival.message, partial(refuse_control_characters, arrival.message))
        spf_verdict = None if client.trusted else await self._spf(client, arrival.sender)
        name = await self._iprev if self._iprev is not None else None
        examination = await intake.examiner.examine(arrival, self._accepted.budget, spf_verdict, name)
        if examination.refusal is not None:
            raise Refused.of(examination.refusal)
        scanned = Scanned() if screen is None else await screen.message(examination)
        if scanned.discarded:
            intake.discard(arrival, scanned.discarded)
            return False
        examination = await intake.without_spam_fields(examination)
        stored = await intake.rebuilt_bounce(arrival, routes) or intake.completed(examination, routes, scanned.fields)
        doubtful = intake.doubtful if scanned.doubt else None
        if doubtful is not None and not scanned.held:
            doubtful.refuse_over_budget(arrival.queue_id, routes, arrival.received)
        used_up = intake.traffic.take(accepted.counted, len(arrival.message.content), arrival.received)
        if used_up is not None:
            raise _too_much(used_up, arrival.queue_id)
        intake.count(arrival, routes)
        if doubtful is not None and not scanned.held:
            doubtful.count(arrival, scanned.doubt, routes)
        deliveries = intake.deliveries(stored, self._accepted.routes, doubtful=doubtful is not None)
        if scanned.held:
            deliveries = intake.held(stored, deliveries, scanned.held)
        notice = await intake.expansion_notice(stored, self._accepted.routes)
        single = intake.single_in_session(deliveries, notice, trusted=client.trusted)
        if single is not None:
            return await intake.queue.hand_over(stored, single, gone)
        await intake.queue.put(stored, deliveries, notice)
        return False


def _too_much(used_up: UsedUp, queue_id: str, place: str = "") -> ComeAgain:
    """The refusal of mail for which a rate has no room. What is behind an alias is not told, only logged."""
    (kind, name), what = used_up
    log.info("rate_used_up", id=queue_id, rate=kind, name=name, what=what)
    whose = {
        "client": f"from your address ({what})",
        "user": f"of {name} ({what})",
        "sender_domain": f"from {name.partition(' ')[0]} ({what})",
    }.get(kind, "for this recipient")
    return ComeAgain(450, "4.7.1", f"{place}too much mail {whose} within a minute, try again later")
