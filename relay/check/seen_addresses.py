"""The addresses that the world sees our mail come from.

Behind a NAT this host has a private one; then the addresses of its name in DNS are taken for those that others see.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from relay.check.leaving import leaves_directly, smarthosts
from relay.check.site import Site
from relay.sending_addresses import Family, is_private

RDTYPES: dict[Family, str] = {"ipv4": "A", "ipv6": "AAAA"}


@dataclass(frozen=True, slots=True)
class SeenAddress:
    """One of them.

    Attributes:
        helo: the name that EHLO says from it.
        behind: the private address that mail leaves from, where `ip` is one that DNS has for the name.
    """

    ip: str
    helo: str
    behind: str = ""

    def __str__(self) -> str:
        return f"{self.ip} (in DNS; mail leaves from {self.behind}, which is private)" if self.behind else self.ip


@dataclass(frozen=True, slots=True)
class SeenAddresses:
    """What is known of them.

    Attributes:
        known: each address once for each name that EHLO says from it.
        unknown: why nothing is known of some, or all, of them.
    """

    known: tuple[SeenAddress, ...]
    unknown: str = ""

    @property
    def ips(self) -> tuple[str, ...]:
        """The addresses, each once."""
        return tuple(dict.fromkeys(address.ip for address in self.known))


async def seen_addresses(site: Site) -> SeenAddresses:
    """Find them. Raises DnsFailure: mail leaves from a private address, and DNS does not answer."""
    known, unknown = list[SeenAddress](), list[str]()
    addresses = [address for address in site.addresses if not address.to_smarthost]
    for address in addresses:
        helo = address.helo or site.config.hostname
        if not address.private:
            known.append(SeenAddress(address.ip, helo))
            continue
        rdtype = RDTYPES[address.family]
        records = [str(record) for record in (await site.resolver.query(helo, rdtype)).records]
        public = [ip for ip in records if not is_private(ipaddress.ip_address(ip))]
        if public:
            known += [SeenAddress(ip, helo, address.ip) for ip in public]
        elif records:  # the world is a private network, too, and nothing is replaced on the way
            known.append(SeenAddress(address.ip, helo))
        else:
            name = "the host name" if helo == site.config.hostname else helo
            unknown.append(f"mail leaves from {address.ip}, which is private, and {name} has no {rdtype} record")
    if not addresses:
        families = " or ".join(site.config.delivery.families)
        unknown.append(f"this host has no route to the world by {families}")
    return SeenAddresses(tuple(dict.fromkeys(known)), "; ".join(unknown))


def smarthost(site: Site) -> str:
    """The smarthost that mail leaves by; empty where some mail goes to other hosts, which see our addresses."""
    return "" if leaves_directly(site.config) else smarthosts(site.config)[0]
