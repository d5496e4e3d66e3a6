"""The addresses that the world sees our mail come from.

Behind a NAT this host has a private one; then the addresses of its name in DNS are taken for those that others see.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from relay.check.site import Site
from relay.sending_addresses import Family, is_private

RDTYPES: dict[Family, str] = {"ipv4": "A", "ipv6": "AAAA"}


@dataclass(frozen=True, slots=True)
class SeenAddress:
    """One of them.

    Attributes:
        behind: the private address that mail leaves from, where `ip` is one that DNS has for the host name.
    """

    ip: str
    behind: str = ""

    def __str__(self) -> str:
        return f"{self.ip} (in DNS; mail leaves from {self.behind}, which is private)" if self.behind else self.ip


@dataclass(frozen=True, slots=True)
class SeenAddresses:
    """What is known of them.

    Attributes:
        unknown: why nothing is known of some, or all, of them.
    """

    known: tuple[SeenAddress, ...]
    unknown: str = ""


async def seen_addresses(site: Site) -> SeenAddresses:
    """Find them. Raises DnsFailure: mail leaves from a private address, and DNS does not answer."""
    known, unknown = list[SeenAddress](), list[str]()
    for address in site.addresses:
        if not address.private:
            known.append(SeenAddress(address.ip))
            continue
        rdtype = RDTYPES[address.family]
        records = [str(record) for record in (await site.resolver.query(site.config.hostname, rdtype)).records]
        public = [ip for ip in records if not is_private(ipaddress.ip_address(ip))]
        if public:
            known += [SeenAddress(ip, address.ip) for ip in public]
        elif records:  # the world is a private network, too, and nothing is replaced on the way
            known.append(SeenAddress(address.ip))
        else:
            unknown.append(f"mail leaves from {address.ip}, which is private, and the host name has no {rdtype} record")
    if not site.addresses:
        families = " or ".join(site.config.delivery.families)
        unknown.append(f"this host has no route to the world by {families}")
    return SeenAddresses(tuple(dict.fromkeys(known)), "; ".join(unknown))


def smarthost(site: Site) -> str:
    """The host that takes all mail without a next hop of its own; empty where mail goes to MX hosts."""
    section = site.config.delivery.smarthost
    return "" if section is None else section.url.host
