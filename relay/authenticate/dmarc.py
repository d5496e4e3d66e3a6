"""DMARC (RFC 9989): whether the author's domain stands behind a message, and what its owner wants done if it does not.

`evaluate` is a pure function of the author's domain, what SPF and DKIM found, and the answers of DNS; `check` reads the
message and asks DNS for what an evaluation hangs on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from relay.authenticate.author import author_domains, doubtful_domains, from_fields
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc_record import POLICIES, Mode, Policy, Record, Stated
from relay.authenticate.dmarc_tree import WALK, Lookup, Lookups, Unasked, is_domain, organizational, settle
from relay.authenticate.spf import SpfVerdict
from relay.dns import DnsFailure, Resolver
from relay.message import Message
from relay.reply import printable

Result = Literal["none", "pass", "fail", "temperror", "permerror"]
Method = Literal["spf", "dkim"]

CHECK_SECONDS = 20.0  # for one author's domain, DNS included: as long as RFC 7208 section 4.6.4 gives SPF
AUTHOR_DOMAINS = 10  # of one message that are looked at; RFC 9989 section 11.5 wants a limit
LOOKUPS = 50  # questions for one author's domain: five whole walks, where mail with many signatures has two


@dataclass(frozen=True, slots=True)
class DmarcVerdict:
    """What DMARC says.

    Attributes:
        result: RFC 9989 section 9.2; `none` where no record applies, or one that asks for nothing.
        domain: the author's, as looked up; printable ASCII; empty where From names none.
        organizational: its Organizational Domain; empty where nothing hung on it, and so it was not looked for.
        policy: that applies to `domain` (p, sp or np), as published; empty without a record.
        testing: its owner does not want it applied yet (`t=y`).
        aligned: the methods that pass for a domain in alignment with `domain`; also where the result is `none`.
        record_domain: where the record that applies stands.
        problem: why the result is no better, in words; printable ASCII.
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
    others: tuple[DmarcVerdict, ...] = field(default=(), repr=False, compare=False)
    lookups: tuple[Lookup, ...] = field(default=(), repr=False, compare=False)

    @property
    def disposition(self) -> Policy:
        """What is to be done with the message: the policy on `fail`, with `t=y` one step less of it (section 4.7)."""
        if self.result != "fail" or not self.policy:
            return "none"
        return POLICIES[max(0, POLICIES.index(self.policy) - self.testing)]


async def check(
    resolver: Resolver, message: Message, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict]
) -> DmarcVerdict:
    """Evaluate every domain that From can be read to name; the verdict that counts most against the message stands.

    So no author gets away with the good name of another (section 11.5), and no odd From with one reading of several; a
    reading that only some readers have counts where it fails, or may fail. Where there are several From fields nothing
    is in alignment (section 4.4).

    Args:
        spf: of the MAIL FROM identity, which for the null sender is that of HELO (section 3.2.4); None: not checked.
        dkim: of every signature.
    """
    domains = list(dict.fromkeys(author_domains(message)))
    doubtful = doubtful_domains(message)
    if not domains and not doubtful:
        return DmarcVerdict("permerror", "", problem="From names no domain" if from_fields(message) else "no From")
    repeated = len(from_fields(message)) > 1
    if repeated:
        spf, dkim = None, ()
    lookups = Lookups()
    found = await asyncio.gather(
        *(_evaluated(resolver, domain, spf, dkim, lookups) for domain in domains[:AUTHOR_DOMAINS]),
        *(_evaluated(resolver, domain, spf, dkim, lookups) for domain in doubtful[:AUTHOR_DOMAINS]),
    )
    certain = found[: min(len(domains), AUTHOR_DOMAINS)]
    verdicts = [_of_repeated_from(verdict) for verdict in certain] if repeated else list(certain)
    verdicts += [verdict for verdict in found[len(certain) :] if verdict.result in ("fail", "temperror")]
    if not domains:
        verdicts.append(DmarcVerdict("permerror", "", problem="From names no domain"))
    if max(len(domains), len(doubtful)) > AUTHOR_DOMAINS:
        verdicts.append(DmarcVerdict("permerror", "", problem=f"more than {AUTHOR_DOMAINS} domains in From"))
    worst = max(verdicts, key=_gravity)
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
    return await settle(lambda lookups: organizational(domain, lookups), Lookups(), resolver, WALK)


def evaluate(author: str, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict], lookups: Lookups) -> DmarcVerdict:
    """The verdict on one author's domain, in A-labels.

    Raises:
        Unasked: it hangs on a question that is not among `lookups`.
    """
    shown = printable(author)
    if not is_domain(author) or author.startswith("["):
        return DmarcVerdict("permerror", shown, problem="From names a domain that DNS cannot hold")
    try:
        record_domain, record = _discovered(author, lookups)
    except DnsFailure as failure:
        return DmarcVerdict("temperror", shown, problem=str(failure))
    # Without a record nothing makes one organization of two domains, and there is nothing to walk for.
    modes: tuple[Mode, Mode] = (record.aspf, record.adkim) if record else ("s", "s")
    by_spf, spf_doubt = _passes(author, (spf,) if spf else (), modes[0], lookups)
    by_dkim, dkim_doubt = _passes(author, dkim, modes[1], lookups)
    policy, policy_doubt = _policy(author, record_domain, record, lookups)
    doubt = spf_doubt or dkim_doubt or policy_doubt
    result: Result = "fail"
    problem = ""
    if not policy:
        result, problem = "none", f"the record of {record_domain} asks for nothing" if record else ""
    elif by_spf or by_dkim:
        result = "pass"
    elif doubt:
        result, problem = "temperror", doubt
    methods: tuple[tuple[Method, bool], ...] = (("spf", by_spf), ("dkim", by_dkim))
    return DmarcVerdict(
        result,
        shown,
        organizational=_known_organization(author, lookups),
        policy=policy,
        testing=record is not None and record.testing,
        aligned=tuple(method for method, passes in methods if passes),
        record_domain=record_domain,
        problem=problem,
    )


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


def _policy(author: str, record_domain: str, record: Record | None, lookups: Lookups) -> tuple[Stated, str]:
    """The policy for the author's domain, and what is in doubt if it may be a laxer one (section 4.10.1)."""
    if record is None:
        return "", ""
    if record_domain == author:
        return record.p, ""
    if record.sp == record.np:
        return record.sp, ""
    try:
        return record.sp if lookups.exists(author) else record.np, ""
    except DnsFailure as failure:
        return max(record.sp, record.np, key=POLICIES.index), str(failure)


def _passes(
    author: str, verdicts: Sequence[SpfVerdict | DkimVerdict], mode: Mode, lookups: Lookups
) -> tuple[bool, str]:
    """Whether one of them passes in alignment with the author's domain, and what is in doubt if none does."""
    doubt = ""
    # What needs no walk comes first, and what could not be checked last: it counts only if it would have mattered.
    for verdict in sorted(verdicts, key=lambda one: (one.result != "pass", one.domain != author)):
        if verdict.result not in ("pass", "temperror"):
            continue
        try:
            aligned = _aligned(author, verdict.domain, mode, lookups)
        except DnsFailure as failure:
            doubt = doubt or str(failure)
            continue
        if aligned and verdict.result == "pass":
            return True, ""
        if aligned:
            doubt = doubt or verdict.problem or f"{verdict.domain} could not be checked"
    return False, doubt


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


async def _evaluated(
    resolver: Resolver, author: str, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict], lookups: Lookups
) -> DmarcVerdict:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await settle(lambda known: evaluate(author, spf, dkim, known), lookups, resolver, LOOKUPS)
    except TimeoutError:
        return DmarcVerdict("temperror", printable(author), problem=f"no result within {CHECK_SECONDS:g} s")
    except Unasked:
        return DmarcVerdict("permerror", printable(author), problem=f"more than {LOOKUPS} questions to DNS")


def _of_repeated_from(verdict: DmarcVerdict) -> DmarcVerdict:
    """A domain without a policy is no reason to let such a message count as one that was never in question."""
    result: Result = "permerror" if verdict.result == "none" else verdict.result
    return replace(verdict, result=result, problem=verdict.problem or "several From fields")


def _gravity(verdict: DmarcVerdict) -> int:
    """How much a verdict counts against the message."""
    if verdict.disposition != "none":
        return len(_RESULTS) + POLICIES.index(verdict.disposition)
    return _RESULTS.index(verdict.result)


_RESULTS: tuple[Result, ...] = ("pass", "none", "fail", "permerror", "temperror")
