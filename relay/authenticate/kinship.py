"""Which domains belong to one owner: those with one organizational domain (RFC 9989), which readers take for the same.

What is asked here is asked of nearly every message, so names that cannot be akin cost no question to DNS.
"""

from __future__ import annotations

from collections.abc import Collection

from relay.authenticate.dmarc import organizational_domain
from relay.authenticate.dmarc_tree import share_two_labels
from relay.dns import DnsFailure, Resolver, TooManyQuestions


async def related(resolver: Resolver, one: str, other: str) -> bool:
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
        return is_akin(one, other)


async def is_ours(resolver: Resolver, own: Collection[str], domain: str) -> bool | None:
    """Whether a domain is one of `own`, below or above one, or akin to one: a signature of ours could speak for it.

    None: DNS does not answer now, and it may be ours. Where nothing more may be asked, it is.
    """
    if is_within(own, domain) or any("." in domain and is_above(domain, one) for one in own):
        return True
    if not any(share_two_labels(domain, one) for one in own):
        return False
    try:
        organization = await organizational_domain(resolver, domain)
        for one in own:
            if is_within((organization,), one) and await organizational_domain(resolver, one) == organization:
                return True
    except TooManyQuestions:
        return True
    except DnsFailure:
        return None
    return False


def is_within(own: Collection[str], domain: str) -> bool:
    """Whether a normal domain is one of `own`, or below one."""
    return any(domain == one or is_above(one, domain) for one in own)


def is_akin(one: str, other: str) -> bool:
    """Whether two normal domains are the same, or one is below the other."""
    return one == other or is_above(one, other) or is_above(other, one)


def is_above(parent: str, child: str) -> bool:
    """Whether one normal domain is a parent of another, at any distance."""
    return child.endswith("." + parent)
