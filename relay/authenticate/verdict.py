"""All that is known of where a message comes from: every check that it went through, gathered once, for all who ask.

An untrusted client's mail is examined by ourselves. Of a trusted client's mail the client's own MTA knows more than we
can see: what it vouches for in Authentication-Results is taken for what we would have found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from relay.authenticate import arc, dkim, dmarc
from relay.authenticate.arc import ArcVerdict
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.dns_budget import Budget
from relay.authenticate.organization import same_organization
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.trusted_results import TrustedResults, find_trusted_results
from relay.dns import Iprev, Resolver
from relay.mail.address import domain_of
from relay.mail.domains import are_nested
from relay.mail.message import Message

_NO_CHAIN = ArcVerdict("none")
_CUT_SHORT = "a line of the header is no field, and some readers show what follows as the text"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checks say of one message.

    Attributes:
        trusted: the client is one of `clients.trusted`.
        spf: of MAIL FROM, or of the EHLO name for the null sender; None where nobody knows.
        dkim: one for each signature, top to bottom.
        arc: the chain that came with the message.
        dmarc: None where nobody knows: a trusted client's mail that nobody vouches for.
        iprev: of the client's address; None where it was not asked for.
        word: what a trusted client's MTA vouches for.
        sender_signed: a passing DKIM signature speaks for MAIL FROM, because its domain is akin to the sender's.
    """

    trusted: bool
    spf: SpfVerdict | None = None
    dkim: tuple[DkimVerdict, ...] = ()
    arc: ArcVerdict = _NO_CHAIN
    dmarc: DmarcVerdict | None = None
    iprev: Iprev | None = None
    word: TrustedResults | None = None
    sender_signed: bool = False

    @property
    def aligned(self) -> tuple[str, ...]:
        """The methods, of `spf` and `dkim`, that pass for the author's domain or one akin to it."""
        return self.dmarc.aligned if self.dmarc is not None else ()

    @property
    def author_proven(self) -> bool:
        """Whether the author's domain is known to be the true one, whichever way From is read."""
        return self.dmarc is not None and self._proves(self.dmarc)

    @property
    def authors(self) -> tuple[DmarcVerdict, ...]:
        """The verdicts on every domain that From can be read to name."""
        return () if self.dmarc is None else (self.dmarc, *self.dmarc.others)

    def _proves(self, dmarc: DmarcVerdict) -> bool:
        """DMARC passes, or would if there were a record.

        Without a record nothing says which domains are one organization; then one above or below the author's counts.
        """
        if dmarc.result != "none":
            return dmarc.result == "pass"
        return any(are_nested(dmarc.domain, one) for one in self._authenticated())

    def _authenticated(self) -> Iterator[str]:
        if self.spf is not None and self.spf.result == "pass":
            yield self.spf.domain
        yield from (one.domain for one in self.dkim if one.result == "pass")

    def to_json(self, *, unforwardable: bool) -> dict[str, Any]:
        """What later stages need of it, as it is stored with the message.

        Args:
            unforwardable: DMARC would fail behind us unless From is rewritten.
        """
        return {
            "trusted": self.trusted,
            "spf": self.spf.result if self.spf is not None else "",
            "dmarc": self.dmarc.result if self.dmarc is not None else "",
            "aligned": list(self.aligned),
            "sender_aligned": self.sender_signed,
            "unforwardable": unforwardable,
            "authors": [one.domain for one in self.authors if self._proves(one)],
            "seal": self._seal(),
        }

    def _seal(self) -> dict[str, Any] | None:
        """The next ARC set: its `cv` and its instance. None where the chain must not be extended (a failed one, RFC
        8617 section 5.1.2), and where there is nothing that we could testify to."""
        if self.arc.result == "fail" or (self.trusted and self.word is None):
            return None
        if self.word is not None and self.word.result_of("arc") == "fail":
            return None
        return {"cv": self.arc.result, "instance": self.arc.sets[0].instance + 1 if self.arc.sets else 1}


async def examine(
    budget: Budget, message: Message, sender: str, spf: SpfVerdict, iprev: Iprev | None, now: float
) -> Verdict:
    """The verdict on a message of a client that is not trusted.

    Args:
        budget: of the transaction; `spf` and `iprev` have had their share of it.
        sender: MAIL FROM, empty for the null sender.
        now: seconds since 1970.
    """
    verifications = dkim.verify(message, budget.dkim, now), arc.verify(message, budget.arc, now)
    signatures, chain = await asyncio.gather(*verifications)
    found = await dmarc.check(budget.authors, message, spf, signatures)
    if message.is_cut_short and not all("spf" in one.aligned for one in (found, *found.others)):
        # Who puts such a line into what others signed shows a text of his own to readers who end the header there.
        signatures = tuple(
            replace(one, result="policy", problem=_CUT_SHORT) if one.result in ("pass", "temperror") else one
            for one in signatures
        )
        if chain.result == "pass" or chain.temporary:
            chain = replace(chain, result="fail", problem=_CUT_SHORT, temporary=False)
        found = await dmarc.check(budget.authors, message, spf, signatures)
    return Verdict(
        trusted=False,
        spf=spf,
        dkim=signatures,
        arc=chain,
        dmarc=found,
        iprev=iprev,
        sender_signed=await _is_signed(budget.authors, sender, signatures),
    )


async def hear(resolver: Resolver, message: Message, sender: str, authserv_ids: Collection[str], now: float) -> Verdict:
    """The verdict on a message of a trusted client: what its own MTA says, and nothing else.

    The chain is looked at by ourselves, if it is to go on: it has to be whole as we received it.
    """
    word = find_trusted_results(message, authserv_ids)
    if word is None:
        return Verdict(trusted=True)
    budget = Budget(resolver)
    chain = await arc.verify(message, budget.arc, now)
    spf, stated = word.spf_verdict(sender), word.dkim_verdicts()
    signatures = stated or ()
    found = word.dmarc_verdict(await dmarc.check(budget.authors, message, spf, signatures))
    if stated is None and message.all("dkim-signature"):
        found = replace(found, aligned=())  # a signature that it does not speak of may be in alignment, too
    return Verdict(
        trusted=True,
        spf=spf,
        dkim=signatures,
        arc=chain,
        dmarc=found,
        word=word,
        sender_signed=await _is_signed(budget.authors, sender, signatures),
    )


async def _is_signed(resolver: Resolver, sender: str, signatures: tuple[DkimVerdict, ...]) -> bool:
    domain = domain_of(sender)
    if not domain:
        return False
    passing = {one.domain for one in signatures if one.result == "pass"}
    return any([await same_organization(resolver, domain, one) for one in sorted(passing)])
