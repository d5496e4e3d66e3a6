"""DMARC Policy Discovery (RFC 9989 section 4.10.1): which record applies to an author's domain, and which policy of it.

Pure functions of the lookups so far, see `relay.authenticate.dmarc_tree_walk`.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.authenticate.dmarc_record import POLICIES, Policy, PolicyRecord
from relay.authenticate.dmarc_tree_walk import Lookups, organizational_domain
from relay.dns import DnsFailure, TooManyQuestions


@dataclass(frozen=True, slots=True)
class DiscoveredPolicy:
    """The record that applies to a domain, and its policy.

    Attributes:
        record_domain: the domain that has the record; empty without a record.
        record: None if no record applies.
        policies: the policy that applies; both candidates where `doubt` says why it is not known which.
        doubt: why it is not known whether the author's domain exists.
    """

    record_domain: str
    record: PolicyRecord | None
    policies: tuple[Policy, ...] = ()
    doubt: DnsFailure | None = None


def discover_policy(author: str, lookups: Lookups) -> DiscoveredPolicy:
    """The policy for the author's domain; both `sp` and `np` if it is not known whether the domain exists.

    If that question may not be asked, the stricter of the two.

    Raises:
        DnsFailure, Unasked: it is not known which record applies.
    """
    domain, record = _discover_record(author, lookups)
    if record is None:
        return DiscoveredPolicy("", None)
    stated = (record.p,) if domain == author else (record.sp, record.np)
    policies = tuple(policy for policy in dict.fromkeys(stated) if policy)
    if len(policies) < 2:
        return DiscoveredPolicy(domain, record, policies)
    try:
        return DiscoveredPolicy(domain, record, policies[:1] if lookups.exists(author) else policies[1:])
    except TooManyQuestions:
        return DiscoveredPolicy(domain, record, (max(policies, key=POLICIES.index),))
    except DnsFailure as failure:
        return DiscoveredPolicy(domain, record, policies, failure)


def _discover_record(author: str, lookups: Lookups) -> tuple[str, PolicyRecord | None]:
    """The record that applies, and the domain that has it.

    It is the record of the author's domain, or of its Organizational Domain, or of the public suffix above that.
    """
    own = lookups.record(author)
    if own is not None:
        return author, own
    records = dict(lookups.walk(author))
    if not records:
        return "", None
    organization = organizational_domain(author, lookups)
    domain = organization if organization in records else next(reversed(records))
    return domain, records[domain]
