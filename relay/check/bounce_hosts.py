"""The mail hosts of a domain of ours with all their addresses: where other hosts take bounces to.

`relay.deliver.mx` finds hosts to deliver to, and so leaves out this host and private addresses. Here they count.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from relay.dns import DnsFailure, Resolver


class NoBounceHost(Exception):
    """Nobody can deliver to the domain; the text says why."""


@dataclass(frozen=True, slots=True)
class BounceHost:
    """A mail host.

    Attributes:
        addresses: IPv6 and IPv4; none where the name has no address.
        problem: why DNS tells no address now; empty otherwise.
    """

    name: str
    addresses: tuple[str, ...]
    problem: str = ""


async def bounce_hosts(domain: str, resolver: Resolver) -> list[BounceHost]:
    """The hosts of the MX records, the most preferred first; the domain itself where there are none.

    Raises:
        NoBounceHost: there is no host at all, or mail is declined (RFC 7505).
        DnsFailure: DNS does not answer now.
    """
    answer = await resolver.query(domain, "MX")
    if not answer.exists:
        raise NoBounceHost(f"{domain} does not exist in DNS")
    names = list(dict.fromkeys(name for _, name in sorted(answer.records) if name))
    if answer.records and not names:
        raise NoBounceHost(f"{domain} declines all mail (null MX)")
    hosts = await asyncio.gather(*(_host(name, resolver) for name in names or [domain]))
    if not any(host.addresses or host.problem for host in hosts):
        missing = "none of its MX hosts has an address" if names else "it has no MX record and no address"
        raise NoBounceHost(f"no host takes mail for {domain}: {missing}")
    return list(hosts)


async def _host(name: str, resolver: Resolver) -> BounceHost:
    answers = await asyncio.gather(*(resolver.query(name, rdtype) for rdtype in ("AAAA", "A")), return_exceptions=True)
    addresses: list[str] = []
    problem = ""
    for answer in answers:
        if isinstance(answer, DnsFailure):
            problem = str(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            addresses += answer.records
    return BounceHost(name, tuple(addresses), problem)
