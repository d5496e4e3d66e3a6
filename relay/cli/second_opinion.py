"""The next hop's eyes: what other implementations make of a message that leaves, and where we see it otherwise.

dkimpy verifies DKIM and ARC, pyspf evaluates SPF. DMARC, for which there is no library here, is evaluated by our own
code from their results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

from relay.authenticate import dmarc
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.spf import Result, SpfVerdict
from relay.authenticate.verdict import Verdict
from relay.cli import dkimpy_opinion, pyspf_opinion
from relay.cli.dkimpy_opinion import DkimpyOpinion, SignatureOpinion, ask_dkimpy
from relay.cli.pyspf_opinion import PyspfOpinion, ask_pyspf
from relay.dns import Resolver
from relay.mail.address import normal_domain
from relay.mail.message import Message

NO_OPINION = "nothing"


@dataclass(frozen=True, slots=True)
class Difference:
    """A check of which two implementations say different things.

    Attributes:
        check: `SPF`, `DKIM`, `ARC` or `DMARC`.
        subject: whose: the domain, with the selector of a signature.
        ours, theirs: the results.
        why_ours, why_theirs: the problems that they name; may be empty.
        by: who says `theirs`.
    """

    check: str
    subject: str
    ours: str
    theirs: str
    why_ours: str
    why_theirs: str
    by: str

    def __str__(self) -> str:
        mine, others = (f" ({why})" if why else "" for why in (self.why_ours, self.why_theirs))
        subject = f" of {self.subject}" if self.subject else ""
        return f"{self.check}{subject}: we say {self.ours}{mine}, {self.by} says {self.theirs}{others}"


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """What the others say.

    Attributes:
        dmarc: our evaluation of their results.
        differences: from our verdict.
    """

    dkimpy: DkimpyOpinion
    spf: PyspfOpinion
    dmarc: DmarcVerdict
    differences: tuple[Difference, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Why one of them has no opinion."""
        return tuple(
            problem for problem in (self.dkimpy.problem, "" if self.spf.result else self.spf.problem) if problem
        )


async def ask_others(
    resolver: Resolver, message: Message, ours: Verdict, *, ip: str, helo: str, sender: str, receiver: str
) -> SecondOpinion:
    """Ask the others about a message on the wire.

    Args:
        resolver: within the budget of the examination, so that a question that failed is not asked again.
        ours: our verdict on it, with its SPF.
        ip, helo, sender, receiver: as for `relay.authenticate.spf.check`.

    Raises:
        ValueError: `ours` is a verdict without SPF.
    """
    if ours.spf is None or ours.dmarc is None:
        raise ValueError("a verdict without SPF and DMARC is no next hop's")
    signatures = await ask_dkimpy(resolver, message.content)
    spf = await ask_pyspf(resolver, ip=ip, helo=helo, sender=sender, receiver=receiver)
    dkim_verdicts = [DkimVerdict(one.result, normal_domain(one.domain)) for one in signatures.signatures]
    spf_verdict = replace(ours.spf, result=cast(Result, spf.result or "none"))
    dmarc_verdict = await dmarc.check(resolver, message, spf_verdict, dkim_verdicts)
    differences = (*_of_spf(ours.spf, spf), *_of_dkimpy(ours, signatures), *_of_dmarc(ours.dmarc, dmarc_verdict))
    return SecondOpinion(signatures, spf, dmarc_verdict, differences)


def _of_spf(ours: SpfVerdict, theirs: PyspfOpinion) -> Iterator[Difference]:
    if ours.result != theirs.result:
        result = theirs.result or NO_OPINION
        yield Difference("SPF", ours.domain, ours.result, result, ours.problem, theirs.problem, pyspf_opinion.NAME)


def _of_dkimpy(ours: Verdict, theirs: DkimpyOpinion) -> Iterator[Difference]:
    unread = SignatureOpinion("fail", problem=theirs.problem)
    for index, signature in enumerate(ours.dkim):
        if index >= dkimpy_opinion.SIGNATURES:
            return
        opinion = theirs.signatures[index] if index < len(theirs.signatures) else unread
        if (signature.result == "pass") != (opinion.result == "pass"):
            yield Difference(
                "DKIM",
                f"{signature.domain or opinion.domain} ({signature.selector or opinion.selector})",
                signature.result,
                NO_OPINION if theirs.problem else opinion.result,
                signature.problem,
                opinion.problem,
                dkimpy_opinion.NAME,
            )
    for opinion in theirs.signatures[len(ours.dkim) :]:
        if opinion.result == "pass":
            subject = f"{opinion.domain} ({opinion.selector})"
            yield Difference("DKIM", subject, "no signature", "pass", "", "", dkimpy_opinion.NAME)
    arc = ours.arc
    if arc.result == "pass" if theirs.problem else arc.result != theirs.arc.replace("temperror", "fail"):
        sealers = " < ".join(link.domain for link in arc.sets)
        result = NO_OPINION if theirs.problem else theirs.arc
        yield Difference("ARC", sealers, arc.result, result, arc.problem, theirs.arc_problem, dkimpy_opinion.NAME)


def _of_dmarc(ours: DmarcVerdict, theirs: DmarcVerdict) -> Iterator[Difference]:
    if ours.result != theirs.result:
        by = f"{dkimpy_opinion.NAME} with {pyspf_opinion.NAME}"
        yield Difference("DMARC", ours.domain, ours.result, theirs.result, ours.problem, theirs.problem, by)
