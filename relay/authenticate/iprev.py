"""iprev: the name of the client's address, confirmed by the name's own address records (RFC 8601 section 2.7.3)."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import Literal

from relay.dns import DnsFailure, Resolver

PTR_NAMES = 10  # names of one address that are looked up: as many as RFC 7208 section 4.6.4 allows SPF
IPREV_SECONDS = 10.0  # for the whole check


@dataclass(frozen=True, slots=True)
class Iprev:
    """The result of the check.

    Attributes:
        result: `pass`: a name of the address has that address; `fail`: the address has names, but none of them has the
            address; `permerror`: the address has no name; `temperror`: DNS does not answer.
        name: the confirmed name; empty unless `pass`.
        problem: why the result is not `pass`.
        unconfirmed: on `temperror`, the names whose addresses DNS did not tell; empty where the names themselves are
            unknown.
    """

    result: Literal["pass", "fail", "temperror", "permerror"]
    name: str = ""
    problem: str = ""
    unconfirmed: tuple[str, ...] = ()


async def iprev(resolver: Resolver, ip: str) -> Iprev:
    """Looks for a name of the address that has the address. DNS failures are a result, not an exception."""
    try:
        async with asyncio.timeout(IPREV_SECONDS):
            return await _confirm(resolver, ip)
    except TimeoutError:
        return Iprev("temperror", problem=f"no result within {IPREV_SECONDS:g} s")


async def _confirm(resolver: Resolver, ip: str) -> Iprev:
    address = ipaddress.ip_address(ip)
    rdtype = "A" if address.version == 4 else "AAAA"
    try:
        names = (await resolver.query(address.reverse_pointer, "PTR")).records[:PTR_NAMES]
    except DnsFailure as failure:
        return Iprev("temperror", problem=str(failure))
    if not names:
        return Iprev("permerror", problem=f"{ip} has no name")
    unanswered: dict[str, str] = {}
    for name in names:
        try:
            forward = await resolver.query(name, rdtype)
        except DnsFailure as failure:
            unanswered[str(name)] = str(failure)
            continue
        if any(ipaddress.ip_address(record) == address for record in forward.records):
            return Iprev("pass", str(name))
    if unanswered:
        return Iprev("temperror", problem=next(iter(unanswered.values())), unconfirmed=tuple(unanswered))
    return Iprev("fail", problem=f"{names[0]} does not lead back to {ip}")
