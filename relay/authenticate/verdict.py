"""The results of all checks of one message: SPF, DKIM, ARC, DMARC and iprev.

We check a stranger's mail ourselves. A trusted client's MTA knows more of its mail than we can see, so the results in
its Authentication-Results stand in the place of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from relay.authenticate import arc, dkim, dmarc
from relay.authenticate.arc import ArcVerdict
from relay.authenticate.arc_chain import has_arc_fields
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.dns_budget import Budget, BudgetedResolver
from relay.authenticate.iprev import Iprev
from relay.authenticate.organization import same_organization
from relay.authenticate.remembered import NotedQuestions, Remembered
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.trusted_results import TrustedResults, find_trusted_results
from relay.dns import Resolver
from relay.mail.address import domain_of
from relay.mail.domains import are_nested
from relay.mail.message import Message

_NO_CHAIN = ArcVerdict("none")
_CUT_SHORT = "a line of the header is no field, and some readers show what follows as the text"


class Verdict(NamedTuple):
    """The result of every check of one message.

    Attributes:
        trusted: the client is one of `clients.trusted`.
        spf: of MAIL FROM, or of the EHLO name for the null sender; None where nobody knows.
        dkim: one for each signature, top to bottom.
        arc: the chain that came with the message.
        dmarc: None where nobody knows: a trusted client's mail that nobody vouches for.
        iprev: of the client's address; None where it was not asked for.
        trusted_results: the Authentication-Results of a trusted client's MTA.
        sender_signed: a passing DKIM signature has the organizational domain of MAIL FROM.
    """

    trusted: bool
    spf: SpfVerdict | None = None
    dkim: tuple[DkimVerdict, ...] = ()
    arc: ArcVerdict = _NO_CHAIN
    dmarc: DmarcVerdict | None = None
    iprev: Iprev | None = None
    trusted_results: TrustedResults | None = None
    sender_signed: bool = False

    @property
    def aligned(self) -> tuple[str, ...]:
        """The methods, of `spf` and `dkim`, that pass in alignment with the author's domain (RFC 9989 section 4.4)."""
        return self.dmarc.aligned if self.dmarc is not None else ()

    @property
    def author_proven(self) -> bool:
        """Whether the author's domain is proven, whichever way From is read."""
        return self.dmarc is not None and self._proves(self.dmarc)

    @property
    def authors(self) -> tuple[DmarcVerdict, ...]:
        """The verdicts on every domain that From can be read to name."""
        return () if self.dmarc is None else (self.dmarc, *self.dmarc.others)

    def _proves(self, dmarc: DmarcVerdict) -> bool:
        """Whether DMARC passes, or would pass if there were a record.

        Without a record nothing says where the organization ends; then a domain above or below the author's counts.
        """
        if dmarc.result != "none":
            return dmarc.result == "pass"
        return any(are_nested(dmarc.domain, domain) for domain in self._authenticated_domains())

    def _authenticated_domains(self) -> Iterator[str]:
        if self.spf is not None and self.spf.result == "pass":
            yield self.spf.domain
        yield from (signature.domain for signature in self.dkim if signature.result == "pass")

    @property
    def proven_authors(self) -> tuple[str, ...]:
        """The author domains that are proven."""
        return tuple(dmarc.domain for dmarc in self.authors if self._proves(dmarc))

    @property
    def may_be_sealed(self) -> bool:
        """Whether we may extend the ARC chain: not a failed one (RFC 8617 section 5.1.2), and not without results
        that we could testify to."""
        if self.arc.result == "fail" or (self.trusted and self.trusted_results is None):
            return False
        return self.trusted_results is None or self.trusted_results.result_of("arc") != "fail"


async def check_stranger(
    budget: Budget,
    message: Message,
    sender: str,
    spf: SpfVerdict,
    iprev: Iprev | None,
    now: float,
    dmarc_verdicts: Remembered[dmarc.Inputs, DmarcVerdict] | None = None,
) -> Verdict:
    """Check the message of a client that is not trusted.

    Args:
        budget: of the transaction; `spf` and `iprev` have had their share of it.
        sender: MAIL FROM, empty for the null sender.
        now: seconds since 1970.
        dmarc_verdicts: those of earlier messages; this one's is remembered there.
    """
    if has_arc_fields(message):
        verifications = dkim.verify(message, budget.dkim, now), arc.verify(message, budget.arc, now)
        signatures, chain = await asyncio.gather(*verifications)
    else:
        signatures, chain = await dkim.verify(message, budget.dkim, now), _NO_CHAIN
    dmarc_verdict = await check_dmarc(budget.authors, message, spf, signatures, dmarc_verdicts)
    if message.is_cut_short and not all("spf" in dm.aligned for dm in (dmarc_verdict, *dmarc_verdict.others)):
        # Somebody can insert such a line into a signed message: readers that end the header there see another text.
        signatures = tuple(
            signature._replace(result="policy", problem=_CUT_SHORT)
            if signature.result in ("pass", "temperror")
            else signature
            for signature in signatures
        )
        if chain.result == "pass" or chain.temporary:
            chain = replace(chain, result="fail", problem=_CUT_SHORT, temporary=False)
        dmarc_verdict = await check_dmarc(budget.authors, message, spf, signatures, dmarc_verdicts)
    return Verdict(
        trusted=False,
        spf=spf,
        dkim=signatures,
        arc=chain,
        dmarc=dmarc_verdict,
        iprev=iprev,
        sender_signed=await _is_signed(budget.authors, sender, signatures),
    )


async def check_dmarc(
    resolver: BudgetedResolver,
    message: Message,
    spf: SpfVerdict,
    signatures: Sequence[DkimVerdict],
    verdicts: Remembered[dmarc.Inputs, DmarcVerdict] | None,
) -> DmarcVerdict:
    """Evaluate DMARC, or find the verdict among those of earlier messages."""
    inputs = dmarc.inputs(message, spf, signatures)
    if verdicts is None or inputs is None:
        return await dmarc.check(resolver, message, spf, signatures)
    verdict = verdicts.find(inputs, resolver)
    if verdict is None:
        noted = NotedQuestions(resolver)
        verdict = await dmarc.check(noted, message, spf, signatures)
        verdicts.keep(inputs, replace(verdict, lookups=()), noted)
    return verdict


async def read_trusted_results(
    resolver: Resolver, message: Message, sender: str, authserv_ids: Collection[str], now: float
) -> Verdict:
    """Take the results for a trusted client's message from its own MTA.

    We verify the ARC chain ourselves, because we may extend it: it has to be whole as we received it.
    """
    trusted_results = find_trusted_results(message, authserv_ids)
    if trusted_results is None:
        return Verdict(trusted=True)
    budget = Budget(resolver)
    chain = await arc.verify(message, budget.arc, now)
    spf, stated = trusted_results.spf_verdict(sender), trusted_results.dkim_verdicts()
    signatures = stated or ()
    dmarc_verdict = trusted_results.dmarc_verdict(await dmarc.check(budget.authors, message, spf, signatures))
    if stated is None and message.all("dkim-signature"):
        dmarc_verdict = replace(dmarc_verdict, aligned=())  # an unmentioned signature may be aligned, too
    return Verdict(
        trusted=True,
        spf=spf,
        dkim=signatures,
        arc=chain,
        dmarc=dmarc_verdict,
        trusted_results=trusted_results,
        sender_signed=await _is_signed(budget.authors, sender, signatures),
    )


async def _is_signed(resolver: Resolver, sender: str, signatures: tuple[DkimVerdict, ...]) -> bool:
    domain = domain_of(sender)
    if not domain:
        return False
    signers = {signature.domain for signature in signatures if signature.result == "pass"}
    return domain in signers or any([await same_organization(resolver, domain, signer) for signer in sorted(signers)])
