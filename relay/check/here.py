"""Where a host leads: to this relay, to a host that works with it, or elsewhere."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from relay.check.look_ups import addresses
from relay.check.site import Site
from relay.dns import DnsFailure
from relay.network import Endpoint, host_port, plain_ip, within
from relay.sending_addresses import is_private, kernel_choice

# In the order in which they are told apart. A backup takes mail while we are away, and passes it on to us.
Place = Literal["here", "trusted", "next hop", "backup", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Places:
    """The hosts that this relay knows.

    Attributes:
        own: addresses of ours: those that we listen on and send from, and those that DNS has for the host name as far
            as they may be.
        hops: addresses and names of the configured next hops.
    """

    site: Site
    own: frozenset[str]
    hops: frozenset[str]

    def place(self, name: str, ips: Iterable[str]) -> Place:
        """Where a host with a name and addresses leads; one of its addresses is enough."""
        hosts = [plain_ip(ip) for ip in ips]
        config = self.site.config
        if name == config.hostname or any(ip in self.own or is_ours(self.site, ip) for ip in hosts):
            return "here"
        if any(within(ip, config.clients.trusted) for ip in hosts):
            return "trusted"
        if name in self.hops or not self.hops.isdisjoint(hosts):
            return "next hop"
        return "backup" if any(within(ip, config.spf.skip) for ip in hosts) else "elsewhere"


def is_ours(site: Site, ip: str) -> bool:
    """Whether this host has an address: a listener has it, mail leaves from it, or it is one of this machine.

    Every machine has all loopback addresses; so of these only the first two count.
    """
    if ip in configured_addresses(site):
        return True
    address = ipaddress.ip_address(ip)
    return not (address.is_loopback or address.is_unspecified) and kernel_choice(ip, source=ip) is not None


def reached_from_outside(site: Site) -> bool:
    """Whether other hosts can connect to a listener; behind a Postfix on this host they cannot."""
    hosts = (plain_ip(host_port(listener.address)[0]) for listener in site.config.listen)
    return any(not ipaddress.ip_address(host).is_loopback for host in hosts)


def may_be_ours(site: Site, ip: str) -> bool:
    """Whether an address that this host does not have may lead to it: that of a proxy, or of a NAT.

    A container without IPv6 is reached by the IPv6 address of its host, too.
    """
    if any(listener.proxy_protocol for listener in site.config.listen):
        return True
    family = "ipv6" if ":" in ip else "ipv4"
    # A container may have IPv4 alone, while the host around it takes connections by both.
    ours = [address for address in site.addresses if address.family == family] or site.addresses
    is_inside = not ours or any(address.private for address in ours)
    return is_inside and not is_private(ipaddress.ip_address(ip))


def configured_addresses(site: Site) -> frozenset[str]:
    """The addresses that listeners name, and those that mail leaves from."""
    listening = (plain_ip(host_port(listener.address)[0]) for listener in site.config.listen)
    sending = (address.ip for address in site.addresses)
    return frozenset(ip for ip in (*listening, *sending) if not ipaddress.ip_address(ip).is_unspecified)


async def find_places(site: Site) -> Places:
    """Look up the addresses of the host name and of the next hops. Raises DnsFailure."""
    config = site.config
    in_dns = await addresses(site.resolver, config.hostname)
    own = configured_addresses(site).union(plain_ip(ip) for ip in in_dns if is_ours(site, ip) or may_be_ours(site, ip))
    routed = (route.next_hop for route in config.routes.domains.values())
    named = (destination.next_hop for destination in config.destinations)
    endpoints = [hop for hop in (*routed, *named) if hop is not None and not hop.path]
    endpoints += [smarthost.url for smarthost in config.delivery.smarthost_tables.values()]
    hops = await asyncio.gather(*(_hop(site, hop) for hop in dict.fromkeys(endpoints)))
    return Places(site, own, frozenset(name for names in hops for name in names))


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
