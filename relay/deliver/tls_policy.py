"""Which TLS policy holds for each host of a next hop: DANE, MTA-STS, or the configured level.

For a host that mail reaches by MX, usable TLSA records alone decide (RFC 7672); without them an enforced MTA-STS policy
does (RFC 8461). Both raise the configured level; in the place of `verify`, usable records authenticate the host. What a
message asks for itself (RFC 8689) comes on top: REQUIRETLS demands a host whose name and certificate are proven and
which keeps the promise itself, and `TLS-Required: No` lifts what the domain publishes, but never what is configured.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import Protocol

from relay.config.sections import DeliverySection
from relay.deliver.host_policy import HostPolicy, PolicyName, Untrusted, unsupported
from relay.deliver.mx import Host
from relay.deliver.next_hop import NextHop
from relay.deliver.tls_results import Published, Shortfall
from relay.dns import Tlsa
from relay.mail.address import normal_domain
from relay.mail.envelope import TlsWish
from relay.mail.outcome import Outcome, deferral, failure
from relay.transport_security import tlsa as tlsa_records
from relay.transport_security.mta_sts_policy import Policy

__all__ = ["Dane", "DomainPolicy", "HostPolicy", "MtaSts", "TlsPolicies", "TlsaAnswer", "Untrusted"]


@dataclass(frozen=True, slots=True)
class TlsaAnswer:
    """What DNS says about the certificate of a host.

    Attributes:
        usable: the records to follow; empty where there are none.
        base: the domain that they were found under.
        names: what the certificate may be for, where a record names an authority (RFC 7672 section 3.2.2).
        encrypts: whether there are secure records, none of them usable: then TLS is required, with any certificate
            (RFC 7672 section 2.2).
        proven: whether DNSSEC proves that this host is a mail host of the domain, with or without records.
    """

    usable: tuple[Tlsa, ...] = ()
    base: str = ""
    names: tuple[str, ...] = ()
    encrypts: bool = False
    proven: bool = False


class Dane(Protocol):
    """Finds the TLSA records of hosts (`tlsa_lookup`)."""

    async def records(self, host: Host) -> TlsaAnswer:
        """The TLSA records of a host that mail reaches by MX.

        Raises:
            Untrusted: DNSSEC proves that the answer is wrong, or there is none: the host is passed over.
        """
        ...


class MtaSts(Protocol):
    """Finds the MTA-STS policies of domains (`transport_security.mta_sts`)."""

    async def policy(self, domain: str) -> Policy | None:
        """The policy of a domain that holds now; None where there is none, or none can be had. Never raises."""
        ...

    def problem(self, domain: str) -> tuple[str, str] | None:
        """Why the last look-up of a domain that announces a policy found none: the failure type of RFC 8460 section
        4.3, and a text; None where there was no such problem."""
        ...


class TlsPolicies:
    """The TLS policies of one worker.

    Args:
        delivery: says whether DANE and MTA-STS are asked for domains that have no table in `delivery.destinations`.
        dane, sts: None where no domain has them.
    """

    def __init__(self, delivery: DeliverySection, dane: Dane | None = None, sts: MtaSts | None = None) -> None:
        self._delivery = delivery
        self._dane = dane
        self._sts = sts

    async def of_domain(self, hop: NextHop, wish: TlsWish) -> DomainPolicy:
        """What holds for a next hop as a whole, for one attempt."""
        if hop.endpoint is not None or hop.tls == "none" or wish == "no" or not _is_domain(hop.domain):
            return DomainPolicy(hop, wish)
        settings = hop.destination or self._delivery
        dane = self._dane if settings.dane == "auto" else None
        if self._sts is None or not settings.mta_sts:
            return DomainPolicy(hop, wish, dane=dane)
        sts = await self._sts.policy(hop.domain)
        problem = self._sts.problem(hop.domain) if sts is None else None
        return DomainPolicy(hop, wish, sts, dane, Shortfall(*problem) if problem is not None else None)


@dataclass(frozen=True, slots=True)
class DomainPolicy:
    """What holds for the hosts of a next hop.

    Attributes:
        sts: the MTA-STS policy of the domain.
        dane: None where TLSA records do not count.
        problem: why the MTA-STS policy that the domain announces is not known.
    """

    hop: NextHop
    wish: TlsWish
    sts: Policy | None = None
    dane: Dane | None = None
    problem: Shortfall | None = None

    @property
    def domain(self) -> str:
        """The domain of the recipients, in A-labels; empty for a configured next hop."""
        return normal_domain(self.hop.domain)

    @property
    def announced(self) -> Published:
        """The policy that the domain announces, without its text."""
        return Published("sts", self.domain, self.domain)

    async def of_host(self, host: Host) -> HostPolicy:
        """What holds for one host.

        Raises:
            Untrusted: the host must not be used.
        """
        hop = self.hop
        demands = self.wish == "require" and not _is_mailbox_here(hop)
        if hop.tls == "none":
            policy = HostPolicy("none", "none")
            if demands:
                raise Untrusted(_unprotected("TLS towards the next hop is switched off"), policy=policy)
            return policy
        policy = await self._of_mx(host) if hop.endpoint is None else HostPolicy(hop.tls, hop.tls, proven=True)
        return self._with_demand(policy, host) if demands else policy

    async def _of_mx(self, host: Host) -> HostPolicy:
        hop, sts, domain = self.hop, self.sts, self.domain
        if self.wish == "no":
            return HostPolicy(hop.tls, hop.tls)
        answer = await self._tlsa(host)
        if answer.usable:
            return HostPolicy(
                "dane",
                "require",
                answer.usable,
                answer.base,
                answer.names,
                proven=True,
                demand=f"DANE (TLSA records of {answer.base})",
                published=Published("tlsa", domain, answer.base, tuple(map(tlsa_records.text, answer.usable))),
            )
        if sts is not None and sts.mode == "enforce":
            return self._enforced(sts, host)
        policy = HostPolicy(
            hop.tls, hop.tls, proven=answer.proven, published=Published("no-policy-found", domain, domain)
        )
        if sts is not None and sts.mode == "testing":
            policy = _tested(policy, sts, host, domain)
        if answer.encrypts:  # RFC 7672 section 2.2
            level = "require" if hop.tls == "may" else hop.tls
            policy = replace(
                policy,
                name=level,
                level=level,
                demand=f"DANE (TLSA records of {answer.base or host.name})",
                published=Published("tlsa", domain, answer.base or host.name),
                testing=False,
                shortfall=Shortfall("tlsa-invalid", "no usable record"),
            )
        return policy

    async def _tlsa(self, host: Host) -> TlsaAnswer:
        if self.dane is None:
            return TlsaAnswer()
        try:
            return await self.dane.records(host)
        except Untrusted as untrusted:
            published = Published("tlsa", self.domain, host.name)
            untrusted.policy = untrusted.policy or HostPolicy("dane", "require", demand="DANE", published=published)
            raise

    def _enforced(self, sts: Policy, host: Host) -> HostPolicy:
        """What an enforced MTA-STS policy makes of a host (RFC 8461 section 5)."""
        name = f"the MTA-STS policy (enforce) of {self.domain}"
        policy = HostPolicy("sts", "verify", proven=True, demand=name, published=_published(sts, self.domain))
        if not sts.allows(host.name):
            outcome = deferral("4.7.5", f"{name} does not allow {host.name}")
            raise Untrusted(outcome, *_MX_MISMATCH, policy=policy)
        return policy

    def _with_demand(self, policy: HostPolicy, host: Host) -> HostPolicy:
        """What REQUIRETLS makes of a policy (RFC 8689 section 4.2.1)."""
        if not policy.proven:
            text = f"neither DNSSEC nor an MTA-STS policy proves that {host.name} is a mail host of {self.domain}"
            if self.problem is not None:  # which may be over tomorrow
                outcome = deferral("4.7.5", f"{text}: {self.problem.reason or self.problem.result}")
            else:
                outcome = unsupported(text)
            raise Untrusted(outcome, policy=policy)
        relays = self.hop.endpoint is None or self.hop.endpoint.scheme != "lmtp"
        if policy.tlsa:
            return replace(policy, require_tls=relays)
        name: PolicyName = "sts" if policy.name == "sts" else "verify"
        return replace(policy, name=name, level="verify", require_tls=relays, testing=False)


def _unprotected(text: str) -> Outcome:
    return failure(550, "5.7.10", f"the message asks for REQUIRETLS, and {text}")


_MX_MISMATCH = ("validation-failure", "mx-mismatch")  # RFC 8460 section 4.3.3 leaves the reason to us


def _tested(policy: HostPolicy, sts: Policy, host: Host, domain: str) -> HostPolicy:
    """A policy beside an MTA-STS policy that is only tested: failures are counted and change nothing."""
    allows = sts.allows(host.name)
    return replace(
        policy,
        proven=policy.proven or allows,
        published=_published(sts, domain),
        testing=policy.level != "verify",
        shortfall=None if allows else Shortfall(*_MX_MISMATCH),
    )


def _published(sts: Policy, domain: str) -> Published:
    lines = ["version: STSv1", f"mode: {sts.mode}", *(f"mx: {pattern}" for pattern in sts.patterns)]
    return Published("sts", domain, domain, (*lines, f"max_age: {sts.max_age}"))


def _is_domain(domain: str) -> bool:
    return not domain.startswith("[")


def _is_mailbox_here(hop: NextHop) -> bool:
    """Whether the next hop is a mailbox on this host, by LMTP: what comes after it is no transport any more
    (RFC 8689 section 4.4)."""
    if hop.endpoint is None or hop.endpoint.scheme != "lmtp":
        return False
    if hop.endpoint.path:
        return True
    host = hop.endpoint.host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
