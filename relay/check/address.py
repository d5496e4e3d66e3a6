"""The address records of the host name: whether they are there, and those of this host."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

from relay.check.finding import Finding
from relay.check.here import is_ours, may_be_ours
from relay.check.look_ups import for_each
from relay.check.seen_addresses import RDTYPES
from relay.check.site import Site
from relay.network import host_port
from relay.sending_addresses import Family, is_private


async def check(site: Site) -> list[Finding]:
    """What DNS has for the name in our EHLO and in MX records."""
    host = site.config.hostname
    names = dict.fromkeys(address.helo for address in site.addresses if address.helo not in ("", host))
    others = await for_each("address", list(names), lambda name: _name_in_ehlo(site, name))
    return [*await _host_name(site), *others]


async def _host_name(site: Site) -> list[Finding]:
    host = site.config.hostname
    answers = await asyncio.gather(*(site.resolver.query(host, rdtype) for rdtype in ("A", "AAAA", "CNAME")))
    ipv4, ipv6, alias = (tuple(map(str, answer.records)) for answer in answers)
    if not ipv4 and not ipv6:
        text = "the host name has no address, so that no mail comes to it, and many hosts refuse its mail"
        return [Finding("address", host, "error", text, f"publish\n{_records(site, 'ipv4', 'ipv6')}")]
    found = [*_about(site, "ipv4", ipv4), *_about(site, "ipv6", ipv6)]
    if alias:
        text = f"the host name is a CNAME of {alias[0]}; EHLO and MX records need a name with addresses of its own"
        mend = f"put address records in its place, or set hostname to {alias[0]}"
        found.append(Finding("address", host, "warning", text, mend))
    return found or [Finding("address", host, "ok", f"has {', '.join((*ipv4, *ipv6))}")]


async def _name_in_ehlo(site: Site, name: str) -> list[Finding]:
    """What DNS has for a name that EHLO says to some destinations: the addresses that mail leaves from there."""
    sending = [address for address in site.addresses if address.helo == name and not address.to_smarthost]
    rdtypes = dict.fromkeys(RDTYPES[address.family] for address in sending)
    answers = await asyncio.gather(*(site.resolver.query(name, rdtype) for rdtype in rdtypes))
    ips = [str(record) for answer in answers for record in answer.records]
    missing = [address for address in sending if address.ip not in ips and not (address.private and ips)]
    if not missing:
        return [Finding("address", name, "ok", f"has {', '.join(ips)}" if ips else "no mail leaves under this name")]
    public = [address for address in missing if not address.private]
    records = "\n".join(f"{name}. 3600 IN {RDTYPES[address.family]} {address.ip}" for address in public)
    text = f"mail leaves from {', '.join(each.ip for each in missing)} under this name, which does not lead there"
    mend = f"publish\n{records or f'{name}. 3600 IN A PUBLIC-ADDRESS-OF-THIS-HOST'}\nor set {helo_key(site, name)}"
    return [Finding("address", name, "warning", text, mend)]


def helo_key(site: Site, name: str) -> str:
    """The key that says a name in EHLO."""
    if name == site.config.hostname:
        return "hostname"
    doubtful = site.config.delivery.doubtful
    table = "doubtful" if doubtful is not None and doubtful.helo == name else "destinations"
    return f"delivery.{table}.helo"


def _about(site: Site, family: Family, ips: Sequence[str]) -> list[Finding]:
    """What is wrong with the records of one family."""
    host, rdtype = site.config.hostname, RDTYPES[family]
    sending = [each for each in site.addresses if each.family == family and each.helo in ("", host)]
    outside = [ip for ip in ips if not is_ours(site, ip)]
    foreign = [ip for ip in outside if not may_be_ours(site, ip)]
    found = []
    if foreign:
        text = f"DNS has {', '.join(foreign)}, which this host does not have"
        if len(foreign) == len(ips):
            lines = "\n".join(f"{host}. 3600 IN {rdtype} {address.ip}" for address in sending)
            mend = f"put in its place\n{lines}" if sending else f"remove that {rdtype} record"
            return [Finding("address", host, "error", text, mend)]
        found.append(Finding("address", host, "warning", text, f"remove that {rdtype} record"))
    elif ips and not outside and not _listens(site, family):
        text = f"DNS has {', '.join(ips)}, and nothing listens there: hosts that try it first have to wait"
        mend = f"add {'[::]:25' if family == 'ipv6' else '0.0.0.0:25'} to [[listen]], or remove the {rdtype} record"
        found.append(Finding("address", host, "warning", text, mend))
    for address in sending:
        if not address.private and address.ip not in ips and not address.to_smarthost:
            text = f"mail leaves from {address.ip}, which is not among the addresses of the host name"
            mend = f"publish\n{_records(site, family)}\nor set delivery.families or delivery.source_{family}"
            found.append(Finding("address", host, "warning", text, mend))
    return found


def _listens(site: Site, family: Family) -> bool:
    """Whether a listener takes connections of this family from outside; True where no listener does of either."""
    listening = [ipaddress.ip_address(host_port(listener.address)[0]) for listener in site.config.listen]
    outside = {address.version for address in listening if address.is_unspecified or not is_private(address)}
    return not outside or (4 if family == "ipv4" else 6) in outside


def _records(site: Site, *families: Family) -> str:
    """The records to publish, as lines of a zone file."""
    host = site.config.hostname
    ours = [address for address in site.addresses if address.helo in ("", host)]
    public = [address for address in ours if address.family in families and not address.private]
    if not public:
        return f"{host}. 3600 IN A PUBLIC-ADDRESS-OF-THIS-HOST"
    return "\n".join(f"{host}. 3600 IN {RDTYPES[address.family]} {address.ip}" for address in public)
