"""Whether strangers can come from an address that we trust.

The relay trusts addresses. Where something in front replaces the address of every client by its own, such as a router
that translates, the proxy of a container engine, or a program that may claim any client, that address stands for
everyone. The configuration refuses networks that hold everyone; here is what only the host shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from relay.check.finding import Finding
from relay.check.gateways import default_gateways
from relay.check.here import reached_from_outside
from relay.check.site import Site
from relay.network import within

WIDE = {4: 20, 6: 40}  # prefix lengths: a public network that is wider has hosts of many people
_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))  # of Docker, and of Podman


async def check(site: Site) -> list[Finding]:
    """A finding for each address and network that strangers may come from; otherwise one for the host."""
    gateways = await asyncio.to_thread(default_gateways)
    findings = [*_gateways(site, gateways), *_proxies(site, gateways), *_own_addresses(site), *_wide(site)]
    if findings:
        return findings
    is_trusting = bool(site.config.clients.trusted)
    text = "nothing shows that strangers come from clients.trusted" if is_trusting else "no client is trusted"
    return [Finding("open-relay", site.config.hostname, "ok", text)]


def _gateways(site: Site, gateways: Sequence[str]) -> Iterator[Finding]:
    if not reached_from_outside(site):
        return
    for gateway in gateways:
        if within(gateway, site.config.clients.trusted):
            text = (
                f"the default gateway {gateway} is inside clients.trusted: where it (a router, or the proxy of a "
                "container engine) translates addresses, every stranger comes from it and may send to anyone"
            )
            mend = "name the addresses of your own hosts in clients.trusted, without this one"
            yield Finding("open-relay", gateway, "error", text, mend)


def _proxies(site: Site, gateways: Sequence[str]) -> Iterator[Finding]:
    for listener in site.config.listen:
        if not listener.proxy_protocol:
            continue
        for gateway in gateways:
            if within(gateway, listener.proxies):
                text = (
                    f"the default gateway {gateway} is inside the proxies of {listener.address}: where it translates "
                    "addresses, every stranger is a proxy and may claim to be a trusted client"
                )
                yield Finding("open-relay", gateway, "error", text, "name the address of the proxy itself in proxies")
        for network in listener.proxies:
            if network.num_addresses > 1 and not network.is_loopback:
                text = (
                    f"each of the {network.num_addresses:,} addresses in proxies of {listener.address} may claim to be "
                    "any client, a trusted one too"
                )
                mend = f"name the address of each proxy in the place of {network}"
                yield Finding("open-relay", str(network), "error", text, mend)


def _own_addresses(site: Site) -> Iterator[Finding]:
    """Rootless engines and user-space proxies show every client as an address of the container itself."""
    if not any(mark.exists() for mark in _CONTAINER_MARKS) or not reached_from_outside(site):
        return
    for address in site.addresses:
        if within(address.ip, site.config.clients.trusted):
            text = (
                f"{address.ip}, the address of this container, is inside clients.trusted: some engines show every "
                "client as that address"
            )
            mend = "look at `ip=` in the `connect` lines of strangers; take that address out of clients.trusted"
            yield Finding("open-relay", address.ip, "warning", text, mend)


def _wide(site: Site) -> Iterator[Finding]:
    for network in site.config.clients.trusted:
        if network.prefixlen < WIDE[network.version] and network.is_global:
            text = f"{network.num_addresses:,} public addresses are trusted, and may send to anyone"
            yield Finding("open-relay", str(network), "warning", text, f"name those of {network} that are yours")
