"""The way of an address: which entries of the tables it goes through, and where its mail would leave for.

The relay's own router decides. Only its ends differ: nobody has connected, and mailbox hosts are asked only on demand.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from relay.cli.stored_senders import StoredSenders
from relay.config.model import Config
from relay.config.sections import SrsMode
from relay.deliver.host_failover import DeliveryAgent
from relay.deliver.next_hop import NextHops
from relay.deliver.tls_policy import TlsPolicies
from relay.deliver.tls_results import TlsResults
from relay.deliver.tlsa_lookup import TlsaLookup
from relay.dns import Resolver
from relay.lookup.source import SourceUnavailable
from relay.mail.address import domain_of, lookup_key
from relay.mail.envelope import Client
from relay.mail.outcome import Outcome
from relay.mail.reply import Refused
from relay.metrics import Metrics
from relay.network import Endpoint
from relay.rate import Rates
from relay.route.alias_listing import Entry
from relay.route.alias_table import EXPANSION_LIMIT, AliasLoop
from relay.route.aliases import Aliases, CollectedTable
from relay.route.router import Kind, Routed, Router, TableAway, Target
from relay.route.srs_reverse import RouteRequest
from relay.route.tables import Tables
from relay.srs.address import Scheme
from relay.srs.reply_address import is_reply
from relay.table_files.bad_lines import BadLine, TryLater

NO_CLIENT = Client("192.0.2.0", 0)  # RFC 5737: nobody has this address
ACCEPTED = "250 2.1.5 Ok"

How = Literal["entry", "srs", "reply", "role", "nobody"]


@dataclass(frozen=True, slots=True)
class Step:
    """An address on the way, and what it leads to.

    Attributes:
        how: by an `entry` of the alias table; as an address that stands for somebody: `srs`, `reply`; as a `role`; to
            `nobody`, where an alias leads to an address that cannot exist.
        targets: the addresses behind it; none also behind a bad line, or where it is closed.
        entry: the left-hand side that matches; empty for another `how`.
        where: its file and line, or file and key in TOML, or its database; empty for another `how`.
        reject: the text of REJECT; None where it is not closed.
    """

    address: str
    how: How
    targets: tuple[str, ...]
    entry: str = ""
    where: str = ""
    reject: str | None = None


@dataclass(frozen=True, slots=True)
class Leaving:
    """One delivery: the recipient, the key of its next hop, and whether the sender is rewritten on that way."""

    recipient: str
    next_hop: str
    srs: SrsMode


@dataclass(frozen=True, slots=True)
class Way:
    """The way of an address.

    Attributes:
        reply: what a client hears at RCPT.
        kind: what the recipient is; None where it is refused.
        steps: from the address on; each address once.
        question: the mailbox host that decides whether there is such a user; empty where none does.
        asked: whether it was asked.
        bad_lines: those of the tables, where one of them is why the address is deferred.
        away: the table that cannot be asked now, and why, where that is why the address is deferred; otherwise empty.
    """

    address: str
    reply: str
    kind: Kind | None
    steps: Sequence[Step]
    leaving: Sequence[Leaving] = ()
    question: str = ""
    asked: bool = False
    bad_lines: Sequence[BadLine] = ()
    away: str = ""

    @property
    def accepted(self) -> bool:
        return self.kind is not None


async def way_of(
    address: str,
    config: Config,
    scheme: Scheme,
    tables: Tables,
    entries: Mapping[str, Entry],
    resolver: Resolver,
    *,
    callout: bool = False,
) -> Way:
    """The way of a recipient, as a client hears that is not trusted. A return address of ours is tried as for a bounce.

    Args:
        address: in normal form, or `postmaster`.
        entries: of the alias files, by their keys.
        callout: ask the mailbox host whether there is such a user, where the relay would.

    Raises:
        QueueUnavailable: the queue is asked for a stored sender, and does not answer.
    """
    questions = list[str]()
    behind = dict[str, str]()
    next_hops = NextHops(config)
    agent = DeliveryAgent(
        config, resolver, next_hops, TlsPolicies(config.delivery, TlsaLookup(resolver)), TlsResults(Metrics())
    )

    async def ask(endpoint: Endpoint, recipient: str) -> Outcome:
        questions.append(str(endpoint))
        return await agent.probe(endpoint, recipient) if callout else Outcome("delivered", 250, "2.1.5", "not asked")

    async def addresses_of_our_name() -> list[str]:
        return [ip for rdtype in ("A", "AAAA") for ip in (await resolver.query(config.hostname, rdtype)).records]

    now = time.time()
    senders = StoredSenders(config.queue.url)
    router = Router(
        config,
        scheme,
        tables,
        Rates(config.srs),
        probe=ask,
        token_lookup=lambda token: senders.sender_of(token, now),
        own_addresses=addresses_of_our_name,
        watch=lambda before, after: behind.update({before: after}),
    )
    request = RouteRequest(address, "", NO_CLIENT, now)
    refused: Refused | None = None
    routed: Routed | None = None
    try:
        routed = await router.route(request, await router.reverse(request))
    except Refused as error:
        refused = error
    finally:
        await agent.close()
    steps = [step async for step in _steps(address, router, tables.aliases, entries, behind)]
    return Way(
        address=address,
        reply=ACCEPTED if refused is None else str(refused.reply),
        kind=None if routed is None else routed.kind,
        steps=steps,
        leaving=() if routed is None else tuple(_leaving(target, config, next_hops) for target in routed.targets),
        question=questions[0] if questions else "",
        asked=callout and bool(questions),
        bad_lines=_bad_lines(tables, address) if isinstance(refused, TryLater) else (),
        away=str(refused.__cause__) if isinstance(refused, TableAway) else "",
    )


def _leaving(target: Target, config: Config, next_hops: NextHops) -> Leaving:
    mode: SrsMode = config.srs_mode(domain_of(target.address)) if target.srs else False
    return Leaving(target.address, next_hops.key(target.address), mode)


def _bad_lines(tables: Tables, address: str) -> Sequence[BadLine]:
    users = tables.recipients.get(domain_of(address))
    regexps = (line for file in tables.opened.files for line in file.value.bad.lines)
    return (*tables.aliases.listed.bad.lines, *(users.bad_lines if users is not None else ()), *regexps)


async def _steps(
    start: str, router: Router, aliases: Aliases, entries: Mapping[str, Entry], behind: Mapping[str, str]
) -> AsyncIterator[Step]:
    """What the router went through, in the order of `AliasTable.expand`, up to a table that cannot be asked.

    Args:
        behind: the addresses that the router went on with in the place of others.
    """
    pending, seen = [start], set[str]()
    while pending and len(seen) < EXPANSION_LIMIT:
        address = pending.pop()
        if lookup_key(address) in seen:
            continue
        seen.add(lookup_key(address))
        try:
            table = await aliases.around(address)
        except (SourceUnavailable, AliasLoop):
            return
        if address in behind:
            step = Step(address, _how(address, router), (behind[address],))
        elif (matched := table.step(address)) is not None:
            pattern, targets = matched
            places = table.places if isinstance(table, CollectedTable) else {}
            entry = entries.get(pattern) if pattern not in places else None
            reject = table.rejection(address)
            step = Step(
                address,
                "entry",
                targets if reject is None else (),
                pattern if entry is None else entry.address,
                places.get(pattern, "") if entry is None else entry.where,
                reject,
            )
        elif address != start and (router.is_return_address(address) or await router.is_unknown_alias(address)):
            step = Step(address, "nobody", ())
        else:
            continue
        yield step
        pending += reversed(step.targets)


def _how(address: str, router: Router) -> How:
    if not router.is_return_address(address):
        return "role"
    return "reply" if is_reply(address) else "srs"
