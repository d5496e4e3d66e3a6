"""DMARC (RFC 9989): whether the author's domain stands behind a message, and what its owner wants done if it does not.

`evaluate` is a pure function of the author's domain, what SPF and DKIM found, and the answers of DNS; `check` reads the
message and asks DNS for what an evaluation hangs on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeVar

from relay.authenticate.author import author_domains, doubtful_domains, from_fields
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc_record import POLICIES, Mode, Policy, Record, Stated
from relay.authenticate.dmarc_tree_walk import (
    Lookup,
    Lookups,
    Unasked,
    is_domain,
    organizational,
    settle,
    settle_within,
)
from relay.authenticate.spf import SpfVerdict
from relay.dns import DnsFailure, Resolver, TooManyQuestions
from relay.mail.domains import share_two_labels
from relay.mail.message import Message
from relay.mail.reply import printable

Result = Literal["none", "pass", "fail", "temperror", "permerror"]
Method = Literal["spf", "dkim"]
T = TypeVar("T")

CHECK_SECONDS = 20.0  # for policies, and for alignment, DNS included: as long as RFC 7208 section 4.6.4 gives SPF
AUTHOR_DOMAINS = 10  # of one message that are looked at; RFC 9989 section 11.5 wants a limit


@dataclass(frozen=True, slots=True)
class DmarcVerdict:
    """What DMARC says.

    Attributes:
        result: RFC 9989 section 9.2; `none` where no record applies, or one that asks for nothing.
        domain: the author's, as looked up; printable ASCII; empty where From names none.
        organizational: its Organizational Domain; empty where nothing hung on it, and so it was not looked for.
        policy: that applies to `domain` (p, sp or np), as published; empty without a record, and where it is not known.
        testing: its owner does not want it applied yet (`t=y`).
        aligned: the methods that pass for a domain in alignment with `domain`; also where the result is `none`.
        record_domain: where the record that applies stands.
        problem: why the result is no better, in words, with the DNS name that is to blame; printable ASCII.
        unsettled: where it is not known which policy applies, and that may matter: every one that may.
        from_fields: how many the message has.
        others: the verdicts on the other domains that From can be read to name; this one counts most.
        lookups: what was asked for all domains of the authors, in that order.
    """

    result: Result
    domain: str
    organizational: str = ""
    policy: Stated = ""
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
        """How many domains From can be read to name, as far as was looked."""
        return len(self.others) + 1

    @property
    def dispositions(self) -> tuple[Policy, ...]:
        """What may have to be done with the message: the policy on `fail`, with `t=y` one step less of it (section
        4.7); on `temperror` the same, if it comes to that. One where the policy is known, none where nothing is at
        stake."""
        if self.result not in ("fail", "temperror"):
            return ()
        policies = self.unsettled or ((self.policy,) if self.policy else ())
        return tuple(POLICIES[max(0, POLICIES.index(policy) - self.testing)] for policy in policies)

    @property
    def disposition(self) -> Policy:
        """What is to be done with the message."""
        return max(self.dispositions, key=POLICIES.index, default="none") if self.result == "fail" else "none"


async def check(
    resolver: Resolver, message: Message, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict]
) -> DmarcVerdict:
    """Evaluate every domain that From can be read to name; the verdict that counts most against the message stands.

    So no author gets away with the good name of another (section 11.5), and no odd From with one reading of several; a
    reading that only some readers have counts where it fails, or may fail. Where there are several From fields nothing
    is in alignment (section 4.4).

    The records of all authors are asked for first, then what their policies hang on besides, and only then what
    alignment does: where questions are counted, none of that takes from what comes before.

    Args:
        spf: of the MAIL FROM identity, which for the null sender is that of HELO (section 3.2.4); None: not checked.
        dkim: of every signature.
    """
    fields = len(from_fields(message))
    domains = list(dict.fromkeys(author_domains(message)))
    doubtful = doubtful_domains(message)
    if not domains and not doubtful:
        problem = "From names no domain" if fields else "no From"
        return DmarcVerdict("permerror", "", problem=problem, from_fields=fields)
    if fields > 1:
        spf, dkim = None, ()
    lookups = Lookups()
    certain = domains[:AUTHOR_DOMAINS]
    authors = [*certain, *doubtful[:AUTHOR_DOMAINS]]

    async def settled(conclude: Callable[[str, Lookups], T]) -> list[T]:
        """The conclusion on each author."""
        within = (settle_within(CHECK_SECONDS, partial(conclude, one), lookups, resolver) for one in authors)
        return await asyncio.gather(*within)

    if len(authors) > 1:
        await settled(_look_for_record)
        await settled(_look_for_policy)
    found = await settled(lambda author, known: evaluate(author, spf, dkim, known))
    verdicts = [_of_repeated_from(one, fields) if fields > 1 else one for one in found[: len(certain)]]
    verdicts += [
        replace(one, from_fields=fields) for one in found[len(certain) :] if one.result in ("fail", "temperror")
    ]
    if not domains:
        verdicts.append(DmarcVerdict("permerror", "", problem="From names no domain"))
    if max(len(domains), len(doubtful)) > AUTHOR_DOMAINS:
        verdicts.append(DmarcVerdict("permerror", "", problem=f"more than {AUTHOR_DOMAINS} domains in From"))
    worst = max(verdicts, key=lambda verdict: (_gravity(verdict), bool(verdict.policy)))
    others = tuple(one for one in verdicts if one is not worst)
    return replace(worst, others=others, lookups=tuple(lookups.values()))


async def organizational_domain(resolver: Resolver, domain: str) -> str:
    """The Organizational Domain of a domain (section 4.10.2): itself where no record says otherwise.

    Args:
        domain: in A-labels, lower case.

    Raises:
        DnsFailure: one of the questions got no answer.
    """
    if not is_domain(domain):
        return domain
    return await settle(lambda lookups: organizational(domain, lookups), Lookups(), resolver)


def evaluate(author: str, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict], lookups: Lookups) -> DmarcVerdict:
    """The verdict on one author's domain, in A-labels.

    Raises:
        Unasked: it hangs on a question that is not among `lookups`.
    """
    shown = printable(author)
    if not _can_be_asked_for(author):
        return DmarcVerdict("permerror", shown, problem="From names a domain that DNS cannot hold")
    try:
        found = _applicable(author, lookups)
    except DnsFailure as failure:
        return _of_unknown_policy(author, spf, dkim, failure)
    # Without a record nothing makes one organization of two domains, and there is nothing to walk for.
    record = found.record
    modes: tuple[Mode, Mode] = (record.aspf, record.adkim) if record else ("s", "s")
    by_spf, unanswered = _passes(author, (spf,) if spf else (), modes[0], lookups)
    by_dkim, unanswered_too = _passes(author, dkim, modes[1], lookups)
    failures = [*unanswered, *unanswered_too, *([found.doubt] if found.doubt else [])]
    doubts = [failure for failure in failures if not isinstance(failure, TooManyQuestions)]
    policy: Stated = max(found.policies, key=POLICIES.index, default="")
    result: Result = "fail"
    problem = ""
    if not policy:
        result, problem = "none", f"the record of {found.record_domain} asks for nothing" if record else ""
    elif by_spf or by_dkim:
        result = "pass"
    elif doubts:
        result, problem = "temperror", str(doubts[0])
    elif failures:
        problem = str(failures[0])
    return DmarcVerdict(
        result,
        shown,
        organizational=_known_organization(author, lookups),
        policy=policy,
        testing=record is not None and record.testing,
        aligned=_methods(by_spf, by_dkim),
        record_domain=found.record_domain,
        problem=problem,
        unsettled=found.policies if len(found.policies) > 1 else (),
    )


@dataclass(frozen=True, slots=True)
class _Applicable:
    """The record that applies to a domain, where it stands, and which policy of it: both where `doubt` says why."""

    record_domain: str
    record: Record | None
    policies: tuple[Policy, ...] = ()
    doubt: DnsFailure | None = None


def _look_for_record(author: str, lookups: Lookups) -> None:
    """Conclude nothing yet, so that just the domain's own record is asked for. Raises Unasked."""
    if _can_be_asked_for(author):
        with suppress(DnsFailure):
            lookups.record(author)


def _look_for_policy(author: str, lookups: Lookups) -> None:
    """The same for all that its policy hangs on. Raises Unasked."""
    if _can_be_asked_for(author):
        with suppress(DnsFailure):
            _applicable(author, lookups)


def _can_be_asked_for(author: str) -> bool:
    return is_domain(author) and not author.startswith("[")


def _applicable(author: str, lookups: Lookups) -> _Applicable:
    """The policy for the author's domain; both where it is not known whether the domain exists (section 4.10.1).

    Where that may not even be asked, the stricter one.

    Raises:
        DnsFailure, Unasked: it is not known which record applies.
    """
    domain, record = _discovered(author, lookups)
    if record is None:
        return _Applicable("", None)
    stated = (record.p,) if domain == author else (record.sp, record.np)
    policies = tuple(policy for policy in dict.fromkeys(stated) if policy)
    if len(policies) < 2:
        return _Applicable(domain, record, policies)
    try:
        return _Applicable(domain, record, policies[:1] if lookups.exists(author) else policies[1:])
    except TooManyQuestions:
        return _Applicable(domain, record, (max(policies, key=POLICIES.index),))
    except DnsFailure as failure:
        return _Applicable(domain, record, policies, failure)


def _discovered(author: str, lookups: Lookups) -> tuple[str, Record | None]:
    """The record that applies and where it stands (section 4.10.1).

    It is the author's domain's own, or that of its Organizational Domain, or that of the public suffix above it.
    """
    own = lookups.record(author)
    if own is not None:
        return author, own
    found = dict(lookups.walk(author))
    if not found:
        return "", None
    organization = organizational(author, lookups)
    domain = organization if organization in found else next(reversed(found))
    return domain, found[domain]


def _of_unknown_policy(
    author: str, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict], failure: DnsFailure
) -> DmarcVerdict:
    """What passes for the author's very domain is in alignment under any policy; anything else may fail the strictest.

    Where nothing more may be asked for the message it does fail: who spends the questions gets no better for it.
    """
    by_spf = spf is not None and (spf.result, spf.domain) == ("pass", author)
    aligned = _methods(by_spf, any((one.result, one.domain) == ("pass", author) for one in dkim))
    result: Result = "temperror"
    if isinstance(failure, TooManyQuestions):
        result = "permerror" if aligned else "fail"
    unsettled = () if aligned else POLICIES
    return DmarcVerdict(result, printable(author), aligned=aligned, problem=str(failure), unsettled=unsettled)


def _methods(by_spf: bool, by_dkim: bool) -> tuple[Method, ...]:
    methods: tuple[tuple[Method, bool], ...] = (("spf", by_spf), ("dkim", by_dkim))
    return tuple(method for method, passes in methods if passes)


def _passes(
    author: str, verdicts: Sequence[SpfVerdict | DkimVerdict], mode: Mode, lookups: Lookups
) -> tuple[bool, list[DnsFailure]]:
    """Whether one of them passes in alignment with the author's domain, and what might say so but is not known."""
    failures: list[DnsFailure] = []
    # What needs no walk comes first, and what could not be checked last: it counts only if it would have mattered.
    for verdict in sorted(verdicts, key=lambda one: (one.result != "pass", one.domain != author)):
        if verdict.result not in ("pass", "temperror"):
            continue
        try:
            aligned = _aligned(author, verdict.domain, mode, lookups)
        except DnsFailure as failure:
            if share_two_labels(author, verdict.domain):
                failures.append(failure)
            continue
        if aligned and verdict.result == "pass":
            return True, []
        if aligned:
            failures.append(DnsFailure(verdict.problem or f"{verdict.domain} could not be checked"))
    return False, failures


def _aligned(author: str, domain: str, mode: Mode, lookups: Lookups) -> bool:
    """Identifier alignment (section 4.10.2). Only what is at or below the organization's domain is worth a walk."""
    if domain == author:
        return True
    if mode == "s" or not is_domain(domain) or domain.rpartition(".")[2] != author.rpartition(".")[2]:
        return False
    organization = organizational(author, lookups)
    return f".{domain}".endswith(f".{organization}") and organizational(domain, lookups) == organization


def _known_organization(author: str, lookups: Lookups) -> str:
    try:
        return organizational(author, lookups)
    except (Unasked, DnsFailure):
        return ""


def _of_repeated_from(verdict: DmarcVerdict, fields: int) -> DmarcVerdict:
    """A domain without a policy is no reason to let such a message count as one that was never in question."""
    result: Result = "permerror" if verdict.result == "none" else verdict.result
    problem = f"{fields} From fields" + (f", {verdict.problem}" if verdict.problem else "")
    return replace(verdict, result=result, problem=problem, from_fields=fields)


def _gravity(verdict: DmarcVerdict) -> int:
    """How much a verdict counts against the message."""
    if verdict.disposition != "none":
        return len(_RESULTS) + POLICIES.index(verdict.disposition)
    return _RESULTS.index(verdict.result)


_RESULTS: tuple[Result, ...] = ("pass", "none", "fail", "permerror", "temperror")
