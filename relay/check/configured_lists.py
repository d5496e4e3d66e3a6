"""Whether the DNS lists of `[clients]` can be believed: at the door one with a fault lists nobody."""

from __future__ import annotations

import asyncio

from relay.check.finding import Finding
from relay.check.site import Site
from relay.dns_lists.answers import ALWAYS_LISTED, ALWAYS_LISTED_NAME
from relay.dns_lists.zone import Fault, ListZone

_MEND = "let dns.nameservers be a resolver of your own, or take the list out of the configuration"


async def findings(site: Site) -> list[Finding]:
    """What is found about each list."""
    clients = site.config.clients
    zones = dict.fromkeys(
        (*((each.zone, each.names) for each in clients.dnsbl), *((each.zone, False) for each in clients.dnswl))
    )
    return await asyncio.gather(*(_finding(site, zone, names=names) for zone, names in zones))


async def _finding(site: Site, name: str, *, names: bool) -> Finding:
    zone = ListZone(name, names=names, resolver=site.resolver)
    point = ALWAYS_LISTED_NAME if names else ALWAYS_LISTED
    try:
        await zone.test()
        found = await zone.answers(point)
    except Fault as fault:
        return Finding("dnsbl", name, "error", f"lists no client of ours, because it has a fault: {fault}", _MEND)
    if not found:
        text = f"does not list {point}, as every list has to (RFC 5782 section 5)"
        return Finding("dnsbl", name, "warning", text, "see at its site whether the list still exists")
    return Finding("dnsbl", name, "ok", "answers, and lists what it has to")
