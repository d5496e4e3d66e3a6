"""A message's way without sending anything: the conversation of the door, a resolver that takes notes, a queue that
keeps nothing.

What it finds is what the relay would do, because the relay does it: only what would be stored is caught on its way to
the queue, and what would leave is made and looked at instead.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from relay.authenticate import spf
from relay.authenticate.dns_budget import Budget
from relay.authenticate.examiner import Examiner
from relay.authenticate.iprev import iprev
from relay.authenticate.verdict import Verdict, examine
from relay.bounce.notifier import Notice
from relay.config.model import Config
from relay.dns import Answer, DnsFailure, Resolver
from relay.intake.conversation import Conversation, Relay
from relay.mail.envelope import Client, MailFrom, RcptTo
from relay.mail.message import Message
from relay.mail.reply import Refused
from relay.metrics import Metrics
from relay.network import within
from relay.process.files import Files, read_files
from relay.queue import database
from relay.queue.connect import connect
from relay.queue.store import Delivery, Store, StoredMessage
from relay.rate import Rates
from relay.receive.command import Transaction


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to DNS and what came back: records as text, or why there are none."""

    name: str
    rdtype: str
    records: tuple[str, ...] = ()
    problem: str = ""


class NotingResolver:
    """Passes questions on, and remembers each with its answer, in the order in which they were first asked."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._noted: dict[tuple[str, str], Asked] = {}

    async def query(self, name: str, rdtype: str) -> Answer:
        """As any `Resolver`. Raises DnsFailure."""
        try:
            answer = await self._resolver.query(name, rdtype)
        except DnsFailure as failure:
            self._noted.setdefault((name, rdtype), Asked(name, rdtype, problem=str(failure)))
            raise
        nothing = "no such record" if answer.exists else "no such name"
        records = tuple(_text(record) for record in answer.records)
        self._noted.setdefault((name, rdtype), Asked(name, rdtype, records, "" if records else nothing))
        return answer

    def noted(self) -> tuple[Asked, ...]:
        """What was asked since this was called last."""
        found = tuple(self._noted.values())
        self._noted.clear()
        return found


def _text(record: object) -> str:
    if isinstance(record, tuple):
        if all(isinstance(part, bytes) for part in record):
            return b"".join(record).decode("utf-8", "replace")
        return " ".join(str(part) for part in record)
    return str(record)


@dataclass(frozen=True, slots=True)
class Step:
    """A command of the session, and our reply to it."""

    command: str
    reply: str


@dataclass(frozen=True, slots=True)
class NextHopView:
    """What the next hop will see, evaluated from the outside on what would leave.

    Attributes:
        ip: the address of ours that it was evaluated for.
        asked: in DNS, for it.
    """

    ip: str
    verdict: Verdict
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """One delivery as it would leave.

    Attributes:
        sender_reason: why the sender is what it is.
        on_top: the header fields that we add.
        views: of the next hop, one for each address that we may send from.
    """

    recipient: str
    original: str
    hop: str
    sender: str
    sender_reason: str
    from_rewritten: bool
    on_top: bytes
    message: Message
    views: tuple[NextHopView, ...] = ()


@dataclass(slots=True)
class Rehearsal:
    """All that came to light.

    Attributes:
        verdict: None where the message was refused before it was looked at.
        override: why it does not count that DMARC does not pass.
        unforwardable: why DMARC would fail behind us.
        forged: how many Authentication-Results that claim to be ours were removed.
        asked: in DNS, on the way to the reply.
    """

    client: Client
    steps: list[Step] = field(default_factory=list)
    verdict: Verdict | None = None
    override: str = ""
    unforwardable: str = ""
    forged: int = 0
    asked: tuple[Asked, ...] = ()
    ways: list[Way] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        return bool(self.steps) and self.steps[-1].reply.startswith("2")


class _Apart(Store):
    """A queue of its own that knows the senders which the real one has stored."""

    def __init__(self, own: database.Database, url: str) -> None:
        super().__init__(own, "explain")
        self._url = url

    async def sender_of(self, token: str, now: float) -> str | None:
        queue = await connect(self._url, create=False)
        try:
            return await Store(queue, "explain").sender_of(token, now)
        finally:
            await queue.close()


class _Noting(Examiner):
    """The examiner, taking notes."""

    def __init__(self, config: Config, resolver: Resolver, files: Files, notes: Rehearsal) -> None:
        super().__init__(config, resolver, Metrics(), files.signer)
        self._notes = notes

    async def judge(
        self, budget: Budget, client: Client, sender: str, message: Message, verdict: Verdict, queue_id: str
    ) -> str:
        self._notes.verdict = verdict
        self._notes.override = await super().judge(budget, client, sender, message, verdict, queue_id)
        return self._notes.override

    def unforwardable_reason(self, verdict: Verdict, sender: str) -> str:
        self._notes.unforwardable = super().unforwardable_reason(verdict, sender)
        return self._notes.unforwardable

    async def without_forged(self, message: Message, verdict: Verdict, queue_id: str) -> Message:
        kept = await super().without_forged(message, verdict, queue_id)
        self._notes.forged = len(message.fields) - len(kept.fields)
        return kept


class _Rehearsed(Relay):
    """The relay; nothing reaches its queue."""

    stored: StoredMessage | None = None
    caught: Sequence[Delivery] = ()

    async def enqueue(self, stored: StoredMessage, deliveries: list[Delivery], notice: Notice) -> None:
        self.stored, self.caught = stored, deliveries


async def rehearse(
    config: Config,
    resolver: Resolver,
    message: Message,
    *,
    ip: str,
    helo: str,
    sender: str,
    recipients: Sequence[str],
    next_hop_view: bool,
) -> Rehearsal:
    """What would become of a message.

    Args:
        ip: the client's address; one of `clients.trusted` is trusted.
        sender: MAIL FROM, empty for the null sender.
        recipients: one at least, valid addresses.
        next_hop_view: look at what would leave with the next hop's eyes, too.

    Raises:
        ConfigError: a file that the configuration names cannot be used.
        QueueUnavailable: the queue is asked for a stored sender, and does not answer.
        DnsFailure: the next hop is to be looked at, and our own name cannot be looked up.
    """
    noting = NotingResolver(resolver)
    client = Client(ip, 0, helo=helo, protocol="ESMTP", trusted=within(ip, config.clients.trusted))
    notes = Rehearsal(client)
    async with _relay(config, noting, notes) as relay:
        await _converse(relay, notes, message, sender, recipients)
        notes.asked = noting.noted()
        if relay.stored is not None:
            for one in relay.caught:
                notes.ways.append(await _way(relay, relay.stored, one))
            noting.noted()
            if next_hop_view:
                ips = await relay.senders.our_addresses()
                notes.ways = [replace(way, views=await _views(config, noting, way, ips)) for way in notes.ways]
    return notes


async def _converse(
    relay: _Rehearsed, notes: Rehearsal, message: Message, sender: str, recipients: Sequence[str]
) -> None:
    transaction = Transaction(relay.ids.new(), MailFrom(sender, smtputf8=message.has_utf8_header))
    with Conversation(relay, notes.client) as conversation:
        command = f"MAIL FROM:<{sender}>"
        try:
            await conversation.mail(notes.client, transaction)
            notes.steps.append(Step(command, "250 2.1.0 Ok"))
            for recipient in recipients:
                command, rcpt = f"RCPT TO:<{recipient}>", RcptTo(recipient)
                try:
                    await conversation.rcpt(notes.client, transaction, rcpt)
                except Refused as refused:
                    notes.steps.append(Step(command, str(refused.reply)))
                else:
                    transaction.recipients.append(rcpt)
                    notes.steps.append(Step(command, "250 2.1.5 Ok"))
            if transaction.recipients:
                command = "DATA"
                notes.steps.append(Step(command, str(await conversation.data(notes.client, transaction, message))))
        except Refused as refused:
            notes.steps.append(Step(command, str(refused.reply)))


async def _way(relay: _Rehearsed, stored: StoredMessage, one: Delivery) -> Way:
    rewrite_from = relay.departures.rewrites(stored, one)
    leaving = await relay.departures.prepare(stored, rewrite_from=rewrite_from)
    decision = await relay.senders.decide(stored, one, smtputf8=True)
    return Way(
        recipient=one.recipient,
        original=one.original,
        hop=one.hop,
        sender=await relay.senders.address(decision),
        sender_reason=decision.reason,
        from_rewritten=rewrite_from,
        on_top=await leaving.on_top(),
        message=leaving.message,
    )


async def _views(config: Config, resolver: NotingResolver, way: Way, ips: Sequence[str]) -> tuple[NextHopView, ...]:
    found = []
    message = Message(b"".join(way.message.wire(way.on_top)))
    for ip in ips:
        budget = Budget(resolver)
        passed = await spf.check(budget.spf, ip=ip, helo=config.hostname, sender=way.sender, receiver="next hop")
        name = await iprev(budget.iprev, ip)
        verdict = await examine(budget, message, way.sender, passed, name, time.time())
        found.append(NextHopView(ip, verdict, resolver.noted()))
    return tuple(found)


@asynccontextmanager
async def _relay(config: Config, resolver: Resolver, notes: Rehearsal) -> AsyncIterator[_Rehearsed]:
    """A relay whose queue is an empty one of its own, gone in the end; stored senders are those of the real one."""
    files = read_files(config)
    with tempfile.TemporaryDirectory(prefix="srs-relay-explain-") as folder:
        url = f"sqlite:///{Path(folder, 'queue.db')}"
        queue = config.queue.model_copy(update={"url": url, "min_free": 0})
        apart = config.model_copy(update={"queue": queue})
        store = _Apart(await connect(url, owner="explain"), config.queue.url)
        relay = _Rehearsed(apart, store, resolver, Metrics(), files, Rates(config.srs))
        relay.examiner = _Noting(apart, resolver, files, notes)
        try:
            yield relay
        finally:
            await relay.agent.close()
            await store.close()
            await asyncio.sleep(0)
