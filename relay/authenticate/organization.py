"""Tells whether two domains have the same organizational domain (RFC 9989 section 4.10.2), and which belong to us.

Nearly every message needs this, so domains that cannot be of one organization by their names cost no DNS question.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.authenticate.dmarc_tree_walk import find_organizational_domain
from relay.dns import DnsFailure, Resolver, TooManyQuestions
from relay.mail.domains import are_nested, is_same_or_below, share_two_labels


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


class OwnDomains:
    """The domains in whose name only we may write. However many they are, a look-up costs one step for each label."""

    def __init__(self, domains: Iterable[str]) -> None:
        """Takes normal domains."""
        self._domains = frozenset(domains)
        self._above = {parent for domain in self._domains for parent in _above(domain) if "." in parent}
        self._last_labels = {_last_two_labels(domain) for domain in self._domains}

    def has(self, domain: str) -> bool:
        """Whether a normal domain is one of them, or below one of them."""
        return domain in self._domains or not self._domains.isdisjoint(_above(domain))

    def know(self, domain: str) -> bool | None:
        """As `belong`, as far as names tell it; None where DNS has to be asked."""
        if self.has(domain) or domain in self._above:
            return True
        return None if "." in domain and _last_two_labels(domain) in self._last_labels else False

    async def belong(self, resolver: Resolver, domain: str) -> bool | None:
        """Whether a domain is ours, above or below one of ours, or of one organization with one: our signature may
        align.

        None: DNS does not answer now, and the domain may be ours. If no more questions may be asked, it counts as ours.
        """
        known = self.know(domain)
        if known is not None:
            return known
        try:
            organization = await find_organizational_domain(resolver, domain)
            for own in self._domains:
                if not is_same_or_below((organization,), own):
                    continue
                if await find_organizational_domain(resolver, own) == organization:
                    return True
        except TooManyQuestions:
            return True
        except DnsFailure:
            return None
        return False


def _above(domain: str) -> list[str]:
    """The domains above one."""
    above = []
    _, dot, parent = domain.partition(".")
    while dot:
        above.append(parent)
        _, dot, parent = parent.partition(".")
    return above


def _last_two_labels(domain: str) -> str:
    return ".".join(domain.split(".")[-2:])
