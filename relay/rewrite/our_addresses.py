"""The addresses under which next hops see this host, which is what they evaluate SPF for.

Mail leaves from a configured source address or from the one that the kernel chooses. Where that is private, a NAT
replaces it on the way, and DNS is asked for the public addresses of our name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from relay.config.destinations import Leaving
from relay.dns import Resolver
from relay.sending_addresses import Family, SendingAddress, is_private, sending_addresses

LOOK_AGAIN = 60.0  # seconds after which the kernel is asked again: routes and addresses change rarely

_RDTYPE: dict[Family, str] = {"ipv4": "A", "ipv6": "AAAA"}


async def addresses_of_name(resolver: Resolver, hostname: str, family: Family) -> tuple[str, ...]:
    """The addresses of one family that DNS has for a host name. Raises DnsFailure."""
    return (await resolver.query(hostname, _RDTYPE[family])).records


async def public_addresses_of_name(resolver: Resolver, hostname: str, family: Family) -> tuple[str, ...]:
    """As `addresses_of_name`, without private addresses."""
    addresses = await addresses_of_name(resolver, hostname, family)
    return tuple(address for address in addresses if not is_private(ipaddress.ip_address(address)))


class OurAddresses:
    """Every address that mail may be seen to come from, by how it leaves.

    Args:
        usual: how mail leaves that belongs to no destination.
        clock: seconds.
    """

    def __init__(self, usual: Leaving, resolver: Resolver, clock: Callable[[], float]) -> None:
        self._usual = usual
        self._resolver = resolver
        self._clock = clock
        self._chosen: dict[Leaving, dict[Family, SendingAddress]] = {}
        self._chosen_at = float("-inf")

    async def all(self, leaving: Leaving) -> tuple[str, ...]:
        """The addresses, those of the first family first.

        A configured public address is the only one of its family. Otherwise those that DNS has for our name in EHLO
        count, too: another connection may be routed another way.

        Raises:
            DnsFailure: our name cannot be looked up.
        """
        addresses: dict[str, None] = {}
        chosen = self._look(leaving)
        for family in leaving.families:
            own = chosen.get(family)
            if own is not None and not own.private:
                addresses[own.ip] = None
                if own.configured:
                    continue
            named = await addresses_of_name(self._resolver, leaving.helo, family)
            addresses.update(dict.fromkeys(named))
            if own is not None and own.private and not (named and self._tells(leaving, own)):
                addresses[own.ip] = None  # what the NAT makes of it is not known, so SPF should not pass
        return tuple(addresses)

    def _tells(self, leaving: Leaving, own: SendingAddress) -> bool:
        """Whether our name tells what a NAT makes of an address: not where two addresses share one name."""
        usual = self._usual.source(own.ip)
        return leaving.helo != self._usual.helo or leaving.source(own.ip) == usual

    def _look(self, leaving: Leaving) -> dict[Family, SendingAddress]:
        """The address of each family, as the kernel chose within the last minute."""
        now = self._clock()
        if not 0 <= now - self._chosen_at < LOOK_AGAIN:
            self._chosen.clear()
            self._chosen_at = now
        if leaving not in self._chosen:
            addresses = sending_addresses(leaving.families, leaving.source_ipv4, leaving.source_ipv6)
            self._chosen[leaving] = {address.family: address for address in addresses}
        return self._chosen[leaving]
