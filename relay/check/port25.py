"""Whether mail can leave: port 25 outwards, which many providers close, or the smarthost.

A server that greets is proof enough, whatever it says. The servers are those of the domains that mail goes to; others
are tried only where none of these answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from relay.check.finding import Finding
from relay.check.look_ups import results
from relay.check.seen_addresses import smarthost
from relay.check.site import Site
from relay.check.smtp_probe import Unreachable, greeting
from relay.config.sections import SmarthostSection
from relay.deliver.mx import Host, HostFinder, Unroutable
from relay.deliver.next_hop import NextHop
from relay.mail.address import domain_of
from relay.sending_addresses import Family, SendingAddress, kernel_choice

DOMAINS = 3  # that are tried, and for each of them as many hosts
# Large providers, some of whose hosts answer at any time, over both families.
ELSEWHERE = ("gmail.com", "outlook.com", "yahoo.com")
_TARGETS = 1000  # of the alias table that are looked at


@dataclass(frozen=True, slots=True)
class _Try:
    """A connection to a host: it greeted, or `problem` says why not.

    Attributes:
        source: the address that it was bound to; empty where the kernel chose it.
    """

    host: Host
    source: str
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.host.name} [{self.host.address}]"


async def check(site: Site) -> list[Finding]:
    """A finding for each address that mail leaves from, and for each smarthost."""
    if not site.config.takes_mail:
        return [Finding("port25", site.machine, "ok", "no mail leaves from here: there is no listener")]
    found = [await _smarthost(table, section, site) for table, section in site.config.delivery.smarthost_tables.items()]
    sending = list({address.ip: address for address in site.addresses if not address.to_smarthost}.values())
    return found if smarthost(site) else [*found, *await _way_out(sending, site)]


async def _way_out(sending: Sequence[SendingAddress], site: Site) -> list[Finding]:
    """A finding for each address that mail leaves from, each of them once."""
    if not sending:
        mend = "give this host a route to the Internet, or name the relay of a provider in delivery.smarthost"
        return [Finding("port25", site.config.hostname, "error", "no route leads to the Internet", mend)]
    tries, problems = await _tries(_destinations(site), sending, site)
    silent = [address for address in sending if not _greeted(tries, address)]
    if silent:
        more, unroutable = await _tries(ELSEWHERE, silent, site)
        tries, problems = [*tries, *more], [*problems, *unroutable]
    return [_finding(address, tries, problems, sending, site) for address in sending]


async def _smarthost(table: str, section: SmarthostSection, site: Site) -> Finding:
    subject = str(section.url)
    mend = f"see that delivery.{table}.url is right, and that the firewall lets this host connect there"
    try:
        hosts = (await HostFinder(site.config, site.resolver).find(NextHop(endpoint=section.url))).hosts
    except Unroutable as error:
        return Finding("port25", subject, "error", f"the smarthost is not found: {error}", mend)
    leaving, implicit_tls = site.config.destinations.leaving, section.url.scheme == "smtps"
    tried = await asyncio.gather(
        *(_connect(host, leaving.source(host.address) or "", implicit_tls=implicit_tls) for host in hosts)
    )
    for one in tried:
        if not one.problem:
            return Finding("port25", subject, "ok", f"the smarthost greets: {one}")
    return Finding("port25", subject, "error", f"the smarthost does not answer: {_problems(tried)}", mend)


def _destinations(site: Site) -> Sequence[str]:
    """Domains that mail goes to by their MX: of alias targets, and of routes without a next hop."""
    config, table = site.config, site.files.tables.aliases.listed
    served = table.domains
    targets = islice((target for entry in table.entries.values() for target in entry), _TARGETS)
    domains = [*map(domain_of, targets), *config.routes.domains]
    ours = {config.srs.domain, config.hostname}
    by_mx = (d for d in domains if d not in ours and (d not in served or d in config.routes.domains))
    by_mx = (d for d in by_mx if d and config.next_hop(d) is None and not config.smarthost(d))
    return list(islice(dict.fromkeys(by_mx), DOMAINS))


async def _tries(domains: Iterable[str], sending: Sequence[SendingAddress], site: Site) -> tuple[list[_Try], list[str]]:
    """Connections to hosts of the domains, from each address of their family; and why the others have no host."""
    finder = HostFinder(site.config, site.resolver)
    found = await asyncio.gather(*(_hosts(domain, finder) for domain in domains), return_exceptions=True)
    hosts: dict[Host, None] = {}
    problems = []
    for result in found:
        if isinstance(result, Unroutable):
            problems.append(str(result))
        elif isinstance(result, BaseException):
            raise result
        else:
            hosts.update(dict.fromkeys(result))
    ways = [(host, _source(each)) for each in sending for host in hosts if _family(host) == each.family]
    return await results(ways, lambda way: _connect(*way)), problems


async def _hosts(domain: str, finder: HostFinder) -> Sequence[Host]:
    """Some hosts of a domain of both families. Raises Unroutable."""
    hosts = (await finder.find(NextHop(domain=domain))).hosts
    by_family = [[host for host in hosts if _family(host) == family] for family in ("ipv4", "ipv6")]
    return [host for hosts in by_family for host in hosts[:DOMAINS]]


def _source(address: SendingAddress) -> str:
    """What a socket is bound to for mail from an address; empty where the kernel chooses it."""
    return address.ip if address.configured else ""


async def _connect(host: Host, source: str, *, implicit_tls: bool = False) -> _Try:
    try:
        await greeting(host, source, implicit_tls=implicit_tls)
    except Unreachable as error:
        return _Try(host, source, str(error))
    return _Try(host, source)


def _finding(
    address: SendingAddress,
    tries: Sequence[_Try],
    unroutable: Sequence[str],
    sending: Sequence[SendingAddress],
    site: Site,
) -> Finding:
    family = address.family
    greeted = _greeted(tries, address)
    if greeted:
        return Finding("port25", address.ip, "ok", f"the way out is open: {greeted[0]} greets")
    if address.configured and kernel_choice(address.ip, source=address.ip) is None:
        mend = f"set delivery.source_{family}, or that of the destination, to an address of this host, or remove it"
        return Finding("port25", address.ip, "error", "this host does not have the address, so no mail leaves", mend)
    tried = [one for one in tries if _is_from(one, address)]
    name = "IPv6" if family == "ipv6" else "IPv4"
    others_work = any(_greeted(tries, other) for other in sending)
    if not tried and others_work:
        return Finding("port25", address.ip, "ok", f"no mail host to try has an {name} address")
    if not tried:
        mend = "`srs-relay check --only resolver` says whether the resolver works"
        text = f"no mail host with an {name} address was found to try: {'; '.join(unroutable[:DOMAINS])}"
        return Finding("port25", address.ip, "warning", text.removesuffix(": "), mend)
    text = f"no mail host answers on port {site.config.delivery.port}: {_problems(tried)}"
    if family == "ipv6" and others_work:
        mend = 'let the firewall and the provider pass it, or leave IPv6 out: delivery.families = ["ipv4"]'
        return Finding("port25", address.ip, "warning", text, mend)
    mend = (
        "many providers close this port: ask yours to open it outwards, let your firewall pass it, or send through "
        "a relay of the provider (delivery.smarthost)"
    )
    return Finding("port25", address.ip, "error", text, mend)


def _greeted(tries: Iterable[_Try], address: SendingAddress) -> list[_Try]:
    return [one for one in tries if not one.problem and _is_from(one, address)]


def _is_from(one: _Try, address: SendingAddress) -> bool:
    return _family(one.host) == address.family and one.source == _source(address)


def _family(host: Host) -> Family:
    return "ipv6" if ":" in host.address else "ipv4"


def _problems(tries: Iterable[_Try]) -> str:
    return "; ".join(f"{one}: {one.problem}" for one in islice(tries, DOMAINS))
