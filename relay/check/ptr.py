"""PTR: the names of the addresses that we send from, and whether they lead back (forward-confirmed reverse DNS)."""

from __future__ import annotations

import asyncio
import ipaddress
import re

from relay.check.address import helo_key
from relay.check.finding import Finding
from relay.check.look_ups import for_each
from relay.check.seen_addresses import SeenAddress, seen_addresses, smarthost
from relay.check.site import Site
from relay.sending_addresses import IPAddress


async def check(site: Site) -> list[Finding]:
    """What reverse DNS says of us, which many receivers refuse mail for."""
    if host := smarthost(site):
        text = f"does not count: mail leaves by the smarthost {host}"
        return [Finding("ptr", site.config.hostname, "ok", text)]
    seen = await seen_addresses(site)

    async def look(address: SeenAddress) -> list[Finding]:
        return [await _finding(site, address)]

    found = await for_each("ptr", seen.known, look)
    if seen.unknown:
        found.append(
            Finding("ptr", site.config.hostname, "warning", seen.unknown, "publish the addresses of the host name")
        )
    return found


async def _finding(site: Site, address: SeenAddress) -> Finding:
    ip, host = ipaddress.ip_address(address.ip), address.helo
    rdtype = "A" if ip.version == 4 else "AAAA"
    mend = f"the provider of the address has to set\n{ip.reverse_pointer}. 3600 IN PTR {host}."
    names = (await site.resolver.query(ip.reverse_pointer, "PTR")).records[:10]
    if not names:
        return Finding(
            "ptr", address.ip, "error", "no PTR record, and many hosts refuse mail from such an address", mend
        )
    forward = await asyncio.gather(*(site.resolver.query(name, rdtype) for name in names))
    confirmed = [
        name
        for name, answer in zip(names, forward, strict=True)
        if any(ipaddress.ip_address(record) == ip for record in answer.records)
    ]
    if not confirmed:
        text = f"the PTR record leads to {', '.join(names)}, which does not lead back to the address"
        if host in names:
            mend = f"publish\n{host}. 3600 IN {rdtype} {ip}"
        return Finding("ptr", address.ip, "error", text, mend)
    if host not in confirmed:
        text = f"the PTR record leads to {', '.join(confirmed)}, and not to the name in our EHLO, {host}"
        return Finding(
            "ptr",
            address.ip,
            "warning",
            text,
            f"{mend}\nor set {helo_key(site, host)} to the name that the address has",
        )
    if names_its_address(host, ip):
        text = f"leads to {host}, which looks like the name of a customer's line, because it has the address in it"
        mend = f"take a name such as mx.DOMAIN for {helo_key(site, host)}, the address record and the PTR record"
        return Finding("ptr", address.ip, "warning", text, mend)
    return Finding("ptr", address.ip, "ok", f"leads to {host} and back")


def names_its_address(name: str, ip: IPAddress) -> bool:
    """Whether a host name has its address in it, forwards or backwards, in decimals or in hex, as names of lines do."""
    if ip.version == 4:
        octets = str(ip).split(".")
        numbers = [str(int(number)) for number in re.findall(r"\d{1,3}", name)]
        runs = [numbers[start : start + 4] for start in range(len(numbers) - 3)]
        return octets in runs or octets[::-1] in runs or ip.packed.hex() in name
    digits = re.sub(r"[^0-9a-f]", "", name.split(".", 1)[0])
    nibbles = ip.packed.hex()
    return nibbles in digits or nibbles[16:] in digits or ip.reverse_pointer.removesuffix(".ip6.arpa") in name
