"""DMARC (RFC 9989): whether SPF or DKIM passes for the author's domain, and what its owner wants done if neither does.

`evaluate` is a pure function of the author's domain, the SPF and DKIM verdicts, and the answers of DNS. `check` reads
the authors of a message and asks DNS what an evaluation needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeVar

from relay.authenticate.author import authors
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc_alignment import any_passes_aligned
from relay.authenticate.dmarc_policy_discovery import discover_policy
from relay.authenticate.dmarc_record import POLICIES, AlignmentMode, Policy, StatedPolicy
from relay.authenticate.dmarc_tree_walk import (
    Lookup,
    Lookups,
    Unasked,
    conclude_within,
    is_domain,
    organizational_domain,
)
from relay.authenticate.spf import SpfVerdict
from relay.dns import DnsFailure, Resolver, TooManyQuestions
from relay.mail.message import Message
from relay.mail.reply import printable

Result = Literal["none", "pass", "fail", "temperror", "permerror"]
Method = Literal["spf", "dkim"]
T = TypeVar("T")

CHECK_SECONDS = 20.0  # each for policies and for alignment, with DNS: as long as RFC 7208 section 4.6.4 gives SPF
AUTHOR_DOMAINS = 10  # of one message that are evaluated; RFC 9989 section 11.5 wants a limit

Inputs = tuple[str, str, tuple[str, ...]]
"""What the verdict on an ordinary message depends on besides DNS: the author's domain, and those for which SPF and DKIM
pass."""


@dataclass(frozen=True, slots=True)
class DmarcVerdict:
    """The DMARC result for a message.

    Attributes:
        result: RFC 9989 section 9.2; `none` if no record applies, or one that asks for nothing.
        domain: the author's domain, as looked up; printable ASCII; empty if From names none.
        organizational: its Organizational Domain; empty if it was not needed, and so not looked up.
        policy: the policy for `domain` (p, sp or np), as published; empty without a record, and if it is not known.
        testing: the owner does not want the policy applied yet (`t=y`).
        aligned: the methods that pass for a domain in alignment with `domain`; also if the result is `none`.
        record_domain: the domain that has the record.
        problem: why the result is no better, with the DNS name at fault; printable ASCII.
        unsettled: every policy that may apply, if it is not known which does and that may matter.
        from_fields: how many From fields the message has.
        others: the verdicts on the other domains in From; this verdict counts most.
        lookups: the DNS questions for all author domains, in the order in which they were asked.
    """

    result: Result
    domain: str
    organizational: str = ""
    policy: StatedPolicy = ""
    testing: bool = False
    aligned: tuple[Method, ...] = ()
    record_domain: str = ""
    problem: str = ""
    unsettled: tuple[Policy, ...] = ()
    from_fields: int = 1
    others: tuple[DmarcVerdict, ...] = field(default=(), repr=False, compare=False)
    lookups: tuple[Lookup, ...] = field(default=(), repr=False, compare=False)

    @property
    def domains(self) -> int:
        """How many domains From can be read to name, of those that were evaluated."""
        return len(self.others) + 1

    @property
    def dispositions(self) -> tuple[Policy, ...]:
        """What may have to be done with the message, on `fail` and on `temperror`; empty otherwise.

        It is the policy, or with `t=y` the next milder one (section 4.7); several if it is not known which applies.
        """
        if self.result not in ("fail", "temperror"):
            return ()
        policies = self.unsettled or ((self.policy,) if self.policy else ())
        return tuple(POLICIES[max(0, POLICIES.index(policy) - self.testing)] for policy in policies)

    @property
    def disposition(self) -> Policy:
        """What is to be done with the message."""
        return max(self.dispositions, key=POLICIES.index, default="none") if self.result == "fail" else "none"


def inputs(message: Message, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict]) -> Inputs | None:
    """What `check` depends on for these arguments; None for an odd From, and while SPF or DKIM waits for DNS."""
    fields, domains, doubtful = authors(message)
    if (fields, len(domains), len(doubtful)) != (1, 1, 0) or (spf is not None and spf.result == "temperror"):
        return None
    passing = []
    for signature in dkim:
        if signature.result == "temperror":
            return None
        if signature.result == "pass":
            passing.append(signature.domain)
    return domains[0], spf.domain if spf is not None and spf.result == "pass" else "", tuple(passing)


async def check(
    resolver: Resolver, message: Message, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict]
) -> DmarcVerdict:
    """Evaluates every domain that From can be read to name; returns the verdict that counts most against the message.

    So no author passes by the good name of another (section 11.5), and no odd From by one of its readings. A domain
    that only some readers see counts if it fails, or may fail. With several From fields nothing is in alignment
    (section 4.4).

    First the records of all authors are looked up, then what else their policies need, and last what alignment needs:
    so alignment takes none of the counted questions from the policies.

    Args:
        spf: for MAIL FROM, or for the EHLO name if the sender is null (section 3.2.4); None: not checked.
        dkim: for every signature.
    """
    fields, named, doubtful = authors(message)
    domains = list(dict.fromkeys(named))
    if not domains and not doubtful:
        problem = "From names no domain" if fields else "no From"
        return DmarcVerdict("permerror", "", problem=problem, from_fields=fields)
    if fields > 1:
        spf, dkim = None, ()
    lookups = Lookups()
    certain = domains[:AUTHOR_DOMAINS]
    evaluable = [*certain, *doubtful[:AUTHOR_DOMAINS]]

    async def conclude_for_each(conclusion: Callable[[str, Lookups], T]) -> list[T]:
        within = [conclude_within(CHECK_SECONDS, partial(conclusion, one), lookups, resolver) for one in evaluable]
        return [await within[0]] if len(within) == 1 else await asyncio.gather(*within)

    if len(evaluable) > 1:
        await conclude_for_each(_ask_for_record)
        await conclude_for_each(_ask_for_policy)
    evaluated = await conclude_for_each(lambda author, known: evaluate(author, spf, dkim, known))
    verdicts = evaluated[: len(certain)]
    if fields > 1:
        verdicts = [_with_repeated_from(verdict, fields) for verdict in verdicts]
    verdicts += [
        replace(verdict, from_fields=fields)
        for verdict in evaluated[len(certain) :]
        if verdict.result in ("fail", "temperror")
    ]
    if not domains:
        verdicts.append(DmarcVerdict("permerror", "", problem="From names no domain"))
    if max(len(domains), len(doubtful)) > AUTHOR_DOMAINS:
        verdicts.append(DmarcVerdict("permerror", "", problem=f"more than {AUTHOR_DOMAINS} domains in From"))
    worst = max(verdicts, key=lambda verdict: (_gravity(verdict), bool(verdict.policy)))
    others = tuple(verdict for verdict in verdicts if verdict is not worst)
    return replace(worst, others=others, lookups=tuple(lookups.values()))


def evaluate(author: str, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict], lookups: Lookups) -> DmarcVerdict:
    """The verdict on one author's domain, in A-labels.

    Raises:
        Unasked: it depends on a question that is not among `lookups`.
    """
    shown = printable(author)
    if not _can_be_looked_up(author):
        return DmarcVerdict("permerror", shown, problem="From names a domain that DNS cannot hold")
    try:
        discovered = discover_policy(author, lookups)
    except DnsFailure as failure:
        return _with_unknown_policy(author, spf, dkim, failure)
    # Without a record no two domains are of one organization, so the strict mode needs no tree walk.
    record = discovered.record
    modes: tuple[AlignmentMode, AlignmentMode] = (record.aspf, record.adkim) if record else ("s", "s")
    by_spf, spf_failures = any_passes_aligned(author, (spf,) if spf else (), modes[0], lookups)
    by_dkim, dkim_failures = any_passes_aligned(author, dkim, modes[1], lookups)
    failures = [*spf_failures, *dkim_failures, *([discovered.doubt] if discovered.doubt else [])]
    temporary = [failure for failure in failures if not isinstance(failure, TooManyQuestions)]
    policy: StatedPolicy = max(discovered.policies, key=POLICIES.index, default="")
    result: Result = "fail"
    problem = ""
    if not policy:
        result, problem = "none", f"the record of {discovered.record_domain} asks for nothing" if record else ""
    elif by_spf or by_dkim:
        result = "pass"
    elif temporary:
        result, problem = "temperror", str(temporary[0])
    elif failures:
        problem = str(failures[0])
    return DmarcVerdict(
        result,
        shown,
        organizational=_known_organization(author, lookups),
        policy=policy,
        testing=record is not None and record.testing,
        aligned=_methods(by_spf, by_dkim),
        record_domain=discovered.record_domain,
        problem=problem,
        unsettled=discovered.policies if len(discovered.policies) > 1 else (),
    )


def _ask_for_record(author: str, lookups: Lookups) -> None:
    """A conclusion that needs only the domain's own record. Raises Unasked."""
    if _can_be_looked_up(author):
        with suppress(DnsFailure):
            lookups.record(author)


def _ask_for_policy(author: str, lookups: Lookups) -> None:
    """A conclusion that needs all that the domain's policy depends on. Raises Unasked."""
    if _can_be_looked_up(author):
        with suppress(DnsFailure):
            discover_policy(author, lookups)


def _can_be_looked_up(author: str) -> bool:
    return is_domain(author) and not author.startswith("[")


def _with_unknown_policy(
    author: str, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict], failure: DnsFailure
) -> DmarcVerdict:
    """The verdict if it is not known which policy applies.

    What passes for the very domain of the author is in alignment under any policy; all else may fail the strictest one.
    If no more questions may be asked, it does fail, so that nobody gains by using them up.
    """
    by_spf = spf is not None and (spf.result, spf.domain) == ("pass", author)
    by_dkim = any((signature.result, signature.domain) == ("pass", author) for signature in dkim)
    aligned = _methods(by_spf, by_dkim)
    result: Result = "temperror"
    if isinstance(failure, TooManyQuestions):
        result = "permerror" if aligned else "fail"
    unsettled = () if aligned else POLICIES
    return DmarcVerdict(result, printable(author), aligned=aligned, problem=str(failure), unsettled=unsettled)


def _methods(by_spf: bool, by_dkim: bool) -> tuple[Method, ...]:
    methods: tuple[tuple[Method, bool], ...] = (("spf", by_spf), ("dkim", by_dkim))
    return tuple(method for method, passes in methods if passes)


def _known_organization(author: str, lookups: Lookups) -> str:
    try:
        return organizational_domain(author, lookups)
    except (Unasked, DnsFailure):
        return ""


def _with_repeated_from(verdict: DmarcVerdict, fields: int) -> DmarcVerdict:
    """The verdict on an author where there are several From fields: without a policy `permerror`, not `none`."""
    result: Result = "permerror" if verdict.result == "none" else verdict.result
    problem = f"{fields} From fields" + (f", {verdict.problem}" if verdict.problem else "")
    return replace(verdict, result=result, problem=problem, from_fields=fields)


def _gravity(verdict: DmarcVerdict) -> int:
    """How much a verdict counts against the message."""
    if verdict.disposition != "none":
        return len(_RESULTS) + POLICIES.index(verdict.disposition)
    return _RESULTS.index(verdict.result)


_RESULTS: tuple[Result, ...] = ("pass", "none", "fail", "permerror", "temperror")
