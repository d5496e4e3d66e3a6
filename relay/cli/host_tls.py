"""Which TLS policy holds for each host of a next hop by the DNS of now: what `explain` says of TLS.

Policies of MTA-STS are fetched, and not kept: those in the queue may be older.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.deliver.host_policy import Untrusted
from relay.deliver.mx import Host, HostFinder, Unroutable
from relay.deliver.next_hop import NextHop
from relay.deliver.tls_policy import TlsPolicies
from relay.mail.envelope import TlsWish
from relay.transport_security.stored_policy import StoredPolicy


@dataclass(frozen=True, slots=True)
class HostTls:
    """What holds for one host.

    Attributes:
        policy: its name, as in the log; empty where none is known.
        problem: why the host gets no mail, before a connection is made; empty where it may get it.
    """

    host: Host
    policy: str
    problem: str = ""


class NothingStored:
    """A `PolicyStore` that has no policies, and keeps none."""

    async def policy_of(self, domain: str) -> StoredPolicy | None:
        return None

    async def keep_policy(self, policy: StoredPolicy) -> None:
        pass

    async def policy_used(self, domain: str, now: float) -> None:
        pass

    async def policies_to_refresh(
        self, now: float, unused_since: float, again: float, limit: int
    ) -> list[StoredPolicy]:
        return []


async def tls_of_hosts(
    finder: HostFinder, policies: TlsPolicies, hop: NextHop, wish: TlsWish = ""
) -> tuple[HostTls, ...]:
    """The policies of the hosts of a next hop, in the order in which they are tried; none where it has no hosts.

    Args:
        wish: what the message asks of TLS (RFC 8689).
    """
    try:
        found = await finder.find(hop)
    except Unroutable:
        return ()
    of_domain = await policies.of_domain(hop, wish)
    told = []
    for host in found.hosts:
        try:
            told.append(HostTls(host, (await of_domain.of_host(host)).name))
        except Untrusted as untrusted:
            name = "" if untrusted.policy is None else untrusted.policy.name
            told.append(HostTls(host, name, untrusted.outcome.text))
    return tuple(told)
