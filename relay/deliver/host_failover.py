"""Delivers a job to its next hop: tries the hosts in order, and goes on to the next one when a host fails.

The rest of the relay knows `DeliveryAgent` and `Job`, and neither MX nor sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace

import structlog

from relay.config.destinations import Destination, Leaving
from relay.config.model import Config
from relay.config.sections import DeliverySection
from relay.deliver.connection_pool import Lane, Pool
from relay.deliver.host_policy import HostPolicy, Untrusted
from relay.deliver.job import Job
from relay.deliver.mx import Found, Host, HostFinder, Unroutable
from relay.deliver.next_hop import NextHop, NextHops
from relay.deliver.smtp_connection import Connection, HostFailed
from relay.deliver.smtp_opening import open_connection
from relay.deliver.smtp_transaction import probe, transact
from relay.deliver.tls_policy import DomainPolicy, TlsPolicies
from relay.deliver.tls_results import Shortfall, TlsResults
from relay.dns import Resolver
from relay.mail.envelope import Recipient, TlsWish
from relay.mail.outcome import Outcome, deferral
from relay.metrics import Metrics
from relay.network import Endpoint

__all__ = ["DeliveryAgent", "Job"]

log = structlog.get_logger()

_UNTRIED = deferral("4.4.1", "no host was tried")
_Action = Callable[[Connection, Job, DeliverySection], Awaitable[tuple[Outcome, ...]]]


class DeliveryAgent:
    """Delivers for one worker."""

    def __init__(
        self,
        config: Config,
        resolver: Resolver,
        next_hops: NextHops,
        policies: TlsPolicies | None = None,
        results: TlsResults | None = None,
    ) -> None:
        self._delivery = config.delivery
        self._finder = HostFinder(config, resolver)
        self._destinations = config.destinations
        self._pool = Pool(config)
        self._next_hops = next_hops
        self._policies = policies or TlsPolicies(config.delivery)
        self._results = results or TlsResults(Metrics())

    def deliver(self, next_hop: NextHop, job: Job) -> Coroutine[None, None, tuple[Outcome, ...]]:
        """Deliver a job to the first host of a next hop that takes it; to be awaited.

        Returns:
            One outcome for each recipient of the job, in their order. Never raises for what a server does.
        """
        if not job.sender and next_hop.null_sender:
            job = replace(job, sender=next_hop.null_sender)
        return self._run(next_hop, job, transact)

    async def destination(self, next_hop: NextHop) -> Destination | None:
        """The table of `[[delivery.destinations]]` that holds for a next hop; see `HostFinder.destination`."""
        return await self._finder.destination(next_hop)

    async def best_mx(self, domain: str) -> Sequence[str]:
        """See `HostFinder.best_mx`."""
        return await self._finder.best_mx(domain)

    async def probe(self, endpoint: Endpoint, recipient: str) -> Outcome:
        """Ask a mailbox host whether it would take mail for a recipient (MAIL FROM:<>, RCPT, and no DATA).

        `failed` is a 5xx to RCPT that refuses no session, and nothing else; every other way of not accepting it is
        `deferred`.
        """
        job = Job(
            "", (Recipient(recipient),), 0, is_8bit=False, needs_smtputf8=False, ret="", envid="", content=_no_content
        )
        return (await self._run(self._next_hops.at(endpoint, recipient), job, probe))[0]

    async def close(self) -> None:
        """Say goodbye to every server."""
        await self._pool.close()

    async def _run(self, next_hop: NextHop, job: Job, action: _Action) -> tuple[Outcome, ...]:
        """Make one attempt within its time limit, which begins with its turn. Outcomes that are known when it is
        given up stay as they are."""
        progress = _Progress(job)
        if not job.bound.over:
            with job.bound:
                lane = self._pool.lane(next_hop, job.tls)
                unreachable = await lane.enter()
                try:
                    if unreachable is not None:
                        return (unreachable,) * len(job.recipients)
                    job.bound.begin(self._delivery.attempt_timeout)
                    connection = lane.take()
                    if connection is not None:  # what fails here may only have been closed while it was idle
                        self._goes_on_with(connection.host, next_hop, job)
                        await self._use(lane, connection, progress, action)
                    if not (progress.complete or job.bound.over):
                        await self._try_hosts(next_hop, lane, progress, action)
                finally:
                    lane.leave()
        if job.bound.over:
            progress.given_up(job.bound.over)
        return progress.outcomes

    async def _try_hosts(self, next_hop: NextHop, lane: Lane, progress: _Progress, action: _Action) -> None:
        """Try the hosts of a next hop in their order, until every recipient has an outcome."""
        progress.try_again()
        try:
            found, policies = await self._look_up(next_hop, progress.job.tls)
        except Unroutable as unroutable:
            progress.last = replace(unroutable.outcome, unreachable=unroutable.outcome.status == "deferred")
            return
        if policies.problem is not None:
            self._results.count(policies.announced, "sts", policies.problem)
        reached = False
        bound = progress.job.bound
        for number, host in enumerate(found.hosts):
            bound.resume()
            if bound.over:
                return
            self._goes_on_with(host, next_hop, progress.job)
            patience = bound.left / (len(found.hosts) - number)  # a host that says nothing leaves the others their time
            try:
                connection = await self._open(host, next_hop, found.leaving, policies, progress.job, patience)
            except Untrusted as untrusted:
                outcome = untrusted.outcome
                progress.passed_over(replace(outcome, unreachable=outcome.unreachable and not reached))
                continue
            except HostFailed as failed:
                progress.failed(replace(failed.outcome, unreachable=not reached))
                continue
            reached = True
            lane.reachable()
            await self._use(lane, connection, progress, action)
            if progress.complete:
                return
        if not (reached or bound.withdrawn):
            lane.unreachable(progress.last)

    async def _look_up(self, next_hop: NextHop, wish: TlsWish) -> tuple[Found, DomainPolicy]:
        """The hosts of a next hop, and what holds for them. Where DNS has both, it is asked for both at once.

        Raises:
            Unroutable: there is no host, for now or for good.
        """
        if next_hop.endpoint is not None:
            return await self._finder.find(next_hop), await self._policies.of_domain(next_hop, wish)
        asked = asyncio.create_task(self._policies.of_domain(next_hop, wish))
        try:
            return await self._finder.find(next_hop), await asked
        finally:
            asked.cancel()

    def _goes_on_with(self, host: Host, next_hop: NextHop, job: Job) -> None:
        """Give the place under an `mx:` table back before a host that the table does not name: the owner of a domain,
        who chooses such hosts, must not fill the places of others with them."""
        share = job.admission.share if next_hop.destination is None else None
        if share is not None and not self._destinations.has_host(share.destination, host.name):
            job.admission.end()

    async def _open(
        self, host: Host, next_hop: NextHop, leaving: Leaving, policies: DomainPolicy, job: Job, patience: float
    ) -> Connection:
        """A connection to a host, counted by how it is protected.

        Raises:
            HostFailed, Untrusted: see `open_connection`.
        """
        policy = HostPolicy("none", "none")
        try:
            policy = await policies.of_host(host)
            connection = await open_connection(
                host,
                next_hop,
                leaving,
                self._delivery,
                policy=policy,
                for_id=job.id,
                bound=job.bound,
                patience=patience,
            )
        except Untrusted as untrusted:
            policy = untrusted.policy or policy
            untrusted.outcome = replace(
                untrusted.outcome,
                host=host.name,
                address=host.address,
                policy=policy.name,
                # What the domain demands does not hold for `TLS-Required: No`, and REQUIRETLS for no other message.
                unreachable=not policy.demand and job.tls != "require",
            )
            if untrusted.shortfall is not None:
                self._count(policy, host, untrusted.shortfall, untrusted.source)
            log.info(
                "tls_failed",
                id=job.id,
                host=host.name,
                address=host.address,
                problem=untrusted.outcome.text,
                policy=policy.name,
                effect="passed over",
            )
            raise
        if policy.published is not None:
            self._count(policy, host, connection.shortfall, connection.source)
        return connection

    def _count(self, policy: HostPolicy, host: Host, shortfall: Shortfall | None, source: str) -> None:
        """Count a session with a host, or one that its policy has prevented, for TLS reports."""
        self._results.count(policy.published, policy.name, shortfall, mx=host.name, address=host.address, source=source)

    async def _use(self, lane: Lane, connection: Connection, progress: _Progress, action: _Action) -> None:
        try:
            outcomes = await action(connection, progress.job, self._delivery)
        except HostFailed as failed:
            connection.abort()
            progress.failed(replace(failed.outcome, unreachable=not failed.outcome.remote))  # silent, or gone
            progress.note(failed.settled)
        except BaseException:
            connection.abort()
            raise
        else:
            lane.give_back(connection)
            progress.note(outcomes)


class _Progress:
    """Which recipients have their outcome, the job for those that have not, and why the last host failed them."""

    def __init__(self, job: Job) -> None:
        self._outcomes: list[Outcome | None] = [None] * len(job.recipients)
        self._recipients = job.recipients
        self._open: Sequence[int] = range(len(job.recipients))  # those without an outcome
        self._telling = 0
        self.job = job
        self.last = _UNTRIED

    @property
    def complete(self) -> bool:
        return not self._open

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return tuple([outcome if outcome is not None else self.last for outcome in self._outcomes])

    def try_again(self) -> None:
        """Forget why a connection that was kept failed: the hosts are tried from the first one on."""
        self._telling = 0

    def failed(self, outcome: Outcome) -> None:
        """A host failed."""
        self._note(outcome, telling=2 if outcome.remote else 1)

    def passed_over(self, outcome: Outcome) -> None:
        """A policy forbids to use a host. That is about the policy, not about the next hop, and says more than the
        silence of another host. Where a later attempt may succeed, it is a deferral whatever the other hosts lack."""
        self._note(outcome, telling=0 if outcome.status == "failed" else 2)

    def _note(self, outcome: Outcome, *, telling: int) -> None:
        """Keep the most telling reason, and the last one of equals."""
        if telling >= self._telling:
            self.last, self._telling = outcome, telling

    def given_up(self, why: str) -> None:
        """Those without an outcome get the last one, with the reason why it is the last."""
        self.last = replace(self.last, text=f"{self.last.text}; {why}")

    def note(self, outcomes: Sequence[Outcome | None]) -> None:
        """The outcomes of the recipients of `job`, None for those that another host may still take."""
        for index, outcome in zip(self._open, outcomes, strict=True):
            self._outcomes[index] = outcome
        self._open = [index for index in self._open if self._outcomes[index] is None]
        if self._open:
            self.job = replace(self.job, recipients=tuple(self._recipients[index] for index in self._open))


async def _no_content() -> Iterable[bytes]:
    return ()
