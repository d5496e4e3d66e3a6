"""Examines messages: makes the checks, and decides by the configuration whether a message may come in.

The checks ask DNS, and the decisions over their results (`refusals`) are pure; here both meet the configuration.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

from relay.authenticate import refusals, results, spf
from relay.authenticate.author import authors
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.dmarc import Inputs as DmarcInputs
from relay.authenticate.dns_budget import Budget
from relay.authenticate.examination import Examination, Watch, report
from relay.authenticate.forged_results import strip_forged
from relay.authenticate.iprev import Iprev, iprev
from relay.authenticate.organization import OwnDomains
from relay.authenticate.remembered import NotedQuestions, Remembered
from relay.authenticate.results_field import results_field
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict, check_stranger, read_trusted_results
from relay.config.model import Config
from relay.dns import Resolver
from relay.mail.address import domain_of
from relay.mail.arrival import Arrival
from relay.mail.envelope import Client
from relay.mail.message import HeaderField, Message
from relay.mail.off_loop import run_off_loop
from relay.mail.reply import Refused
from relay.metrics import Metrics
from relay.network import IPNetwork, within


class _Names(NamedTuple):
    """The domains in whose name a message speaks.

    Attributes:
        authors: as every mail program reads From.
        doubtful: those that only some mail programs read there.
        ours: those of both that belong to our organization.
        unknown: those of which DNS does not say it now.
        sender_is_ours: MAIL FROM is in a domain of ours, or below one.
    """

    authors: Sequence[str]
    doubtful: Sequence[str]
    ours: Sequence[str]
    unknown: Sequence[str]
    sender_is_ours: bool


class Examiner:
    """Examines the messages of one worker.

    Args:
        signing_domains: the domains that we sign for; with those of the configuration nobody else may write in their
            name.
        watch: is told of every examination; by default it is logged and counted.
        clock: of the resolver, see `Answer.expires`.
    """

    def __init__(
        self,
        config: Config,
        resolver: Resolver,
        metrics: Metrics,
        signing_domains: Collection[str],
        watch: Watch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._resolver = resolver
        self._metrics = metrics
        self._own_domains = OwnDomains(config.own_domains.union(signing_domains))
        # Hosts whose mail may fail DMARC: a host in spf.skip forwards to us, or is our backup MX.
        self._known_hosts: tuple[IPNetwork | str, ...] = (*config.dmarc.skip, *config.spf.skip)
        self._watch = watch or partial(report, metrics=metrics)
        self._spf_verdicts = Remembered[tuple[str, str, str, bool], SpfVerdict](clock)
        self._dmarc_verdicts = Remembered[DmarcInputs, DmarcVerdict](clock)
        self._iprev_verdicts = Remembered[str, Iprev](clock)

    def budget(self) -> Budget:
        """The questions to DNS that the checks of a new transaction may ask."""
        return Budget(self._resolver)

    async def spf(self, budget: Budget, client: Client, sender: str) -> SpfVerdict:
        """Check SPF of a transaction. The result is `none` for an unnamed client behind a proxy, and for `spf.skip`."""
        if not client.known:
            return spf.unchecked("the proxy does not name the client", helo=client.helo, sender=sender)
        if within(client.ip, self._config.spf.skip):
            return spf.unchecked("a known forwarder", helo=client.helo, sender=sender)
        key = client.ip, client.helo, domain_of(sender), bool(sender)
        verdict = self._spf_verdicts.find(key, budget.spf)
        if verdict is None:
            noted = NotedQuestions(budget.spf)
            verdict = await spf.check(
                noted, ip=client.ip, helo=client.helo, sender=sender, receiver=self._config.hostname
            )
            if verdict.for_domain:
                self._spf_verdicts.keep(key, verdict, noted)
        self._metrics.spf.add(verdict.result)
        return verdict

    def iprev(self, budget: Budget, ip: str) -> asyncio.Future[Iprev]:
        """Look for the name of a client's address. The result is there at once, unless DNS has to be asked."""
        known = self._iprev_verdicts.find(ip, budget.iprev)
        if known is None:
            return asyncio.create_task(self._look_up_name(budget, ip))
        result = asyncio.get_running_loop().create_future()
        result.set_result(known)
        return result

    async def _look_up_name(self, budget: Budget, ip: str) -> Iprev:
        noted = NotedQuestions(budget.iprev)
        verdict = await iprev(noted, ip)
        self._iprev_verdicts.keep(ip, verdict, noted)
        return verdict

    async def examine(
        self, arrival: Arrival, budget: Budget, spf_verdict: SpfVerdict | None, iprev: Iprev | None
    ) -> Examination:
        """Make the checks that are left at the end of DATA, and decide.

        Args:
            spf_verdict: of `spf`; None for a trusted client.
            iprev: of the client's address, where it was asked for.

        Raises:
            Refused: 550 5.7.1, From names more domains than we check. No check was made.
        """
        verdict = await self._verdict(arrival, budget, spf_verdict, iprev)
        message, forged, override = arrival.message, tuple[HeaderField, ...](), ""
        questions, refusal = budget.asked, None
        try:
            if not arrival.client.trusted:
                names = await self._names(arrival, budget)
                ip, sender_is_ours = arrival.client.ip, names.sender_is_ours
                refusals.refuse_forged(verdict, sender_is_ours, names.authors, names.ours, ip, names.doubtful)
                override = self._override(arrival, verdict)
                if not override:
                    self._apply_policies(arrival, verdict)
                refusals.defer_unknown_owner(verdict, names.authors, names.unknown)
            message, forged = await self._without_forged_results(arrival, verdict)
        except Refused as refused:
            refusal = refused.reply
        finally:
            failed = verdict.dmarc is not None and verdict.dmarc.result in ("fail", "temperror")
            override = override if failed else ""
            examination = Examination(arrival, verdict, message, forged, override, refusal, questions)
            self._watch(examination)
        return examination

    async def _verdict(
        self, arrival: Arrival, budget: Budget, spf_verdict: SpfVerdict | None, iprev: Iprev | None
    ) -> Verdict:
        now = time.time()
        if arrival.client.trusted or spf_verdict is None:
            # A user is no MTA: nobody has removed what he may have forged.
            authserv_ids = () if arrival.client.user else self._config.clients.authserv_ids
            return await read_trusted_results(self._resolver, arrival.message, arrival.sender, authserv_ids, now)
        named = authors(arrival.message)
        refusals.refuse_many_authors(named.domains, named.doubtful)
        return await check_stranger(
            budget, arrival.message, arrival.sender, spf_verdict, iprev, now, self._dmarc_verdicts
        )

    async def _names(self, arrival: Arrival, budget: Budget) -> _Names:
        _, domains, doubtful = authors(arrival.message)
        belong = {domain: self._own_domains.know(domain) for domain in (*domains, *doubtful)}
        if open_questions := [domain for domain, is_ours in belong.items() if is_ours is None]:
            answers = await asyncio.gather(*(self._own_domains.belong(budget.authors, one) for one in open_questions))
            belong.update(zip(open_questions, answers, strict=True))
        return _Names(
            authors=domains,
            doubtful=doubtful,
            ours=[domain for domain, is_ours in belong.items() if is_ours],
            unknown=[domain for domain, is_ours in belong.items() if is_ours is None],
            sender_is_ours=self._own_domains.has(domain_of(arrival.sender)),
        )

    def _override(self, arrival: Arrival, verdict: Verdict) -> str:
        """Why a DMARC failure would not count; empty where it would."""
        return refusals.overrides(self._known_hosts, self._config.arc.trusted_sealers, verdict, arrival.client.ip)

    def _apply_policies(self, arrival: Arrival, verdict: Verdict) -> None:
        """Refuse or defer a message that failed SPF or DMARC.

        Raises:
            Refused: 550 5.7.23 or 5.7.26; 451 4.7.24 or 4.7.26.
        """
        config, ip, doubt = self._config, arrival.client.ip, ""
        if config.dmarc.temperror == "defer":
            doubt = refusals.override_doubt(self._known_hosts, config.arc.trusted_sealers, verdict)
        refusals.apply_spf_unless_dkim(config.spf, verdict, ip, doubt)
        if verdict.dmarc is not None:
            refusals.apply_dmarc(config.dmarc, verdict.dmarc, ip, doubt)

    async def _without_forged_results(
        self, arrival: Arrival, verdict: Verdict
    ) -> tuple[Message, tuple[HeaderField, ...]]:
        believed = verdict.trusted_results.fields if verdict.trusted_results is not None else ()
        is_mta = arrival.client.trusted and not arrival.client.user
        other_ids = () if is_mta else self._config.clients.authserv_ids
        message = arrival.message
        return await run_off_loop(message, partial(strip_forged, message, self._config.authserv, believed, other_ids))

    def results_field(self, examination: Examination) -> bytes:
        """Our Authentication-Results with its CRLF; empty for a trusted client, whose own MTA writes one.

        For a user it says that he has logged in.
        """
        arrival = examination.arrival
        if arrival.client.user:
            return results_field(self._config.authserv, [results.auth_result(arrival.client.user)])
        if arrival.client.trusted:
            return b""
        values = results.all_results(
            examination.verdict, ip=arrival.client.ip, sender=arrival.sender, override=examination.override
        )
        return results_field(self._config.authserv, values)
