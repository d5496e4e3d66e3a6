"""Where a host leads: to this relay, to a host that works with it, or elsewhere."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from relay.check.look_ups import addresses
from relay.check.seen_addresses import seen_addresses
from relay.check.site import Site
from relay.dns import DnsFailure
from relay.network import Endpoint, host_port, plain_ip, within

# In the order in which they are told apart. A backup takes mail while we are away, and passes it on to us.
Place = Literal["here", "trusted", "next hop", "backup", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Places:
    """The hosts that this relay knows.

    Attributes:
        own: addresses of ours: those that DNS has for the host name, that we listen on, and that we send from.
        hops: addresses and names of the configured next hops.
    """

    site: Site
    own: frozenset[str]
    hops: frozenset[str]

    def place(self, name: str, ips: Iterable[str]) -> Place:
        """Where a host with a name and addresses leads; one of its addresses is enough."""
        hosts = [plain_ip(ip) for ip in ips]
        config = self.site.config
        if name == config.hostname or not self.own.isdisjoint(hosts):
            return "here"
        if any(within(ip, config.clients.trusted) for ip in hosts):
            return "trusted"
        if name in self.hops or not self.hops.isdisjoint(hosts):
            return "next hop"
        return "backup" if any(within(ip, config.spf.skip) for ip in hosts) else "elsewhere"


async def find_places(site: Site) -> Places:
    """Look up the addresses of the host name and of the next hops. Raises DnsFailure."""
    config = site.config
    listeners = [host_port(listener.address)[0] for listener in config.listen]
    own = [*listeners, *(address.ip for address in site.addresses), *await addresses(site.resolver, config.hostname)]
    own += [address.ip for address in (await seen_addresses(site)).known]
    smarthost = config.delivery.smarthost
    endpoints = [route.next_hop for route in config.routes.domains.values() if route.next_hop is not None]
    hops = await asyncio.gather(*(_hop(site, hop) for hop in [*endpoints, *([smarthost.url] if smarthost else [])]))
    concrete = (plain_ip(ip) for ip in own if not ipaddress.ip_address(ip).is_unspecified)
    return Places(site, frozenset(concrete), frozenset(name for names in hops for name in names))


async def _hop(site: Site, hop: Endpoint) -> list[str]:
    """The name of a next hop, and its addresses where DNS has them."""
    try:
        return [str(ipaddress.ip_address(hop.host))]
    except ValueError:
        pass
    try:
        return [hop.host, *await addresses(site.resolver, hop.host)]
    except DnsFailure:
        return [hop.host]
