"""Which TLS policy holds for each host of a next hop: DANE, MTA-STS, or the configured level.

For a host that mail reaches by MX, usable TLSA records alone decide (RFC 7672); without them an enforced MTA-STS policy
does (RFC 8461). Neither makes less of the configured level than it asks for. What a message asks for itself (RFC 8689)
comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from relay.deliver.client_tls import Level
from relay.deliver.mx import Host
from relay.deliver.next_hop import NextHop
from relay.dns import Tlsa
from relay.mail.envelope import TlsWish
from relay.mail.outcome import Outcome
from relay.transport_security.mta_sts_policy import Policy

PolicyName = Literal["none", "may", "require", "verify", "sts", "dane"]
"""The configured level that held, or what the owner of the domain publishes."""


class Untrusted(Exception):
    """A policy forbids to use this host; another host of the next hop may do.

    Attributes:
        outcome: the deferral, where there is no other host; it names the policy.
        result: the failure type of RFC 8460 section 4.3; empty where it has none.
    """

    def __init__(self, outcome: Outcome, result: str = "") -> None:
        self.outcome = outcome
        self.result = result
        super().__init__(outcome.text)


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """How the connection to one host has to be protected.

    Attributes:
        name: which policy holds.
        level: the level of TLS that it amounts to.
        tlsa: the usable TLSA records that the server's certificate has to match, see `Dane`; empty for others.
        base: the TLSA base domain (RFC 7672 section 2.2.3), which is what SNI names; empty without TLSA records.
        names: what the server's certificate may be for, where a TLSA record names an authority; `base` among them.
        require_tls: whether the server has to offer REQUIRETLS (RFC 8689 section 4.2.1).
    """

    name: PolicyName
    level: Level
    tlsa: tuple[Tlsa, ...] = ()
    base: str = ""
    names: tuple[str, ...] = ()
    require_tls: bool = False


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


class TlsPolicies:
    """The TLS policies of one worker.

    Args:
        dane, sts: None where they are switched off.
    """

    def __init__(self, dane: Dane | None = None, sts: MtaSts | None = None) -> None:
        self._dane = dane
        self._sts = sts

    async def of_domain(self, hop: NextHop, wish: TlsWish) -> DomainPolicy:
        """What holds for a next hop as a whole, for one attempt."""
        sts = None
        if self._sts is not None and hop.endpoint is None and hop.tls != "none" and wish != "no":
            sts = await self._sts.policy(hop.domain)
        dane = self._dane if hop.endpoint is None and hop.tls != "none" and wish != "no" else None
        return DomainPolicy(hop, wish, sts, dane)


@dataclass(frozen=True, slots=True)
class DomainPolicy:
    """What holds for the hosts of a next hop.

    Attributes:
        sts: the MTA-STS policy of the domain.
    """

    hop: NextHop
    wish: TlsWish
    sts: Policy | None
    dane: Dane | None

    async def of_host(self, host: Host) -> HostPolicy:
        """What holds for one host.

        Raises:
            Untrusted: the host must not be used.
        """
        return HostPolicy(self.hop.tls, self.hop.tls)
