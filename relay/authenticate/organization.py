"""Which domains belong to one owner: those with one organizational domain (RFC 9989), which readers take for the same.

What is asked here is asked of nearly every message, so names that cannot be akin cost no question to DNS.
"""

from __future__ import annotations

from collections.abc import Collection

from relay.authenticate.dmarc import organizational_domain
from relay.dns import DnsFailure, Resolver, TooManyQuestions
from relay.mail.domains import are_nested, is_ancestor, is_same_or_below, share_two_labels


async def same_organization(resolver: Resolver, one: str, other: str) -> bool:
    """Whether two normal domains are the same, or have the same organizational domain.

    Where DNS does not answer, a domain is taken for akin to those above and below it; where nothing more may be asked,
    only to itself.
    """
    if one == other:
        return True
    if not share_two_labels(one, other):
        return False
    try:
        return await organizational_domain(resolver, one) == await organizational_domain(resolver, other)
    except TooManyQuestions:
        return False
    except DnsFailure:
        return are_nested(one, other)


async def belongs_to_us(resolver: Resolver, own: Collection[str], domain: str) -> bool | None:
    """Whether a domain is one of `own`, below or above one, or akin to one: a signature of ours could speak for it.

    None: DNS does not answer now, and it may be ours. Where nothing more may be asked, it is.
    """
    if is_same_or_below(own, domain) or any("." in domain and is_ancestor(domain, one) for one in own):
        return True
    if not any(share_two_labels(domain, one) for one in own):
        return False
    try:
        organization = await organizational_domain(resolver, domain)
        for one in own:
            if is_same_or_below((organization,), one) and await organizational_domain(resolver, one) == organization:
                return True
    except TooManyQuestions:
        return True
    except DnsFailure:
        return None
    return False
