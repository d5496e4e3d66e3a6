"""Tells whether two domains have the same organizational domain (RFC 9989 section 4.10.2), and which belong to us.

Nearly every message needs this, so domains that cannot be of one organization by their names cost no DNS question.
"""

from __future__ import annotations

from collections.abc import Collection

from relay.authenticate.dmarc_tree_walk import find_organizational_domain
from relay.dns import DnsFailure, Resolver, TooManyQuestions
from relay.mail.domains import are_nested, is_ancestor, is_same_or_below, share_two_labels


async def same_organization(resolver: Resolver, first: str, second: str) -> bool:
    """Whether two normal domains are the same, or have the same organizational domain.

    If DNS does not answer, a domain counts as of one organization with those above and below it; if no more questions
    may be asked, only with itself.
    """
    if first == second:
        return True
    if not share_two_labels(first, second):
        return False
    try:
        return await find_organizational_domain(resolver, first) == await find_organizational_domain(resolver, second)
    except TooManyQuestions:
        return False
    except DnsFailure:
        return are_nested(first, second)


async def belongs_to_us(resolver: Resolver, own_domains: Collection[str], domain: str) -> bool | None:
    """Whether a domain is ours, above or below one of ours, or of one organization with one: our signature may align.

    None: DNS does not answer now, and the domain may be ours. If no more questions may be asked, it counts as ours.
    """
    if is_same_or_below(own_domains, domain) or any("." in domain and is_ancestor(domain, own) for own in own_domains):
        return True
    if not any(share_two_labels(domain, own) for own in own_domains):
        return False
    try:
        organization = await find_organizational_domain(resolver, domain)
        for own in own_domains:
            if not is_same_or_below((organization,), own):
                continue
            if await find_organizational_domain(resolver, own) == organization:
                return True
    except TooManyQuestions:
        return True
    except DnsFailure:
        return None
    return False
