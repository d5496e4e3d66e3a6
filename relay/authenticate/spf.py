"""SPF (RFC 7208): whether an address may send for a domain; `relay.authenticate.spf_evaluation` reads the records."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from relay.authenticate.spf_evaluation import NAME_OCTETS, SpfQuery, evaluate
from relay.authenticate.spf_evaluation import Result as Result
from relay.dns import Resolver
from relay.mail.address import normal_domain, split, unquote
from relay.mail.reply import printable

Identity = Literal["mailfrom", "helo"]

CHECK_SECONDS = 20.0  # RFC 7208 section 4.6.4: for the whole evaluation, its DNS included
_OF_ONE_MESSAGE = "slt"  # macros for the sender, its local part, and the time (RFC 7208 section 7.2)
EXPLANATION_OCTETS = 300  # leaves room for our own words in a reply line of 512 (RFC 5321 section 4.5.3.1.5)


@dataclass(frozen=True, slots=True)
class SpfVerdict:
    """The SPF result for one identity. All text is printable ASCII.

    Attributes:
        result: RFC 7208 section 2.6.
        identity: which name was checked (RFC 7208 sections 2.3, 2.4).
        domain: of that identity, in A-labels.
        explanation: on fail, the explanation of the domain's owner (section 6.2); may be empty.
        problem: on temperror and permerror, what went wrong; on none, why nothing was checked.
        for_domain: the same client and EHLO name have this verdict with every local part, and at any time, as long as
            DNS answers the same.
    """

    result: Result
    identity: Identity
    domain: str
    explanation: str = ""
    problem: str = ""
    for_domain: bool = field(default=False, compare=False)


async def check(resolver: Resolver, *, ip: str, helo: str, sender: str, receiver: str) -> SpfVerdict:
    """check_host() of RFC 7208 section 4 for the sender, or for the EHLO name if the sender is null (section 2.4).

    Args:
        ip: of the client; an IPv4-mapped IPv6 address counts as IPv4 (section 5).
        helo: the argument of EHLO, as sent.
        sender: the address of MAIL FROM, empty for the null sender.
        receiver: the host that checks, for the macro `%{r}`.

    Raises:
        ValueError: `ip` is no address.
    """
    identity: Identity = "mailfrom" if sender else "helo"
    local, domain = split(sender) if sender else ("postmaster", helo)
    domain = normal_domain(domain)
    shown = printable(domain)
    if not _can_have_spf(domain):
        return SpfVerdict("none", identity, shown)
    query = SpfQuery(ip, helo, unquote(local) or "postmaster", domain, receiver)
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            problem = await evaluate(query, resolver)
    except TimeoutError:
        # Without a result by now it is a temperror; a result that only lacks its explanation stands.
        problem = f"no result within {CHECK_SECONDS:g} s, still waiting for {query.asking}"
    for_domain = query.result != "temperror" and query.letters.isdisjoint(_OF_ONE_MESSAGE)
    if query.result in ("temperror", "permerror"):
        return SpfVerdict(query.result, identity, shown, problem=printable(problem), for_domain=for_domain)
    explanation = printable(query.explanation, EXPLANATION_OCTETS)
    return SpfVerdict(query.result, identity, shown, explanation, for_domain=for_domain)


def unchecked(reason: str, *, helo: str, sender: str) -> SpfVerdict:
    """`none`, for a client whose address says nothing of the sender; `reason` goes into Authentication-Results."""
    domain = printable(normal_domain(split(sender).domain if sender else helo))
    return SpfVerdict("none", "mailfrom" if sender else "helo", domain, problem=f"not checked, {reason}")


def _can_have_spf(domain: str) -> bool:
    """RFC 7208 section 4.3: an address literal, a single label and what DNS cannot hold have no SPF."""
    labels = domain.split(".")
    return len(labels) > 1 and domain[0] != "[" and len(domain) <= NAME_OCTETS and all(0 < len(x) < 64 for x in labels)
