"""The hosts of a next hop in the order to try them: MX (RFC 5321 section 5.1), null MX (RFC 7505), and two guards.

DNS answers may come from a stranger. So mail routed by MX never goes to this host itself, and, with
`delivery.public_addresses_only`, never to a private address. A configured next hop may be anywhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import random
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from relay.config.destinations import Destination, Leaving
from relay.config.model import Config
from relay.config.sections import Families
from relay.deliver.next_hop import NextHop
from relay.dns import DnsFailure, Resolver
from relay.mail.address import DOMAIN, normal_domain
from relay.mail.outcome import Outcome, deferral, failure
from relay.network import Endpoint, host_port

HOSTS = 10  # MX hosts looked up, and addresses tried: a zone with hundreds must not delay a delivery for hours

_RDTYPE = {"ipv4": "A", "ipv6": "AAAA"}
_LOCALHOST = {"ipv4": "127.0.0.1", "ipv6": "::1"}  # RFC 6761 section 6.3: never looked up in DNS
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that IANA gives to networks (RFC 4291 section 2.4)
# Not global, although `is_global` of an older Python says so: RFC 6890 section 2.2.2, RFC 9637.
_SPECIAL = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("3fff::/20"))

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Host:
    """One server to connect to. Its certificate is checked against `name`: the MX or the configured host.

    Attributes:
        address: an IP address, or the path of a Unix socket on this host.
        port: 0 for a Unix socket.
        domain: the domain whose mail host it is; empty for a configured host.
    """

    name: str
    address: str
    port: int
    domain: str = ""

    @property
    def is_socket(self) -> bool:
        """Whether it is a Unix socket."""
        return self.address.startswith("/")


@dataclass(frozen=True, slots=True)
class Found:
    """What was found for a next hop.

    Attributes:
        hosts: in the order to try them; never none.
        destination: the table of `[[delivery.destinations]]` that holds: the one that names the domain, or else the
            `mx:` table of its MX hosts; None where there is neither.
        leaving: how connections to the hosts leave.
    """

    hosts: tuple[Host, ...]
    destination: Destination | None
    leaving: Leaving


class Unroutable(Exception):
    """There is no host to try; `outcome` says why, and whether a later attempt may find one."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome.text)


def by_preference(records: Iterable[tuple[int, str]], rng: random.Random) -> list[tuple[int, str]]:
    """MX records from the most preferred (lowest) on, equals in random order (RFC 5321 section 5.1)."""
    shuffled = list(records)
    rng.shuffle(shuffled)
    return sorted(shuffled, key=lambda record: record[0])


def is_public(address: IPAddress) -> bool:
    """Whether a mail server of the open Internet can have this address.

    False for addresses that the IANA registries call not globally reachable (RFC 6890), for multicast, and for IPv6
    outside of global unicast, which includes IPv4-mapped and site-local addresses. Of 6to4 and NAT64 the IPv4 address
    inside counts.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour is not None:
            return is_public(address.sixtofour)
        if address not in _UNICAST:
            return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _SPECIAL)


def literal(domain: str) -> IPAddress | None:
    """The address of an address literal (RFC 5321 section 4.1.3), None for anything else."""
    if not (domain.startswith("[") and domain.endswith("]")):
        return None
    text = domain[1:-1]
    try:
        if text.lower().startswith("ipv6:"):
            return ipaddress.IPv6Address(text[5:])
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


class HostFinder:
    """Finds the hosts of next hops. `rng` orders MX hosts of equal preference."""

    def __init__(self, config: Config, resolver: Resolver, rng: random.Random | None = None) -> None:
        self._resolver = resolver
        self._rng = rng or random.Random()
        self._destinations = config.destinations
        self._port = config.delivery.port
        self._public_only = config.delivery.public_addresses_only
        self._hostname = config.hostname
        self._listeners = [
            (ipaddress.ip_address(host), port) for host, port in (host_port(each.address) for each in config.listen)
        ]

    async def find(self, hop: NextHop) -> Found:
        """The hosts of a next hop in the order to try them, at most `HOSTS`, and how connections to them leave.

        Raises:
            Unroutable: there is no host, for now or for good.
        """
        try:
            if hop.endpoint is None:
                return await self._of_domain(hop)
            destination = self._table(hop, hop.destination)
            return self._found(await self._of_endpoint(hop.endpoint, self._leaving(destination)), destination)
        except DnsFailure as problem:
            name = hop.endpoint.host if hop.endpoint else hop.domain
            raise Unroutable(deferral("4.4.3", f"DNS has no answer for {name} now: {problem}")) from problem

    async def destination(self, hop: NextHop) -> Destination | None:
        """The table that holds for a next hop, as `find` returns it; None also where DNS has no answer now.

        DNS is asked only where there are `mx:` tables, and for the MX records alone, which `find` has from the cache
        then.
        """
        return self._table(hop, await self._named_or_behind(hop))

    async def _named_or_behind(self, hop: NextHop) -> Destination | None:
        if hop.destination is not None or hop.endpoint is not None or not self._destinations.has_mx:
            return hop.destination
        if not (hop.domain.isascii() and DOMAIN.match(hop.domain)):
            return None
        try:
            answer = await self._resolver.query(hop.domain, "MX")
        except DnsFailure:
            return None
        return self._destinations.behind(hop.domain, answer.records)

    async def best_mx(self, domain: str) -> Sequence[str]:
        """The names of the most preferred MX hosts of a normal domain, itself where it has none; none where DNS has no
        answer now."""
        if not (domain.isascii() and DOMAIN.match(domain)):
            return ()
        try:
            answer = await self._resolver.query(domain, "MX")
        except DnsFailure:
            return ()
        best = min((preference for preference, _ in answer.records), default=0)
        return [name for preference, name in answer.records if preference == best] or [domain]

    def _table(self, hop: NextHop, destination: Destination | None) -> Destination | None:
        return self._destinations.for_mail(destination, doubtful=hop.doubtful)

    def _found(self, hosts: Iterable[Host], destination: Destination | None) -> Found:
        leaving = self._leaving(destination)
        if leaving.apart:
            hosts = list(hosts)
            hosts = [host for host in hosts if ("ipv6" if ":" in host.address else "ipv4") in leaving.apart] or hosts
        return Found(tuple(itertools.islice(hosts, HOSTS)), destination, leaving)

    def _leaving(self, destination: Destination | None) -> Leaving:
        return self._destinations.leaving if destination is None else destination.leaving

    async def _of_endpoint(self, endpoint: Endpoint, leaving: Leaving) -> Iterable[Host]:
        if endpoint.path:
            return [Host("localhost", endpoint.path, 0)]
        addresses = await self._addresses(normal_domain(endpoint.host), leaving.families)
        if not addresses:
            # A mistake in our configuration must not bounce mail: deferred, not failed.
            raise Unroutable(deferral("4.4.4", f"the configured next hop {endpoint.host} has no address"))
        return [Host(normal_domain(endpoint.host), address, endpoint.port) for address in addresses]

    async def _of_domain(self, hop: NextHop) -> Found:
        domain, destination = hop.domain, hop.destination
        address = literal(domain)
        if address is not None:
            table = self._table(hop, destination)
            return self._found(self._usable(domain, [(0, str(address), [str(address)])]), table)
        domain = normal_domain(domain)
        if not (domain.isascii() and DOMAIN.match(domain)):
            raise Unroutable(failure(550, "5.1.2", f"{domain} is no domain name"))
        answer = await self._resolver.query(domain, "MX")
        if not answer.exists:
            raise Unroutable(failure(550, "5.1.2", f"the domain {domain} does not exist"))
        if answer.records and all(not name for _, name in answer.records):
            raise Unroutable(failure(556, "5.1.10", f"{domain} does not accept mail (null MX)"))  # RFC 7505 section 4.2
        records = [(preference, name) for preference, name in answer.records if name] or [(0, domain)]
        if destination is None:
            destination = self._destinations.behind(domain, answer.records)
        destination = self._table(hop, destination)
        hosts, problem = await self._resolve(records, self._leaving(destination).families)
        try:
            return self._found(self._usable(domain, hosts), destination)
        except Unroutable:
            if problem is not None:  # the host that DNS has no answer for now may take it later
                raise problem from None
            raise

    async def _resolve(
        self, records: Sequence[tuple[int, str]], families: Families
    ) -> tuple[list[tuple[int, str, list[str]]], DnsFailure | None]:
        """MX records in order with their addresses, without hosts that DNS has no answer for, and the first problem."""
        ordered = by_preference(records, self._rng)[:HOSTS]
        answers = await asyncio.gather(
            *(self._addresses(name, families) for _, name in ordered), return_exceptions=True
        )
        problem = None
        hosts = []
        for (preference, name), addresses in zip(ordered, answers, strict=True):
            if isinstance(addresses, DnsFailure):
                problem = problem or addresses
            elif isinstance(addresses, BaseException):
                raise addresses
            else:
                hosts.append((preference, name, addresses))
        return hosts, problem

    def _usable(self, domain: str, hosts: Sequence[tuple[int, str, list[str]]]) -> Iterable[Host]:
        """The hosts without ourselves, and without addresses that mail routed by MX must not go to."""
        if not any(addresses for _, _, addresses in hosts):
            raise Unroutable(failure(550, "5.4.4", f"no mail host of {domain} has an address"))
        ours = [preference for preference, name, addresses in hosts if self._is_us(name, addresses)]
        if ours:  # RFC 5321 section 5.1: only hosts more preferred than ourselves may take it from us
            hosts = [host for host in hosts if host[0] < min(ours)]
            if not any(addresses for _, _, addresses in hosts):
                raise Unroutable(failure(554, "5.4.6", f"mail for {domain} loops back to this host"))
        usable = [Host(name, address, self._port, domain) for _, name, addresses in hosts for address in addresses]
        if self._public_only:
            usable = [host for host in usable if is_public(ipaddress.ip_address(host.address))]
        if not usable:
            raise Unroutable(failure(550, "5.4.4", f"the mail hosts of {domain} have no public address"))
        return usable

    async def _addresses(self, name: str, families: Families) -> list[str]:
        """Addresses of a host, the families in turn so that `HOSTS` leaves some of each; none for an invalid name.

        Raises:
            DnsFailure: no address is known and at least one family got no answer.
        """
        try:
            return [str(ipaddress.ip_address(name))]
        except ValueError:
            pass
        if name == "localhost":
            return [_LOCALHOST[family] for family in families]
        if not DOMAIN.match(name):
            return []
        questions = (self._resolver.query(name, _RDTYPE[family]) for family in families)
        answers = await asyncio.gather(*questions, return_exceptions=True)
        by_family = []
        problem: DnsFailure | None = None
        for answer in answers:
            if isinstance(answer, DnsFailure):
                problem = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                by_family.append(answer.records)
        addresses = list(_taking_turns(by_family))
        if problem is not None and not addresses:
            raise problem
        return addresses

    def _is_us(self, name: str, addresses: Sequence[str]) -> bool:
        return normal_domain(name) == self._hostname or any(
            self._is_ours(ipaddress.ip_address(address)) for address in addresses
        )

    def _is_ours(self, address: IPAddress) -> bool:
        """Whether a connection to the address would reach this relay; with `public_addresses_only`, this machine."""
        if self._public_only:
            return any(address == own for own, _ in self._listeners) or _is_local(address)
        own_here = [own for own, port in self._listeners if port == self._port and own.version == address.version]
        return address in own_here or (any(own.is_unspecified for own in own_here) and _is_local(address))


def _taking_turns(families: Sequence[Sequence[str]]) -> Iterator[str]:
    return (address for turn in itertools.zip_longest(*families) for address in turn if address is not None)


def _is_local(address: IPAddress) -> bool:
    """Whether this machine has the address, on any interface: only then a socket can be bound to it."""
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            if not _may_bind_anything(address.version):
                probe.bind((str(address), 0))
                return True
            probe.connect((str(address), 9))  # looks up the route and sends nothing
        except OSError:
            return False
        # The kernel connects from the same address only where it is the first of its interface.
        return ipaddress.ip_address(probe.getsockname()[0]) == address


def _may_bind_anything(version: int) -> bool:
    """Whether sockets may be bound to addresses of other machines (ip-sysctl, `ip_nonlocal_bind`)."""
    try:
        return Path(f"/proc/sys/net/ipv{version}/ip_nonlocal_bind").read_text().strip() != "0"
    except OSError:
        return False
