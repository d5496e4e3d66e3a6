"""Under which addresses the hosts of one next hop see us: what `explain` evaluates SPF for.

That depends on the host: towards its address the kernel chooses a source, unless one is configured. A private source
is replaced by a NAT on the way, and only DNS may know by what.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from relay.config.destinations import Leaving
from relay.config.model import Config
from relay.deliver.mx import Host, HostFinder, Unroutable
from relay.deliver.next_hop import NextHop
from relay.dns import DnsFailure, Resolver
from relay.rewrite.our_addresses import public_addresses_of_name
from relay.sending_addresses import Family, SendingAddress, is_private, kernel_choice, sending_addresses

Origin = Literal["configured", "kernel", "dns"]


@dataclass(frozen=True, slots=True)
class AddressSeen:
    """An address under which a next hop sees us.

    Attributes:
        origin: who says so: the configuration (`source_ipv4`, `source_ipv6`), the kernel, or what DNS has for the name
            that we say in EHLO.
        behind: the private address that mail leaves from where `origin` is `dns`; empty if none is known.
        hosts: of the next hop, in the order in which they are tried; empty for a next hop without hosts.
        problem: why DNS was of no help with a private address.
    """

    ip: str
    origin: Origin
    behind: str = ""
    hosts: tuple[Host, ...] = ()
    problem: str = ""

    @property
    def is_hidden(self) -> bool:
        """Whether it is private, so that a host outside of our networks sees another one."""
        inside = bool(self.hosts) and all(_is_private(host.address) for host in self.hosts)
        return _is_private(self.ip) and not inside

    @property
    def private_hosts(self) -> tuple[Host, ...]:
        """The hosts that may be in one network with us, and see `behind` itself."""
        if not self.behind:
            return ()
        return tuple(host for host in self.hosts if _is_private(host.address))


@dataclass(frozen=True, slots=True)
class Seen:
    """How the hosts of a next hop see us.

    Attributes:
        addresses: that of the first host first; none where a Unix socket leads there.
        leaving: how connections leave.
        problem: why the addresses are not those of its hosts; empty if they are.
    """

    addresses: tuple[AddressSeen, ...]
    leaving: Leaving
    problem: str = ""


async def addresses_seen(config: Config, resolver: Resolver, hop: NextHop) -> Seen:
    """The addresses under which a next hop sees us.

    Raises:
        DnsFailure: no route leads anywhere, and our own name cannot be looked up.
    """
    finder = HostFinder(config, resolver, random.Random(0))
    problem = ""
    towards: Sequence[tuple[SendingAddress, tuple[Host, ...]]] = ()
    try:
        found = await finder.find(hop)
    except Unroutable as unroutable:
        problem = unroutable.outcome.text
        destination = await finder.destination(hop)
        leaving = config.destinations.leaving if destination is None else destination.leaving
    else:
        leaving = found.leaving
        if found.hosts[0].is_socket:
            return Seen((), leaving, "a Unix socket leads there, so that it sees no address of ours")
        towards = tuple(_towards(leaving, found.hosts))
        if not towards:
            problem = "this host has no route to it"
    if not towards:
        anywhere = sending_addresses(leaving.families, leaving.source_ipv4, leaving.source_ipv6)
        towards = tuple((address, ()) for address in anywhere)
    seen: dict[str, AddressSeen] = {}
    for address, hosts in towards:
        for outside in await _outside(leaving.helo, resolver, address):
            known = seen.setdefault(outside.ip, outside)
            seen[outside.ip] = replace(known, hosts=(*known.hosts, *hosts))
    if not towards:
        for family in leaving.families:
            for ip in await public_addresses_of_name(resolver, leaving.helo, family):
                seen[ip] = AddressSeen(ip, "dns")
    return Seen(tuple(seen.values()), leaving, problem)


def _towards(leaving: Leaving, hosts: Sequence[Host]) -> Iterator[tuple[SendingAddress, tuple[Host, ...]]]:
    """What mail to each host leaves from, without hosts that no route leads to."""
    for host in hosts:
        family: Family = "ipv6" if ":" in host.address else "ipv4"
        source = leaving.source(host.address)
        if source is not None:
            yield SendingAddress(source, family, configured=True), (host,)
        elif (own := kernel_choice(host.address)) is not None:
            yield SendingAddress(own, family), (host,)


async def _outside(helo: str, resolver: Resolver, address: SendingAddress) -> Sequence[AddressSeen]:
    """What others see of an address that mail leaves from."""
    problem = ""
    if address.private:
        try:
            public = await public_addresses_of_name(resolver, helo, address.family)
        except DnsFailure as failure:
            public, problem = (), str(failure)
        if public:
            return [AddressSeen(ip, "dns", behind=address.ip) for ip in public]
    return [AddressSeen(address.ip, "configured" if address.configured else "kernel", problem=problem)]


def _is_private(address: str) -> bool:
    return is_private(ipaddress.ip_address(address))
