"""The story of one message, told from its arrival to the queue; `deliver.dispatch` tells the rest.

`Conversation` is what a client's commands set in motion, in their order: who may send, where it goes, what SPF says of
it, the trace fields on top, and the queue before the 250. `Relay` wires the stages that it asks; `worker` runs it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from relay.authenticate import refusals as policy
from relay.authenticate import spf
from relay.authenticate.control_characters import refuse_controls
from relay.authenticate.dns_budget import Budget
from relay.authenticate.examiner import Examiner
from relay.authenticate.verdict import Verdict
from relay.bounce.notifier import Happening, Notice, Notifier, from_domain
from relay.bounce.rebuild import ReportingMta
from relay.bounce.returns import Returns
from relay.config.model import Config
from relay.deliver.attempts import Attempts, log_queued
from relay.deliver.dispatcher import Dispatcher, hop_of
from relay.deliver.host_failover import Agent
from relay.deliver.outgoing import Departures
from relay.dns import Iprev, Resolver, iprev
from relay.intake.fan_out import FORGED, fan_out
from relay.mail.message import Client, Message
from relay.mail.off_loop import aside, read_header
from relay.mail.queue_id import QueueIds
from relay.mail.queue_id import text as id_text
from relay.mail.reply import Refused, Reply
from relay.metrics import Metrics, refusal
from relay.process.files import Files
from relay.queue.database import QueueUnavailable
from relay.queue.disk_space import FreeSpace
from relay.queue.retry_schedule import Patience
from relay.queue.store import Change, Delivery, Store, StoredMessage
from relay.rate import Rates
from relay.receive.command import RcptTo, Transaction
from relay.rewrite.received_field import received_field
from relay.rewrite.senders import Senders
from relay.route.loops import is_looping, mark_fields, received_hops
from relay.route.router import Routed, Router, Target
from relay.route.srs_reverse import Question
from relay.srs.reply_address import STORED_FOR, is_reply

log = structlog.get_logger()

TARGETS = 1000  # deliveries of one transaction, after aliases: as many as Postfix expands one recipient to


@dataclass(slots=True)
class _Accepted:
    """What the accepted recipients of a transaction have led to.

    Attributes:
        budget: the questions to DNS that its checks have left.
    """

    budget: Budget
    routes: list[tuple[RcptTo, Routed]] = field(default_factory=list)
    targets: int = 0
    spf: spf.SpfVerdict | None = None
    rejects: bool = False  # what forwarding would make fail: the first recipient decides it for the whole message


class Conversation:
    """Decides for one connection; a `Handler` of `receive.session`, to be used in a `with`."""

    def __init__(self, relay: Relay, client: Client) -> None:
        self._relay = relay
        self._accepted = _Accepted(relay.examiner.budget())
        self._iprev: asyncio.Task[Iprev] | None = None

    def __enter__(self) -> Conversation:
        self._relay.metrics.connections.add()
        self._relay.metrics.sessions.add(1)
        return self

    def __exit__(self, *_: object) -> None:
        """The connection is over: what was still asked for it is not needed."""
        self._relay.metrics.sessions.add(-1)
        if self._iprev is not None:
            self._iprev.cancel()

    def refused(self, reply: Reply) -> None:
        self._relay.metrics.refused.add(refusal(reply))

    def reset(self) -> None:
        self._accepted = _Accepted(self._relay.examiner.budget())

    async def mail(self, client: Client, transaction: Transaction) -> None:
        if not await self._relay.space.enough():
            raise Refused(452, "4.3.1", "Insufficient system storage, try again later")

    async def rcpt(self, client: Client, transaction: Transaction, rcpt: RcptTo) -> None:
        sender = transaction.mail.sender
        try:
            check = partial(self._check_sender, client, sender)
            routed = await self._relay.route(Question(rcpt.recipient, sender, client, time.time(), check, rcpt.given))
        except QueueUnavailable as error:
            log.error("queue_unavailable", id=id_text(transaction.id), problem=str(error))
            raise Refused(451, "4.3.0", "the address cannot be looked up now, try again later") from None
        if self._accepted.routes and self._accepted.targets + len(routed.targets) > TARGETS:
            raise Refused(452, "4.5.3", "too many recipients behind these aliases, send the others again")
        if (
            self._accepted.routes
            and not sender
            and self._relay.rebuilds([routed, *(r for _, r in self._accepted.routes)])
        ):
            raise Refused(452, "4.5.3", "a bounce is for one recipient, send it for the others on its own")
        rejects = self._relay.examiner.rejects_unforwardable(target.address for target in routed.targets)
        if self._accepted.routes and rejects != self._accepted.rejects:
            raise Refused(452, "4.5.3", "this recipient has another policy for the message, send it on its own")
        await self._check_sender(client, sender)
        self._accepted.routes.append((rcpt, routed))
        self._accepted.targets += len(routed.targets)
        self._accepted.rejects = rejects
        if self._iprev is None and client.known:
            self._iprev = asyncio.create_task(iprev(self._accepted.budget.iprev, client.ip))

    async def _check_sender(self, client: Client, sender: str) -> None:
        """SPF, as far as it decides alone; one verdict serves all recipients of a transaction.

        Raises:
            Refused: the client may not write in the sender's name.
        """
        if not client.trusted:
            policy.apply_spf(self._relay.config.spf, await self._spf(client, sender), client.ip)

    async def _spf(self, client: Client, sender: str) -> spf.SpfVerdict:
        if self._accepted.spf is None:
            self._accepted.spf = await self._relay.examiner.spf(self._accepted.budget, client, sender)
        return self._accepted.spf

    async def data(self, client: Client, transaction: Transaction, message: Message) -> Reply:
        relay, accepted, now = self._relay, self._accepted, time.time()
        queue_id, sender = id_text(transaction.id), transaction.mail.sender
        routes = [routed for _, routed in accepted.routes]
        name = await self._iprev if self._iprev is not None else None
        client = replace(client, ptr=name.name if name is not None else "")
        message = await relay.examiner.without_mbox_lines(message, queue_id)
        await read_header(message)
        try:
            relay.check_loops(message, routes)
            if not client.trusted:
                await aside(message, partial(refuse_controls, message))
            found = None if client.trusted else await self._spf(client, sender)
            verdict = await relay.examiner.verdict(accepted.budget, client, sender, message, found, name)
            override = await relay.examiner.judge(accepted.budget, client, sender, message, verdict, queue_id)
            stored = await relay.rebuild(transaction.id, sender, message, routes, now)
            breaks = ""
            if stored is None:
                targets = (target.address for routed in routes for target in routed.targets)
                breaks = relay.examiner.treat_unforwardable(verdict, sender, queue_id, targets)
        except Refused as refused:
            log.info("refused", id=queue_id, reply=str(refused.reply))
            return refused.reply
        ours = stored is not None
        if stored is None:
            message = await relay.examiner.without_forged(message, verdict, queue_id)
            stored = relay.complete(client, transaction, message, verdict, override, breaks, routes, now)
        if not relay.count(routes, sender, client, now):
            reply = Reply(450, "4.7.1", "too many messages to the address behind a recipient, try later")
            log.info("refused", id=queue_id, reply=str(reply))
            return reply
        try:
            deliveries = relay.deliveries(stored, accepted.routes, ours=ours)
            await relay.enqueue(stored, deliveries, await relay.expansions(stored, accepted.routes))
        except QueueUnavailable as error:
            log.error("queue_unavailable", id=queue_id, problem=str(error))
            return Reply(452, "4.3.1", "the message cannot be stored now, try again later")
        relay.metrics.accepted.add()
        return Reply(250, "2.0.0", f"Ok: queued as {queue_id}")


class Relay:
    """The stages of one worker, wired.

    Args:
        files: what the configuration names, read.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        resolver: Resolver,
        metrics: Metrics,
        files: Files,
        rates: Rates,
    ) -> None:
        self.config = config
        self.resolver = resolver
        self.metrics = metrics
        self._store = store
        self.ids = QueueIds(time.time)
        self.space = FreeSpace(config.queue.folder, config.queue.min_free, store.reusable, store.dead.drop_some)
        self.examiner = Examiner(config, resolver, metrics, files.signer)
        self._scheme = files.scheme
        self.agent = Agent(config, resolver, files.password)
        self._router = Router(
            config,
            self._scheme,
            files.tables,
            rates,
            probe=self.agent.probe,
            token_lookup=lambda token: store.sender_of(token, time.time()),
            own_addresses=self._addresses_of_our_name,
        )
        mailer_daemon_at = from_domain([key.domain for key in files.signer.table.forwarder], config.srs.domain)
        self._returns = Returns(ReportingMta(config.hostname, mailer_daemon_at, self._scheme.secrets))
        self._patience = Patience(
            config.queue.retry_min, config.queue.retry_max, config.queue.retry_for, config.queue.bounce_retry_for
        )
        self._notifier = Notifier(
            config.hostname,
            mailer_daemon_at,
            self._patience,
            self.ids,
            partial(hop_of, config, ours=True),
            rates.notices,
            config.bounces.to,
        )
        self.senders = Senders(config, self._scheme, store, resolver)
        self.departures = Departures(config, files.signer, self._scheme, self._keep_author)
        attempts = Attempts(
            config,
            store,
            self.agent,
            self.departures,
            self.senders,
            self._notifier,
            self._home,
            metrics,
        )
        memory = config.limits.message_memory // (2 * config.workers)
        self.dispatcher = Dispatcher(config, store, attempts, memory)

    # what a conversation asks

    async def route(self, asked: Question) -> Routed:
        """Where a recipient leads; without a client it is mail of our own. Raises Refused."""
        try:
            routed = await self._router.route(asked)
        except Refused:
            if self._router.leads_home(asked.recipient):
                (self.metrics.replies if is_reply(asked.recipient) else self.metrics.srs).add("rejected")
            raise
        if routed.kind == "srs":
            self.metrics.srs.add("rejected" if routed.home is not None and routed.home.forged else "reversed")
        elif routed.kind == "reply":
            self.metrics.replies.add("reversed")
        return routed

    def count(self, routes: Iterable[Routed], sender: str, client: Client, now: float) -> bool:
        """See `Router.count`."""
        return self._router.count(routes, sender, client, now)

    async def _addresses_of_our_name(self) -> list[str]:
        """What DNS has for our host name: behind a NAT no listener knows that. Raises DnsFailure."""
        name = self.config.hostname
        return [ip for rdtype in ("A", "AAAA") for ip in (await self.resolver.query(name, rdtype)).records]

    async def _home(self, sender: str) -> Sequence[Target]:
        """Where mail for a sender goes: to one of our own domains by its route, to others as anywhere."""
        try:
            return (await self.route(Question(sender, "", None, time.time()))).targets
        except Refused as refused:
            log.info("sender_unreachable", sender=sender, reply=str(refused.reply))
            return ()

    async def _keep_author(self, author: str, token: str) -> str:
        return await self._store.keep_author(author, token, time.time(), STORED_FOR)

    def check_loops(self, message: Message, routes: Sequence[Routed]) -> None:
        """Raises Refused 554 5.4.6 for a message that has been here before, or nearly everywhere."""
        if received_hops(message) > self.config.receive.max_hops:
            raise Refused(554, "5.4.6", "too many hops, this message is looping")
        if is_looping(message, [routed.chain for routed in routes], self._scheme.secrets):
            raise Refused(554, "5.4.6", "this message has been forwarded here before, it is looping")

    def rebuilds(self, routes: Iterable[Routed]) -> bool:
        """Whether a bounce to these recipients is replaced by one of ours, as far as it can be read."""
        return self.config.srs.bounces == "rebuild" and any(routed.kind == "srs" for routed in routes)

    async def rebuild(
        self, number: int, sender: str, message: Message, routes: Sequence[Routed], now: float
    ) -> StoredMessage | None:
        """Our notification in place of one that comes home; None for what goes on as it came."""
        home = routes[0].home
        if sender or home is None or not self.rebuilds(routes):
            return None
        return await self._returns.rebuilt(message, number, home.address, now)

    def complete(
        self,
        client: Client,
        transaction: Transaction,
        message: Message,
        verdict: Verdict,
        override: str,
        breaks: str,
        routes: Sequence[Routed],
        now: float,
    ) -> StoredMessage:
        """The message as it is stored, with our trace fields made.

        Args:
            override: why a DMARC failure does not count.
            breaks: why DMARC would fail behind us, and From may have to be rewritten.
        """
        queue_id = id_text(transaction.id)
        recipients = transaction.recipients
        trace = (
            self.examiner.results_field(client, transaction.mail.sender, verdict, override)
            + mark_fields([routed.chain for routed in routes], self._scheme.secrets)
            + received_field(
                client,
                self.config.hostname,
                queue_id,
                recipients[0].recipient if len(recipients) == 1 else "",
                transaction.mail.smtputf8,
                now,
            )
        )
        return StoredMessage(
            id=transaction.id,
            received=now,
            sender=transaction.mail.sender,
            trace=trace,
            message=message,
            verdict=verdict.to_json(unforwardable=bool(breaks)),
            smtputf8=transaction.mail.smtputf8,
            ret=transaction.mail.ret,
            envid=transaction.mail.envid,
        )

    def deliveries(
        self, stored: StoredMessage, routes: Sequence[tuple[RcptTo, Routed]], *, ours: bool = False
    ) -> list[Delivery]:
        """See `relay.intake.fan_out`. With `ours` the message is one that we wrote."""
        expires = self._patience.expires(stored.received, stored.sender)
        found = fan_out(stored, routes, partial(hop_of, self.config, ours=ours), expires)
        for one in found:
            if one.state == "dead":
                log.warning("forged_kept", id=id_text(stored.id), rcpt=one.recipient, problem=FORGED)
                self.metrics.bounces.add("dead")
        return found

    async def expansions(self, stored: StoredMessage, routes: Sequence[tuple[RcptTo, Routed]]) -> Notice:
        """What the sender is told of aliases with several targets where success was to be reported: that is the end of
        what can be said of such a recipient (RFC 3461 section 5.2.7.2)."""
        lists = [rcpt for rcpt, routed in routes if len(routed.targets) > 1 and "SUCCESS" in rcpt.notify]
        if not lists:
            return Notice()
        happened = [
            Happening(
                Delivery(stored.id, 0, rcpt.recipient, rcpt.recipient, notify=rcpt.notify, orcpt=rcpt.orcpt), 0, ""
            )
            for rcpt in lists
        ]
        home = await self._home(stored.sender)
        return self._notifier.notice("expanded", stored, happened, home, stored.received)

    async def enqueue(self, stored: StoredMessage, deliveries: list[Delivery], notice: Notice) -> None:
        """Make the message safe; attempt it right away where there is room, otherwise leave it to the queue.

        Raises:
            QueueUnavailable: it is not safe.
        """
        reports = [notice.report] if notice.report is not None else []
        live = [one for one in deliveries if one.state == "queued"]
        dead = [one for one in deliveries if one.state == "dead"]
        now = self.dispatcher.has_room({d.hop for d in live}, len(stored.message.content))
        if now:
            live = self.dispatcher.leased(live)
        await self._store.apply(Change(arrived=[stored, *reports], deliveries=[*live, *dead, *notice.deliveries]))
        log_queued(stored, [*live, *dead])
        for report in reports:
            log_queued(report, notice.deliveries)
        if now and live:
            self.dispatcher.take(stored, live)
