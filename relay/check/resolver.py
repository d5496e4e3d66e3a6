"""The name servers that the relay asks: whether each answers in time, validates, and is one that DNS lists talk to."""

from __future__ import annotations

import asyncio
import ipaddress
import time

from relay.check.finding import Finding
from relay.check.site import Site
from relay.dns import CachingResolver, DnsFailure, is_on_this_host, system_nameservers
from relay.network import host_port

SLOW = 0.5  # seconds for an answer that the name server has in its cache; a message takes ten or twenty answers
_SIGNED = "org"  # a zone that is signed, and that every resolver of the world knows

# Resolvers for everybody. DNS lists of mail (Spamhaus and others) refuse them, since they cannot tell who asks.
PUBLIC = {
    "Google": ("8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"),
    "Google (NAT64)": ("2001:4860:4860::64", "2001:4860:4860::6464"),
    "Cloudflare": (
        *("1.1.1.1", "1.0.0.1", "1.1.1.2", "1.0.0.2", "1.1.1.3", "1.0.0.3"),
        *("2606:4700:4700::1111", "2606:4700:4700::1001", "2606:4700:4700::1112", "2606:4700:4700::1002"),
        *("2606:4700:4700::1113", "2606:4700:4700::1003", "2606:4700:4700::64", "2606:4700:4700::6400"),
    ),
    "Quad9": (
        *("9.9.9.9", "149.112.112.112", "9.9.9.10", "149.112.112.10", "9.9.9.11", "149.112.112.11"),
        *("2620:fe::fe", "2620:fe::9", "2620:fe::10", "2620:fe::fe:10", "2620:fe::11", "2620:fe::fe:11"),
    ),
    "OpenDNS": (
        *("208.67.222.222", "208.67.220.220", "208.67.222.123", "208.67.220.123"),
        *("2620:119:35::35", "2620:119:53::53", "2620:119:35::123", "2620:119:53::123"),
    ),
    "AdGuard": ("94.140.14.14", "94.140.15.15", "2a10:50c0::ad1:ff", "2a10:50c0::ad2:ff"),
    "Verisign": ("64.6.64.6", "64.6.65.6", "2620:74:1b::1:1", "2620:74:1c::2:2"),
    "Level3": ("4.2.2.1", "4.2.2.2", "4.2.2.3", "4.2.2.4"),
    "DNS.SB": ("185.222.222.222", "45.11.45.11", "2a09::", "2a11::"),
}
_OWNERS = {ipaddress.ip_address(ip): owner for owner, ips in PUBLIC.items() for ip in ips}
_OWN = 'run unbound or another validating resolver on this host, and set dns.nameservers = ["127.0.0.1"]'


async def check(site: Site) -> list[Finding]:
    """What each name server does."""
    servers = site.config.dns.nameservers or tuple(system_nameservers())
    results = await asyncio.gather(*(_answers(site, server) for server in servers))
    found = []
    for server, (problem, seconds, secure) in zip(servers, results, strict=True):
        faults = []
        if owner := public_owner(server):
            text = f"is a public resolver ({owner}), which DNS lists of mail refuse to answer"
            faults.append(Finding("resolver", server, "warning", text, _OWN))
        if problem:
            others = any(not other for other, _, _ in results)
            text = f"gives no answer: {problem}"
            found += [Finding("resolver", server, "warning" if others else "error", text, _OWN), *faults]
            continue
        if seconds > SLOW:
            text = f"takes {seconds:.1f} s for an answer that it has in its cache"
            faults.append(Finding("resolver", server, "warning", text, _OWN))
        if not secure:
            text = "does not seem to validate DNSSEC, so that forged answers are believed, and DANE is not followed"
            faults.append(Finding("resolver", server, "warning", text, _OWN))
        text = f"validates, and answers in {seconds * 1000:.0f} ms"
        found += faults or [Finding("resolver", server, "ok", text, _hint(site, server))]
    return found


def _hint(site: Site, server: str) -> str:
    """What DANE towards others (RFC 7672) needs of a server that validates."""
    dns, delivery = site.config.dns, site.config.delivery
    if dns.trust_ad or delivery.dane == "off" or is_on_this_host(_address(server)):
        return ""
    return f"it is not on this host, so that DANE is not followed: {_OWN}; or dns.trust_ad, if the way to it is safe"


def public_owner(server: str) -> str:
    """Who runs a public resolver with this address (with or without a port); empty for any other."""
    return _OWNERS.get(ipaddress.ip_address(_address(server)), "")


def _address(server: str) -> str:
    """The address of a server with or without a port."""
    try:
        ipaddress.ip_address(server)
    except ValueError:
        return host_port(server)[0]
    return server


async def _answers(site: Site, server: str) -> tuple[str, float, bool]:
    """Why a name server has no answer; the seconds for one that it was asked for before; whether it validates."""
    resolver = CachingResolver([server], site.config.dns.timeout, cache_entries=0, trust_ad=True)
    names = dict.fromkeys((site.config.srs.domain, site.config.hostname, _SIGNED))
    try:
        answers = await asyncio.gather(*(resolver.query(name, "SOA") for name in names), return_exceptions=True)
        answered = [name for name, answer in zip(names, answers, strict=True) if not isinstance(answer, BaseException)]
        if not answered:
            return str(answers[0]), 0.0, False
        secure = any(not isinstance(answer, BaseException) and answer.secure for answer in answers)
        begin = time.monotonic()
        await resolver.query(answered[0], "SOA")
        return "", time.monotonic() - begin, secure
    except DnsFailure as failure:
        return str(failure), 0.0, False
    finally:
        await resolver.close()
