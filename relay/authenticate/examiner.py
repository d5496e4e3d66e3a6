"""The stage between receiving and the queue: what is known of a message, and whether it may go on.

The checks themselves and the decisions over them are pure or ask DNS alone; here they meet the configuration, the log
and the metrics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from functools import partial

import structlog

from relay.authenticate import forged_results as forged
from relay.authenticate import refusals as policy
from relay.authenticate import results, spf
from relay.authenticate.author import author_domains, doubtful_domains
from relay.authenticate.dns_budget import Budget
from relay.authenticate.iprev import Iprev
from relay.authenticate.organization import belongs_to_us
from relay.authenticate.results_field import results_field
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict, examine, hear
from relay.config.model import Config
from relay.dns import Resolver
from relay.mail.address import domain_of
from relay.mail.domains import is_same_or_below
from relay.mail.envelope import Client
from relay.mail.message import Message
from relay.mail.off_loop import run_off_loop
from relay.mail.reply import Refused
from relay.metrics import Metrics
from relay.network import within
from relay.sign.signer import Signer

log = structlog.get_logger()


class Examiner:
    """Examines for one worker.

    Args:
        signer: mail that it signs in the author's own name survives any way.
    """

    def __init__(self, config: Config, resolver: Resolver, metrics: Metrics, signer: Signer) -> None:
        self._config = config
        self._resolver = resolver
        self._metrics = metrics
        self._signer = signer
        self._own_domains = config.own_domains | signer.table.domains

    def budget(self) -> Budget:
        """The questions to DNS of a new transaction, for all that is asked here of it."""
        return Budget(self._resolver)

    async def spf(self, budget: Budget, client: Client, sender: str) -> SpfVerdict:
        """The SPF verdict on a transaction; `none` for who comes unnamed through a proxy, or from `spf.skip`."""
        if not client.known:
            return spf.unchecked("the proxy does not name the client", helo=client.helo, sender=sender)
        if within(client.ip, self._config.spf.skip):
            return spf.unchecked("a known forwarder", helo=client.helo, sender=sender)
        verdict = await spf.check(
            budget.spf, ip=client.ip, helo=client.helo, sender=sender, receiver=self._config.hostname
        )
        self._metrics.spf.add(verdict.result)
        return verdict

    async def verdict(
        self,
        budget: Budget,
        client: Client,
        sender: str,
        message: Message,
        found: SpfVerdict | None,
        name: Iprev | None,
    ) -> Verdict:
        """Everything that is known of a message.

        Args:
            found: by `spf`; None for a trusted client.
            name: of the client's address, where it was asked for.

        Raises:
            Refused: 550 5.7.1, for more authors than are looked at.
        """
        now = time.time()
        if client.trusted or found is None:
            return await hear(self._resolver, message, sender, self._config.clients.authserv_ids, now)
        policy.refuse_many_authors(author_domains(message), doubtful_domains(message))
        return await examine(budget, message, sender, found, name, now)

    async def judge(
        self, budget: Budget, client: Client, sender: str, message: Message, verdict: Verdict, queue_id: str
    ) -> str:
        """What the verdict leads to; returns why a DMARC failure does not count, where that is so.

        Raises:
            Refused: 550 5.7.1, 5.7.23, 5.7.26, or the like for now.
        """
        self._note(verdict, queue_id, budget.asked)
        if client.trusted:
            return ""
        authors, doubtful = author_domains(message), doubtful_domains(message)
        named = (*authors, *doubtful)
        kin = await asyncio.gather(*(belongs_to_us(budget.authors, self._own_domains, domain) for domain in named))
        ours = [domain for domain, is_kin in zip(named, kin, strict=True) if is_kin]
        unknown = [domain for domain, is_kin in zip(named, kin, strict=True) if is_kin is None]
        sender_is_ours = is_same_or_below(self._own_domains, domain_of(sender))
        policy.refuse_forged(verdict, sender_is_ours, authors, ours, client.ip, doubtful)
        failed = verdict.dmarc is not None and verdict.dmarc.result in ("fail", "temperror")
        # Who is passed over by SPF forwards, or is our backup MX: DMARC has nothing to hold on to there either.
        known = (*self._config.dmarc.skip, *self._config.spf.skip)
        sealers = self._config.arc.trusted_sealers
        override = policy.overrides(known, sealers, verdict, client.ip)
        if not override:
            waits = self._config.dmarc.temperror == "defer"
            doubt = policy.override_doubt(known, sealers, verdict) if waits else ""
            policy.apply_spf_unless_dkim(self._config.spf, verdict, client.ip, doubt)
            if verdict.dmarc is not None:
                policy.apply_dmarc(self._config.dmarc, verdict.dmarc, client.ip, doubt)
        elif failed and verdict.dmarc is not None:
            log.info("dmarc_overridden", id=queue_id, domain=verdict.dmarc.domain, reason=override)
        policy.defer_unknown_owner(verdict, authors, unknown)
        return override if failed else ""

    def _note(self, verdict: Verdict, queue_id: str, questions: int) -> None:
        """One log line, and the metrics, for all that was checked."""
        if verdict.spf is None or verdict.dmarc is None:
            return
        log.info(
            "authenticated",
            id=queue_id,
            spf=verdict.spf.result,
            domain=verdict.spf.domain,
            identity=verdict.spf.identity,
            dkim=[f"{one.domain}:{one.result}" for one in verdict.dkim],
            arc=verdict.arc.result,
            dmarc=verdict.dmarc.result,
            author=verdict.dmarc.domain,
            policy=verdict.dmarc.policy or None,
            problem=verdict.dmarc.problem or None,
            aligned=list(verdict.aligned),
            word=verdict.word.authserv_id if verdict.word is not None else None,
            questions=questions,
        )
        for one in verdict.dkim:
            self._metrics.dkim.add(one.result)
        self._metrics.arc.add(verdict.arc.result)
        self._metrics.dmarc.add(verdict.dmarc.result)

    def rejects_unforwardable(self, recipients: Iterable[str]) -> bool:
        """Whether a message for these recipients is refused if DMARC would fail behind us."""
        return any(self._config.unforwardable(domain_of(recipient)) == "reject" for recipient in recipients)

    def unforwardable_reason(self, verdict: Verdict, sender: str) -> str:
        """Why DMARC would fail behind us; empty where it passes, be it by what we sign or send in the author's name."""
        author, reason = policy.breaks_when_forwarded(verdict)
        ours = domain_of(sender) in self._config.senders.local_domains or self._signer.signs_as(author, time.time())
        return "" if ours else reason

    def treat_unforwardable(self, verdict: Verdict, sender: str, queue_id: str, recipients: Iterable[str]) -> str:
        """`unforwardable_reason`, noted with what is done about it.

        Raises:
            Refused: 550 5.7.1, the way to a recipient wants such mail refused.
        """
        reason = self.unforwardable_reason(verdict, sender)
        if not reason:
            return ""
        treatments = {self._config.unforwardable(domain_of(recipient)) for recipient in recipients}
        for treatment in treatments:
            self._metrics.unforwardable.add(treatment)
        log.info("unforwardable", id=queue_id, treatment=sorted(treatments), reason=reason)
        if "reject" in treatments:
            raise Refused(550, "5.7.1", f"{reason}: it would fail at the next hop, so it is not forwarded from here")
        return reason

    async def without_mbox_lines(self, message: Message, queue_id: str) -> Message:
        """The message without the first lines that only a mailbox file has."""
        kept = await run_off_loop(message, message.without_mbox_lines)
        if kept is not message:
            log.info("mbox_lines_removed", id=queue_id, octets=len(message.content) - len(kept.content))
        return kept

    async def without_forged(self, message: Message, verdict: Verdict, queue_id: str) -> Message:
        """The message without Authentication-Results that pretend to be ours."""
        believed = verdict.word.fields if verdict.word is not None else ()
        others = () if verdict.trusted else self._config.clients.authserv_ids
        strip = partial(forged.strip_forged, message, self._config.authserv, believed, others)
        message, removed = await run_off_loop(message, strip)
        if removed:
            log.info("forged_results_removed", id=queue_id, fields=len(removed), signed=forged.are_signed(message))
        return message

    def results_field(self, client: Client, sender: str, verdict: Verdict, override: str) -> bytes:
        """Our Authentication-Results with its CRLF; nothing of a trusted client's mail, which its own MTA knows."""
        if client.trusted:
            return b""
        found = results.all_results(verdict, ip=client.ip, sender=sender, override=override)
        return results_field(self._config.authserv, found)
