"""MX: whether mail for our domains, and bounces to the SRS domain, come to this relay."""

from __future__ import annotations

from collections.abc import Sequence

from relay.check.domains import receiving_domains
from relay.check.finding import Finding, Level
from relay.check.here import Places, find_places
from relay.check.look_ups import for_each
from relay.check.mail_hosts import MailHost, mail_hosts
from relay.check.site import Site


async def check(site: Site) -> list[Finding]:
    """Where the MX records of the domains that we receive for lead."""
    places = await find_places(site)

    async def look(domain: str) -> list[Finding]:
        return await _findings(site, places, domain)

    return await for_each("mx", receiving_domains(site), look)


async def _findings(site: Site, places: Places, domain: str) -> list[Finding]:
    line = f"{domain}. 3600 IN MX 10 {site.mail_host}."
    publish = f"publish\n{line}"
    found = await mail_hosts(site.resolver, places, domain)
    lost = "no bounces come" if domain == site.config.srs.domain else "no mail comes"
    if not found.exists:
        return [Finding("mx", domain, "error", f"DNS does not know the domain, so that {lost}", publish)]
    if found.null:
        text = f"the domain says that it takes no mail (null MX), so that {lost}"
        return [Finding("mx", domain, "error", text, f"put in its place\n{line}")]
    here = [host for host in found.hosts if host.ips and host.place not in ("elsewhere", "backup")]
    if found.implicit:
        if not here:
            return [Finding("mx", domain, "error", f"no MX record, so that {lost} here", publish)]
        text = "no MX record; mail comes by the address record of the domain, and some hosts want an MX record"
        return [Finding("mx", domain, "warning", text, publish)]
    return _faults(site, domain, found.hosts, here, lost) or [Finding("mx", domain, "ok", f"leads {_ways(here)}")]


def _faults(site: Site, domain: str, hosts: Sequence[MailHost], here: Sequence[MailHost], lost: str) -> list[Finding]:
    line = f"{domain}. 3600 IN MX 10 {site.mail_host}."
    elsewhere = [host for host in hosts if host.ips and host.place == "elsewhere"]
    names = ", ".join(host.name for host in elsewhere)
    found = []
    if not here:
        where = ", ".join(host.name for host in hosts)
        text = f"leads to {where}, and not here, so that {lost}"
        mend = (
            f"publish\n{line}\nor, if that is a host of yours that passes mail on to us, put its address into"
            " clients.trusted"
        )
        if not any(host.ips for host in hosts):
            text, mend = f"leads to {where}, which has no address", f"put in its place\n{line}"
            if any(host.name == site.config.hostname for host in hosts):
                mend = f"publish the addresses of {site.config.hostname}, which `--only address` prints"
        return [Finding("mx", domain, "error", text, mend)]
    if elsewhere:
        ours, others = (min(host.preference for host in group) for group in (here, elsewhere))
        order = "first" if others < ours else "as often" if others == ours else "also"
        level: Level = "warning" if order == "also" and domain != site.config.srs.domain else "error"
        text = f"leads here, but {order} to {names}, which is not known to us"
        mend = (
            "remove that MX record; or, if it is a backup MX that passes mail on to us, put its address into spf.skip"
            " and give it a higher preference number than ours"
        )
        found.append(Finding("mx", domain, level, text, mend))
    for host in hosts:
        if not host.ips:
            text, mend = f"{host.name} has no address", "remove that MX record, or give the host an address"
            found.append(Finding("mx", domain, "warning", text, mend))
        elif host.is_alias:
            text = f"{host.name} is a CNAME, which an MX record must not lead to (RFC 2181 section 10.3)"
            mend = "let the MX record lead to the name behind it, or put address records in the place of the CNAME"
            found.append(Finding("mx", domain, "warning", text, mend))
    return found


def _ways(here: Sequence[MailHost]) -> str:
    ways = {
        "here": "here",
        "trusted": "to a trusted client",
        "next hop": "to a configured next hop",
    }
    return ", ".join(dict.fromkeys(f"{ways[host.place]} ({host.name})" for host in here))
