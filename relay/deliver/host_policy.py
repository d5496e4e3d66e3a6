"""How the connection to one host has to be protected, and the refusal of a host that does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relay.deliver.client_tls import Level
from relay.deliver.tls_results import Published, Shortfall
from relay.dns import Tlsa
from relay.mail.outcome import Outcome, failure

PolicyName = Literal["none", "may", "require", "verify", "sts", "dane"]
"""The configured level that held, or what the owner of the domain publishes."""


class Untrusted(Exception):
    """A policy forbids to use this host; another host of the next hop may do.

    Attributes:
        outcome: where there is no other host; it names the policy. A deferral, or the failure of a message that asks
            for more than the host has.
        result: the failure type of RFC 8460 section 4.3; empty where it has none.
        reason: more about the failure (failure-reason-code).
        policy: the policy, where that is not the one for which the connection was opened.
        source: our IP address; empty where there was no connection.
    """

    def __init__(
        self,
        outcome: Outcome,
        result: str = "",
        reason: str = "",
        *,
        policy: HostPolicy | None = None,
        source: str = "",
    ) -> None:
        self.outcome = outcome
        self.result = result
        self.reason = reason
        self.policy = policy
        self.source = source
        super().__init__(outcome.text)

    @property
    def shortfall(self) -> Shortfall | None:
        """What the failure counts as; None where it is not one of TLS."""
        return Shortfall(self.result, self.reason) if self.result else None


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
        proven: whether it is proven that this host takes the mail of the domain: by DNSSEC, an MTA-STS policy, or our
            configuration.
        demand: what demands TLS, for texts; empty for a configured level.
        published: what a report says of sessions with the host; None where there is no report.
        testing: whether a policy that is not enforced wants a certificate that can be verified: that is tried first.
        shortfall: what is wrong in the light of a policy that is not enforced, whatever the server does.
    """

    name: PolicyName
    level: Level
    tlsa: tuple[Tlsa, ...] = ()
    base: str = ""
    names: tuple[str, ...] = ()
    require_tls: bool = False
    proven: bool = False
    demand: str = ""
    published: Published | None = None
    testing: bool = False
    shortfall: Shortfall | None = None

    @property
    def authenticates(self) -> bool:
        """Whether a connection under this policy is only made with a host whose name and certificate are proven
        (RFC 8689 section 2)."""
        return self.proven and (self.level == "verify" or bool(self.tlsa))


def unsupported(text: str) -> Outcome:
    """The failure of a message with REQUIRETLS at a host that does not keep what it asks for (RFC 8689 section
    4.2.1)."""
    return failure(550, "5.7.30", f"the message asks for REQUIRETLS, and {text}")
