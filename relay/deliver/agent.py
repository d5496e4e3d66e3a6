"""Hands a job to its next hop: which hosts, over which connection, and what to do when one of them fails.

The facade of this folder: the rest of the relay knows `Agent` and `Job`, and neither MX nor sockets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from relay.address import normal_domain
from relay.config import Config, ConfigError, Delivery
from relay.deliver.mx import Hop, HostFinder, Unroutable
from relay.deliver.pool import Lane, Pool
from relay.deliver.reply import Outcome, deferral
from relay.deliver.smtp import Connection, HostFailed
from relay.deliver.transaction import Job, probe, transact
from relay.dns import Resolver
from relay.message import Recipient
from relay.network import Endpoint

__all__ = ["Agent", "Job"]

_Action = Callable[[Connection, Job, Delivery], Awaitable[tuple[Outcome, ...]]]


class Agent:
    """Delivers for one worker.

    Raises:
        ConfigError: the smarthost's password cannot be read.
    """

    def __init__(self, config: Config, resolver: Resolver) -> None:
        self._hostname = config.hostname
        self._delivery = config.delivery
        self._finder = HostFinder(config, resolver)
        self._pool = Pool(config.delivery.concurrency)
        self._smarthost = _smarthost(config)

    async def deliver(self, domain: str, next_hop: Endpoint | None, job: Job) -> tuple[Outcome, ...]:
        """Deliver to the route's own next hop, or else the smarthost, or else the MX of `domain`.

        Returns:
            One outcome for each recipient of the job, in their order. Never raises for what a server does.
        """
        hop = self._hop(domain, next_hop)
        smarthost = self._delivery.smarthost
        if not job.sender and smarthost is not None and hop is self._smarthost and smarthost.null_sender:
            job = replace(job, sender=smarthost.null_sender)
        return await self._run(hop, job, transact)

    async def probe(self, next_hop: Endpoint, recipient: str) -> Outcome:
        """Whether a mailbox host would take mail for a recipient (MAIL FROM:<>, RCPT, and no DATA).

        `failed` is its refusal of this recipient for good; everything else that is no acceptance is `deferred`.
        """
        job = Job("", (Recipient(recipient),), 0, is_8bit=False, needs_smtputf8=False, ret="", envid="", content=tuple)
        return (await self._run(self._hop("", next_hop), job, probe))[0]

    async def close(self) -> None:
        """Say goodbye to every server."""
        await self._pool.close()

    def _hop(self, domain: str, next_hop: Endpoint | None) -> Hop:
        if next_hop is not None:
            return Hop(endpoint=next_hop, tls=self._delivery.tls)
        return self._smarthost or Hop(domain=normal_domain(domain), tls=self._delivery.tls)

    async def _run(self, hop: Hop, job: Job, action: _Action) -> tuple[Outcome, ...]:
        async with self._pool.lane(hop) as lane, lane.turn() as unreachable:
            if unreachable is not None:
                return (unreachable,) * len(job.recipients)
            progress = _Progress(job)
            while (connection := lane.take()) is not None:
                try:
                    progress.note(await self._use(lane, connection, progress.job, action))
                    return progress.outcomes
                except HostFailed as failed:
                    progress.failed(failed)
                    if failed.phase != "mail":  # at MAIL, it had only been closed while it was idle
                        break
            await self._fresh(hop, lane, progress, action)
            return progress.outcomes

    async def _fresh(self, hop: Hop, lane: Lane, progress: _Progress, action: _Action) -> None:
        """Try the hosts of the next hop in their order, until every recipient has an outcome."""
        try:
            hosts = await self._finder.find(hop)
        except Unroutable as unroutable:
            progress.give_up(unroutable.outcome)
            return
        reached = False
        for host in hosts:
            try:
                connection = await Connection.open(host, hop, self._hostname, self._delivery)
            except HostFailed as failed:
                progress.failed(failed)
                continue
            reached = True
            lane.reachable()
            try:
                progress.note(await self._use(lane, connection, progress.job, action))
                return
            except HostFailed as failed:
                progress.failed(failed)
        if not reached:
            lane.unreachable(progress.last)
        progress.give_up(progress.last)

    async def _use(self, lane: Lane, connection: Connection, job: Job, action: _Action) -> tuple[Outcome, ...]:
        try:
            outcomes = await action(connection, job, self._delivery)
        except BaseException:
            connection.abort()
            raise
        if connection.idle and connection.used < self._delivery.messages_per_connection:
            lane.keep(connection, self._delivery.idle_timeout)
        else:
            await connection.quit()
        return outcomes


class _Progress:
    """Which recipients have their outcome, and the job for those that have not."""

    def __init__(self, job: Job) -> None:
        self._outcomes: list[Outcome | None] = [None] * len(job.recipients)
        self.job = job
        self.last = deferral("4.4.1", "no host was tried")

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return tuple(outcome if outcome is not None else self.last for outcome in self._outcomes)

    def note(self, outcomes: Sequence[Outcome | None]) -> None:
        """The outcomes of the recipients of `job`, as far as they are certain."""
        open_ = [index for index, outcome in enumerate(self._outcomes) if outcome is None]
        for index, outcome in zip(open_, outcomes, strict=True):
            self._outcomes[index] = outcome
        left = [recipient for recipient, o in zip(self.job.recipients, outcomes, strict=True) if o is None]
        self.job = replace(self.job, recipients=tuple(left))

    def failed(self, failure: HostFailed) -> None:
        """A host could not be used; another may be."""
        self.last = failure.outcome
        if failure.settled:
            self.note(failure.settled)

    def give_up(self, outcome: Outcome) -> None:
        """No host is left: the recipients without an outcome get this one."""
        self.last = outcome


def _smarthost(config: Config) -> Hop | None:
    smarthost = config.delivery.smarthost
    if smarthost is None:
        return None
    password = ""
    if smarthost.password_file is not None:
        try:
            password = smarthost.password_file.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{smarthost.password_file}: {error}") from None
    return Hop(endpoint=smarthost.url, tls=smarthost.tls_level, user=smarthost.user, password=password)
