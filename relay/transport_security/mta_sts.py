"""MTA-STS (RFC 8461) for mail that leaves: finds the policy of a domain, and keeps it for as long as it says.

The TXT record of a domain only says which version of a policy there is. The policy comes over HTTPS, is stored in the
queue's database, and holds until its max_age is over, whatever becomes of record and policy host: an attacker who can
suppress them must not be able to suppress the policy (section 10.2). Without a stored policy, one that cannot be had
now is none (section 3.3).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from relay.dns import DnsFailure, Resolver
from relay.mail.address import DOMAIN, normal_domain
from relay.metrics import Metrics
from relay.transport_security.mta_sts_policy import BadPolicy, Policy, parse_off_loop
from relay.transport_security.mta_sts_record import BadRecord, policy_id, texts_of
from relay.transport_security.policy_host import SECONDS, Fault, NotFetched, PolicyHosts, host_of
from relay.transport_security.policy_memory import HeldPolicy, PolicyMemory
from relay.transport_security.stored_policy import PolicyStore, StoredPolicy

log = structlog.get_logger()

PATIENCE = 10.0  # seconds that a delivery waits for a policy; the fetch goes on, so that the next delivery has it
RETRY_AFTER = 300.0  # seconds in which a version that could not be fetched is not tried again (section 3.3)
FETCHES = 50  # at a time in a worker
FAILURES = 10_000  # remembered by a worker

DAY = 86400.0
REFRESH_EVERY = 300.0  # seconds between two looks for policies to refresh
REFRESHES = 10  # at a time
SHORTEST = 3600.0  # seconds from a fetch to its refresh: a policy that does not hold for so long is fetched with mail
RETRY_REFRESH = 4 * 3600.0  # seconds after which a refresh that failed is tried again
USED_WITHIN = 30 * DAY  # a policy of a domain that no mail has gone to for so long is left to expire

LOGGED_HOSTS = 20


class _Failure(NamedTuple):
    policy_id: str
    until: float
    fault: Fault
    problem: str


class MtaStsPolicies:
    """The policies of domains, for one worker.

    Args:
        hosts: fetches what is not stored.
        clock: Unix time.
    """

    def __init__(
        self,
        resolver: Resolver,
        hosts: PolicyHosts,
        store: PolicyStore,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._resolver = resolver
        self._store = store
        self._metrics = metrics
        self._hosts = hosts
        self._clock = clock
        self._memory = PolicyMemory(time.monotonic)
        self._fetching: dict[str, asyncio.Task[HeldPolicy | None]] = {}
        self._failures: OrderedDict[str, _Failure] = OrderedDict()
        self._room = asyncio.Semaphore(FETCHES)
        self._notes: set[asyncio.Task[None]] = set()

    async def policy(self, domain: str) -> Policy | None:
        """The policy of a domain that holds now, whatever its mode; None where there is none, or none can be had.

        Waits at most `PATIENCE` seconds longer than DNS. Never raises.
        """
        domain = normal_domain(domain)
        if not (domain.isascii() and DOMAIN.match(domain)):
            return None
        published, held = await asyncio.gather(self._published(domain), self._held(domain))
        if published and (held is None or held.stored.policy_id != published):
            held = await self._fetched(domain, published) or held
        if held is None:
            return None
        if self._clock() - held.stored.used > DAY:
            self._note_use(held)
        return held.policy

    def problem(self, domain: str) -> tuple[Fault, str] | None:
        """Why the policy that a domain announces could not be had, in the words of TLS reports (RFC 8460 section
        4.3.2.2) and of people. None where it could be, or nobody has tried for `RETRY_AFTER` seconds."""
        failure = self._last_failure(normal_domain(domain))
        return (failure.fault, failure.problem) if failure is not None else None

    async def run(self) -> None:
        """Refresh stored policies before they end, until the task is cancelled.

        A policy is fetched again daily, or at half of its life where that is shorter, also when the record has not
        changed (section 10.2), and no matter whether mail goes to the domain on that day: else the policy of a domain
        that gets a message a week would end between two of them. Workers share the policies between them.
        """
        while True:
            await asyncio.sleep(REFRESH_EVERY * random.uniform(0.5, 1.5))
            await self.refresh()

    async def refresh(self) -> None:
        """Fetch all policies again whose time has come. Never raises."""
        while True:
            now = self._clock()
            due = await self._store.policies_to_refresh(now, now - USED_WITHIN, now + RETRY_REFRESH, REFRESHES)
            if not due:
                return
            await asyncio.gather(*(self._refresh(stored.domain, stored.policy_id) for stored in due))

    async def close(self) -> None:
        """Give up the fetches under way."""
        tasks = (*self._fetching.values(), *self._notes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # the record and the stored policy

    async def _published(self, domain: str) -> str:
        """The id in the record of a domain; empty where there is none, or none that counts, or DNS has no answer."""
        try:
            answer = await self._resolver.query(f"_mta-sts.{domain}", "TXT")
            return policy_id(texts_of(answer.records))
        except (DnsFailure, BadRecord):
            return ""

    async def _held(self, domain: str) -> HeldPolicy | None:
        """The stored policy of a domain, if it still holds."""
        held = self._memory.get(domain) if self._memory.has(domain) else await self._read(domain)
        return held if held is not None and self._holds(held) else None

    async def _read(self, domain: str) -> HeldPolicy | None:
        """What the database has, read and remembered."""
        stored = await self._store.policy_of(domain)
        held = None
        if stored is not None:
            try:
                held = HeldPolicy(stored, await parse_off_loop(stored.policy))
            except BadPolicy as error:
                log.warning("mta_sts_damaged", domain=domain, problem=str(error))
        self._memory.put(domain, held)
        return held

    def _holds(self, held: HeldPolicy) -> bool:
        return self._clock() < held.stored.fetched + held.policy.max_age

    def _note_use(self, held: HeldPolicy) -> None:
        domain, now = held.stored.domain, self._clock()
        self._memory.put(domain, replace(held, stored=replace(held.stored, used=now)))
        note = asyncio.get_running_loop().create_task(self._store.policy_used(domain, now))
        self._notes.add(note)
        note.add_done_callback(self._notes.discard)

    # fetching

    async def _fetched(self, domain: str, version: str) -> HeldPolicy | None:
        """This version of a policy, from its host; None where it cannot be had, or not yet.

        Deliveries that ask for the policy of one domain at the same time share one fetch.
        """
        failure = self._last_failure(domain)
        if failure is not None and failure.policy_id == version:
            return None
        task = self._fetching.get(domain)
        if task is None:
            task = self._start(domain, self._fetch(domain, version))
        done, _ = await asyncio.wait({task}, timeout=PATIENCE)
        return task.result() if done and not task.cancelled() else None

    def _last_failure(self, domain: str) -> _Failure | None:
        """The last fetch that failed, for `RETRY_AFTER` seconds, also where the clock was put back since."""
        failure = self._failures.get(domain)
        return failure if failure is not None and 0 < failure.until - self._clock() <= RETRY_AFTER else None

    async def _refresh(self, domain: str, version: str) -> None:
        version = await self._published(domain) or version
        if domain not in self._fetching:
            await asyncio.wait({self._start(domain, self._fetch(domain, version, again=True))})

    def _start(self, domain: str, fetch: Coroutine[Any, Any, HeldPolicy | None]) -> asyncio.Task[HeldPolicy | None]:
        async def guarded() -> HeldPolicy | None:
            try:
                return await fetch
            except Exception:  # a fault of ours must not keep the mail of the domain
                log.exception("mta_sts_failed", domain=domain)
                return None

        task = asyncio.get_running_loop().create_task(guarded(), name=f"mta-sts {domain}")
        self._fetching[domain] = task
        task.add_done_callback(lambda _: self._fetching.pop(domain, None))
        return task

    async def _fetch(self, domain: str, version: str, *, again: bool = False) -> HeldPolicy | None:
        """Fetch a policy and store it; None where that fails.

        Args:
            again: also where this version is stored.
        """
        before = await self._read(domain)  # another worker may have fetched it meanwhile
        if before is not None and not self._holds(before):
            before = None
        if before is not None and before.stored.policy_id == version and not again:
            return before
        try:
            async with asyncio.timeout(SECONDS), self._room:
                text, policy = await self._hosts.policy(domain)
        except NotFetched as error:
            self._not_fetched(domain, version, before, str(error), error.fault)
            return None
        except TimeoutError:
            problem = f"{host_of(domain)}: not finished within {SECONDS:g} s"
            self._not_fetched(domain, version, before, problem, "sts-policy-fetch-error")
            return None
        self._metrics.mta_sts_fetches.add("fetched")
        self._failures.pop(domain, None)
        held = HeldPolicy(self._to_store(domain, version, text, policy, before), policy)
        self._memory.put(domain, held)
        await self._store.keep_policy(held.stored)
        if before is None or before.policy != policy:
            _log_policy(domain, version, policy, before)
        return held

    def _to_store(
        self, domain: str, version: str, text: str, policy: Policy, before: HeldPolicy | None
    ) -> StoredPolicy:
        now = self._clock()
        return StoredPolicy(
            domain=domain,
            policy_id=version,
            policy=text,
            fetched=now,
            expires=now + policy.max_age,
            refresh=now + min(DAY, max(policy.max_age / 2, SHORTEST)),
            used=before.stored.used if before is not None else now,
        )

    def _not_fetched(self, domain: str, version: str, before: HeldPolicy | None, problem: str, fault: Fault) -> None:
        self._metrics.mta_sts_fetches.add(fault)
        self._failures.pop(domain, None)
        self._failures[domain] = _Failure(version, self._clock() + RETRY_AFTER, fault, problem)
        if len(self._failures) > FAILURES:
            self._failures.popitem(last=False)
        if before is None or before.policy.mode == "none":  # nobody of ours can do anything about it
            log.info("mta_sts_not_fetched", domain=domain, problem=problem)
            return
        until = datetime.fromtimestamp(before.stored.fetched + before.policy.max_age, UTC)
        log.warning(
            "mta_sts_not_fetched",
            domain=domain,
            problem=problem,
            mode=before.policy.mode,
            until=until.isoformat(timespec="seconds"),
        )


def _log_policy(domain: str, version: str, policy: Policy, before: HeldPolicy | None) -> None:
    log.info(
        "mta_sts_policy",
        domain=domain,
        mode=policy.mode,
        was=before.policy.mode if before is not None else None,
        policy_id=version,
        max_age=policy.max_age,
        hosts=policy.patterns[:LOGGED_HOSTS],
    )
