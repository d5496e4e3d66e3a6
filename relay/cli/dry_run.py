"""Shows the way of a message without sending or storing anything.

The message takes the same way as in `serve`, through the same conversation and stages. Only their ends differ: a
resolver that notes what is asked, a queue that keeps nothing, and a watch on the examination.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace

from relay.authenticate.examination import Examination
from relay.authenticate.verdict import Verdict
from relay.bounce.notifier import Notice
from relay.cli.address_seen import addresses_seen
from relay.cli.host_tls import HostTls, NothingStored, tls_of_hosts
from relay.cli.next_hop_view import NextHopView, look
from relay.cli.noting_resolver import Asked, NotingResolver
from relay.cli.stored_senders import StoredSenders
from relay.config.model import Config
from relay.content_filter.scanned import Scanned
from relay.deliver.mx import HostFinder
from relay.dns import Resolver
from relay.intake.access_decisions import Judged
from relay.intake.conversation import Conversation
from relay.intake.screening import ContentFilter
from relay.lookup.source import SourceUnavailable
from relay.mail.envelope import Client, MailFrom, RcptTo, TlsWish
from relay.mail.message import Message
from relay.mail.reply import Refused
from relay.mail.tag_list import field_tags
from relay.metrics import Metrics
from relay.network import within
from relay.process.files import read_files
from relay.process.stages import Stages, build_stages
from relay.queue.hop_keys import is_doubtful_hop
from relay.queue.store import Delivery, StoredMessage
from relay.rate import Rates
from relay.receive.command import Transaction
from relay.receive.handler import Gone
from relay.route.alias_table import AliasLoop
from relay.route.aliases import Aliases, CollectedTable


@dataclass(frozen=True, slots=True)
class SessionStep:
    """A command of the session, and our reply to it."""

    command: str
    reply: str


@dataclass(frozen=True, slots=True)
class OurSignature:
    """A signature that we add: the name of its field, and whose key it has."""

    field: str
    domain: str
    selector: str
    algorithm: str


@dataclass(frozen=True, slots=True)
class Way:
    """One delivery as it would leave.

    Attributes:
        destination: the first domain of the table of `[[delivery.destinations]]` that holds; empty where none does.
        sender_reason: why the sender is what it is.
        on_top: the header fields that we add.
        signatures: the DKIM signatures and ARC seals among them, in their order.
        tls: which policy holds for each host of the next hop; none for a Unix socket.
        views: of the next hop, one for each address under which it may see us, that of its first host first.
        address_problem: why these are not the addresses towards the hosts of this next hop.
        asked: in DNS, to decide on the sender, and to find the hosts and addresses.
    """

    recipient: str
    original: str
    hop: str
    destination: str
    sender: str
    sender_reason: str
    from_rewritten: bool
    on_top: bytes
    message: Message
    signatures: tuple[OurSignature, ...] = ()
    tls: tuple[HostTls, ...] = ()
    views: tuple[NextHopView, ...] = ()
    address_problem: str = ""
    asked: tuple[Asked, ...] = ()


@dataclass(slots=True)
class DryRun:
    """What would become of a message.

    Attributes:
        verdict: None where the message was refused before it was looked at.
        override: why it does not count that DMARC does not pass.
        unforwardable: why DMARC would fail behind us.
        forged: how many Authentication-Results that claim to be ours were removed.
        asked: in DNS, on the way to the reply.
        filter_asked: whether the filter was asked; None where there is none.
        looked_up: what access tables say, and which entry of a database or a regexp table led a recipient on, or why
            none could; in words.
        held: why it would wait for `queue release`; empty where it would not.
    """

    client: Client
    steps: list[SessionStep] = field(default_factory=list)
    verdict: Verdict | None = None
    override: str = ""
    unforwardable: str = ""
    forged: int = 0
    asked: tuple[Asked, ...] = ()
    looked_up: tuple[str, ...] = ()
    held: str = ""
    ways: list[Way] = field(default_factory=list)
    filter_asked: bool | None = None

    @property
    def accepted(self) -> bool:
        return bool(self.steps) and self.steps[-1].reply.startswith("2")


def _never() -> asyncio.Future[None]:
    """The client of a dry run does not leave."""
    return asyncio.get_running_loop().create_future()


class _NoQueue:
    """Keeps the message for a look at it. There is always room."""

    def __init__(self) -> None:
        self.stored: StoredMessage | None = None
        self.deliveries: Sequence[Delivery] = ()

    async def enough(self) -> bool:
        return True

    async def put(self, stored: StoredMessage, deliveries: Sequence[Delivery], notice: Notice) -> None:
        self.stored, self.deliveries = stored, deliveries

    async def hand_over(self, stored: StoredMessage, delivery: Delivery, gone: Gone) -> bool:
        self.stored, self.deliveries = stored, [delivery]
        return False


@dataclass(frozen=True, slots=True)
class _NotAsked:
    """A filter that no message is shown to: rspamd learns from what it reads."""

    content: ContentFilter

    def max_score(self, addresses: Sequence[str]) -> float | None:
        return self.content.max_score(addresses)

    async def scan(self, examination: Examination, max_score: float | None) -> Scanned:
        return Scanned()


async def dry_run(
    config: Config,
    resolver: Resolver,
    message: Message,
    *,
    ip: str,
    helo: str,
    sender: str,
    recipients: Sequence[str],
    next_hop_view: bool,
    user: str = "",
    ask_filter: bool = False,
) -> DryRun:
    """What would become of a message.

    Args:
        ip: the client's address; one of `clients.trusted` is trusted.
        sender: MAIL FROM, empty for the null sender.
        recipients: one at least, valid addresses.
        next_hop_view: look at what would leave with the next hop's eyes, too.
        user: who has logged in; empty where nobody has.
        ask_filter: have rspamd and clamd read the message, too.

    Raises:
        ConfigError: a file that the configuration names cannot be used.
        QueueUnavailable: the queue is asked for a stored sender, and does not answer.
        DnsFailure: the next hop is to be looked at, no route leads anywhere, and our own name cannot be looked up.
    """
    noting, queue = NotingResolver(resolver), _NoQueue()
    client = Client(ip, 0, helo=helo, protocol="ESMTP", trusted=within(ip, config.clients.trusted))
    if user:
        client = client._replace(protocol="ESMTPSA", trusted=True, user=user)
    result, examinations = DryRun(client), list[Examination]()
    senders, files = StoredSenders(config.queue.url), read_files(config)
    stages = build_stages(
        config,
        senders,
        noting,
        Metrics(),
        files,
        Rates(config.srs),
        watch=examinations.append,
        policies=NothingStored() if next_hop_view else None,
    )
    judged = list[Judged]()
    stages = replace(stages, screening=replace(stages.screening, watch=judged.append))
    if (content := stages.screening.content) is not None:
        result.filter_asked = ask_filter
        if not ask_filter:
            stages = replace(stages, screening=replace(stages.screening, content=_NotAsked(content)))
    try:
        await _converse(stages, queue, result, message, sender, recipients)
        for examination in examinations:
            _note(result, examination, stages, queue)
        result.asked = noting.noted()
        found = [text for each in recipients async for text in _look_ups(files.tables.aliases, each)]
        result.looked_up = (*map(_said, judged), *found)
        if queue.stored is not None:
            result.held = next((each.hold_reason for each in queue.deliveries if each.hold_reason), "")
            result.ways = [await _way(stages, noting, queue.stored, delivery) for delivery in queue.deliveries]
            if next_hop_view:
                wish = queue.stored.tls
                result.ways = [await _seen_by_next_hop(stages, noting, way, wish) for way in result.ways]
    finally:
        if stages.mta_sts is not None:
            await stages.mta_sts.close()
        await stages.agent.close()
        await files.opened.close()
    return result


def _said(judged: Judged) -> str:
    """What an access table says, in words."""
    decision = judged.decision
    action = " ".join(filter(None, (decision.action.verb, decision.action.text)))
    problem = f", which does not count: {judged.problem}" if judged.problem else ""
    return f"{decision.table} has {action} for <{judged.of}> ({decision.key}){problem}"


async def _look_ups(aliases: Aliases, recipient: str) -> AsyncIterator[str]:
    """The entries of databases and regexp tables, see `DryRun.looked_up`."""
    try:
        table = await aliases.around(recipient)
    except SourceUnavailable as error:
        yield f"a table cannot be asked about {recipient}: {error}"
    except AliasLoop:
        return
    else:
        for entry, where in table.places.items() if isinstance(table, CollectedTable) else ():
            yield f"{entry} is in {where}"


def _note(result: DryRun, examination: Examination, stages: Stages, queue: _NoQueue) -> None:
    result.verdict = examination.verdict
    result.override = examination.override
    result.forged = len(examination.forged)
    is_rebuilt = queue.stored is not None and queue.stored.is_own
    if examination.refusal is None and not is_rebuilt:
        sender = examination.arrival.sender
        result.unforwardable = stages.from_decisions.why_unforwardable(examination.verdict, sender)


async def _converse(
    stages: Stages,
    queue: _NoQueue,
    result: DryRun,
    message: Message,
    sender: str,
    recipients: Sequence[str],
) -> None:
    client, steps = result.client, result.steps
    transaction = Transaction(stages.ids.new(), MailFrom(sender, smtputf8=message.has_utf8_header))
    with Conversation(stages.intake(queue, queue), client) as conversation:
        command = f"MAIL FROM:<{sender}>"
        try:
            await conversation.mail(client, transaction)
            steps.append(SessionStep(command, "250 2.1.0 Ok"))
            for recipient in recipients:
                command, rcpt = f"RCPT TO:<{recipient}>", RcptTo(recipient)
                try:
                    await conversation.rcpt(client, transaction, rcpt)
                except Refused as refused:
                    steps.append(SessionStep(command, str(refused.reply)))
                else:
                    transaction.recipients.append(rcpt)
                    steps.append(SessionStep(command, "250 2.1.5 Ok"))
            if transaction.recipients:
                command = "DATA"
                steps.append(SessionStep(command, str(await conversation.data(client, transaction, message, _never))))
        except Refused as refused:
            steps.append(SessionStep(command, str(refused.reply)))


async def _way(stages: Stages, resolver: NotingResolver, stored: StoredMessage, delivery: Delivery) -> Way:
    rewrites_from = stages.messages.rewrites_from(stored, delivery)
    outgoing = await stages.messages.prepare(stored, rewrite_from=rewrites_from)
    decision = await stages.senders.decide(stored, delivery, smtputf8=True)
    on_top = await outgoing.on_top()
    hop = stages.next_hops.of(delivery.recipient, doubtful=is_doubtful_hop(delivery.hop))
    destination = await HostFinder(stages.config, resolver).destination(hop)
    return Way(
        recipient=delivery.recipient,
        original=delivery.original,
        hop=delivery.hop,
        destination="" if destination is None else destination.name,
        sender=await stages.senders.address(decision),
        sender_reason=decision.reason,
        from_rewritten=rewrites_from,
        on_top=on_top,
        message=outgoing.message,
        signatures=tuple(_signatures(Message(on_top))),
        asked=resolver.noted(),
    )


def _signatures(added: Message) -> Iterator[OurSignature]:
    for field_ in added.fields:
        if field_.name in ("dkim-signature", "arc-seal"):
            tags = field_tags(field_)
            name = field_.raw.partition(b":")[0].decode("ascii")
            yield OurSignature(name, tags["d"], tags["s"], tags["a"])


async def _seen_by_next_hop(stages: Stages, resolver: NotingResolver, way: Way, wish: TlsWish) -> Way:
    hop = stages.next_hops.of(way.recipient, doubtful=is_doubtful_hop(way.hop))
    seen = await addresses_seen(stages.config, resolver, hop)
    tls = await tls_of_hosts(HostFinder(stages.config, resolver, random.Random(0)), stages.tls_policies, hop, wish)
    asked = *way.asked, *resolver.noted()
    wire = b"".join(way.message.wire(way.on_top))
    views = await asyncio.gather(
        *(look(NotingResolver(resolver), seen.leaving.helo, address, way.sender, wire) for address in seen.addresses)
    )
    resolver.noted()  # each view has its own
    return replace(way, tls=tls, views=tuple(views), address_problem=seen.problem, asked=asked)
