"""Builds the stages of one worker from the configuration: which stage is handed which other one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from relay.accounts.user_senders import UserSenders
from relay.authenticate.examination import Watch
from relay.authenticate.examiner import Examiner
from relay.bounce.notifier import Notifier, from_domain
from relay.bounce.rebuild import ReportingMta
from relay.bounce.returns import Returns
from relay.config.model import Config
from relay.deliver.attempts import Attempts
from relay.deliver.current_hops import CurrentHops
from relay.deliver.destination_limits import DestinationLimits, limited_tables
from relay.deliver.dispatcher import Dispatcher
from relay.deliver.host_failover import DeliveryAgent
from relay.deliver.mx import is_public
from relay.deliver.next_hop import NextHops
from relay.deliver.outgoing import OutgoingMessages
from relay.deliver.recorder import Recorder
from relay.deliver.shaping import Shaping
from relay.deliver.shared_limits import SharedLimits
from relay.deliver.tls_policy import TlsPolicies
from relay.deliver.tls_results import TlsResults
from relay.deliver.tlsa_lookup import TlsaLookup
from relay.dns import Resolver
from relay.intake.enqueue import Enqueuer
from relay.intake.intake import Intake, Queue, Space
from relay.intake.recipients import Recipients
from relay.intake.screening import Screening
from relay.mail.queue_id import QueueIds
from relay.metrics import Metrics
from relay.process.files import Files
from relay.process.screening import build_screening
from relay.queue.disk_space import FreeSpace
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Store
from relay.rate import Rates
from relay.rate.traffic import Traffic
from relay.rewrite.from_decision import FromDecisions
from relay.rewrite.senders import Senders, TokenStore
from relay.route.router import Router
from relay.srs.reply_address import STORED_FOR
from relay.transport_security.mta_sts import MtaStsPolicies
from relay.transport_security.policy_host import PolicyHosts
from relay.transport_security.stored_policy import PolicyStore


class Tokens(TokenStore, Protocol):
    """Keeps the senders and authors that do not fit into an address (`queue.store`). Each may raise
    QueueUnavailable."""

    async def keep_author(self, author: str, token: str, now: float, lifetime: float) -> str: ...

    async def sender_of(self, token: str, now: float) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages that a message passes, but for the queue: what `serve` and `explain` share."""

    config: Config
    metrics: Metrics
    ids: QueueIds
    examiner: Examiner
    recipients: Recipients
    from_decisions: FromDecisions
    returns: Returns
    patience: RetrySchedule
    notifier: Notifier
    senders: Senders
    messages: OutgoingMessages
    next_hops: NextHops
    agent: DeliveryAgent
    tls_policies: TlsPolicies
    mta_sts: MtaStsPolicies | None
    tls_results: TlsResults
    secrets: tuple[bytes, ...]
    user_senders: UserSenders
    traffic: Traffic
    screening: Screening

    def intake(self, space: Space, queue: Queue) -> Intake:
        """The intake, in front of a queue."""
        return Intake(
            self.config,
            self.metrics,
            recipients=self.recipients,
            examiner=self.examiner,
            from_decisions=self.from_decisions,
            returns=self.returns,
            notifier=self.notifier,
            secrets=self.secrets,
            patience=self.patience,
            next_hops=self.next_hops,
            space=space,
            queue=queue,
            user_senders=self.user_senders,
            traffic=self.traffic,
            screening=self.screening,
        )


def build_stages(
    config: Config,
    tokens: Tokens,
    resolver: Resolver,
    metrics: Metrics,
    files: Files,
    rates: Rates,
    watch: Watch | None = None,
    policies: PolicyStore | None = None,
) -> Stages:
    """Build the stages.

    Args:
        files: what the configuration names, read.
        watch: see `Examiner`.
        policies: keeps MTA-STS policies; without it no policy is looked for.
    """
    scheme, signer = files.scheme, files.signer
    files.opened.count(metrics.lookups.add)
    ids = QueueIds(time.time)
    next_hops = NextHops(config, files.passwords)
    mta_sts = _mta_sts(config, resolver, policies, metrics) if policies is not None else None
    tls_results = TlsResults(metrics)
    tls_policies = TlsPolicies(config.delivery, TlsaLookup(resolver), mta_sts)
    agent = DeliveryAgent(config, resolver, next_hops, tls_policies, tls_results)

    async def addresses_of_our_name() -> list[str]:
        """What DNS has for our host name: behind a NAT no listener knows that. Raises DnsFailure."""
        return [ip for rdtype in ("A", "AAAA") for ip in (await resolver.query(config.hostname, rdtype)).records]

    router = Router(
        config,
        scheme,
        files.tables,
        rates,
        probe=agent.probe,
        token_lookup=lambda token: tokens.sender_of(token, time.time()),
        own_addresses=addresses_of_our_name,
    )
    mailer_daemon_at = from_domain([key.domain for key in signer.table.forwarder], config.srs.domain)
    patience = RetrySchedule(
        config.queue.retry_min, config.queue.retry_max, config.queue.retry_for, config.queue.bounce_retry_for
    )
    notifier = Notifier(
        config.hostname,
        mailer_daemon_at,
        patience,
        ids,
        partial(next_hops.key, own=True),
        rates.notices,
        config.bounces.to,
    )
    from_decisions = FromDecisions(config, lambda domain: signer.signs_as(domain, time.time()))
    return Stages(
        config=config,
        metrics=metrics,
        ids=ids,
        examiner=Examiner(config, resolver, metrics, signer.table.domains, watch),
        recipients=Recipients(router, metrics),
        from_decisions=from_decisions,
        returns=Returns(ReportingMta(config.hostname, mailer_daemon_at, scheme.secrets)),
        patience=patience,
        notifier=notifier,
        senders=Senders(config, scheme, tokens, resolver),
        messages=OutgoingMessages(
            config,
            from_decisions,
            signer,
            scheme,
            lambda author, token: tokens.keep_author(author, token, time.time(), STORED_FOR),
        ),
        next_hops=next_hops,
        agent=agent,
        tls_policies=tls_policies,
        mta_sts=mta_sts,
        tls_results=tls_results,
        secrets=tuple(scheme.secrets),
        user_senders=UserSenders(config.senders.local_domains, files.accounts.senders, srs_domain=config.srs.domain),
        traffic=rates.traffic,
        screening=build_screening(config, files, resolver, metrics, rates),
    )


def _mta_sts(config: Config, resolver: Resolver, policies: PolicyStore, metrics: Metrics) -> MtaStsPolicies | None:
    """The MTA-STS policies; None where they are switched off for all domains."""
    delivery = config.delivery
    if not (delivery.mta_sts or any(destination.mta_sts for destination in delivery.destinations)):
        return None
    sources = [source for source in (delivery.source_ipv4, delivery.source_ipv6) if source is not None]
    is_allowed = is_public if delivery.public_addresses_only else None
    return MtaStsPolicies(resolver, PolicyHosts(resolver, delivery.families, sources, is_allowed), policies, metrics)


@dataclass(frozen=True, slots=True)
class Relay:
    """All that one worker runs: the intake, the queue behind it, and the dispatcher behind that."""

    stages: Stages
    space: FreeSpace
    dispatcher: Dispatcher
    intake: Intake


def build_relay(
    stages: Stages,
    store: Store,
    shared_limits: SharedLimits | None = None,
    row: int = 0,
    *,
    memory_is_short: Callable[[], bool] = lambda: False,
) -> Relay:
    """Put the stages together around a queue.

    Args:
        shared_limits: what the workers count together for `[[delivery.destinations]]`, and which `row` is this one's;
            by default this worker is the only one.
        memory_is_short: see `Enqueuer`.
    """
    config = stages.config
    space = FreeSpace(config.queue.folder, config.queue.min_free, store.reusable, store.log_room, store.dead.drop_some)
    recorder = Recorder(store, stages.notifier, stages.patience, stages.recipients.targets_of_sender, stages.metrics)
    attempts = Attempts(
        stages.agent,
        stages.next_hops,
        stages.messages,
        stages.senders,
        recorder,
        stages.patience,
        stages.metrics,
    )
    memory = config.limits.message_memory // (2 * config.workers)
    if shared_limits is None:
        shared_limits = SharedLimits(1)
        shared_limits.adopt(limited_tables(config))
    limits = DestinationLimits(
        config.destinations,
        shared_limits,
        row,
        lambda domain: stages.agent.destination(stages.next_hops.of(f"x@{domain}")),
    )
    current_hops = CurrentHops(store, stages.next_hops, time.time())
    shaping = Shaping(
        config.shaping,
        config.destinations,
        stages.agent.best_mx,
        workers=config.workers,
        longest=config.queue.retry_for / 10,
    )
    dispatcher = Dispatcher(config, store, attempts, recorder, limits, current_hops, shaping, stages.metrics, memory)
    enqueuer = Enqueuer(store, dispatcher, stages.metrics, memory_is_short)
    return Relay(stages, space, dispatcher, stages.intake(space, enqueuer))
