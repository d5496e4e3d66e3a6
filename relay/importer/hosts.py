"""Lists of hosts in the files of other programs: addresses, networks and names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from relay.config.values import domain_name, host_name
from relay.network import IPNetwork, too_wide

_LOOPBACK = ("127.0.0.1/32", "::1/128")  # what localhost means everywhere (RFC 6761 section 6.3)
_MAPPED_BITS = 96  # of an IPv4-mapped IPv6 address, before the IPv4 address


class Hosts(NamedTuple):
    """A list of hosts, read.

    Attributes:
        names: host names; `.example.org` stands for all names below.
        bad: entries that are neither.
    """

    networks: list[IPNetwork]
    names: list[str]
    bad: list[str]


def full_name(text: str) -> str:
    """A host name in normal form; empty if other hosts cannot look it up (RFC 6761 section 6.3)."""
    try:
        return host_name(text)
    except ValueError:
        return ""


def read_hosts(entries: Iterable[str]) -> Hosts:
    """Read entries; `localhost` is the loopback address of both families, and an address may stand in brackets."""
    hosts = Hosts([], [], [])
    for entry in filter(None, map(str.strip, entries)):
        if entry.lower() == "localhost":
            hosts.networks.extend(map(ipaddress.ip_network, _LOOPBACK))
            continue
        try:
            hosts.networks.append(host_network(entry))
            continue
        except ValueError:
            pass
        try:
            hosts.names.append(("." if entry.startswith(".") else "") + domain_name(entry.removeprefix(".")))
        except ValueError:
            hosts.bad.append(entry)
    return hosts


def host_network(text: str) -> IPNetwork:
    """A network or an address; an IPv4-mapped one as IPv4. Bits behind the prefix may be set.

    Raises:
        ValueError: it is none.
    """
    network: IPNetwork = ipaddress.ip_network(re.sub(r"[][]", "", text), strict=False)
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= _MAPPED_BITS:
        return ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_BITS), strict=False)
    return network


def without_wide(networks: Iterable[IPNetwork]) -> tuple[list[IPNetwork], list[IPNetwork]]:
    """The networks that are narrow enough to be trusted, also together, and those that are not."""
    kept, wide = list(dict.fromkeys(networks)), list[IPNetwork]()
    while (found := too_wide(kept)) is not None:
        wide += [network for network in kept if network.overlaps(found) and network.version == found.version]
        kept = [network for network in kept if network not in wide]
    return kept, wide
