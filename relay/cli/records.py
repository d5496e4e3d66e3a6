"""The DNS records of a relay as lines of a zone file, which `init` prints and the administrator publishes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from relay.sign.keys import SigningKey, zone_line


def records(hostname: str, domain: str, addresses: Sequence[str], key: SigningKey) -> Iterator[str]:
    """MX, addresses, SPF, DKIM and DMARC in the syntax of RFC 1035 section 5.1, with comments that say why.

    Args:
        hostname: the name in EHLO.
        domain: the domain whose mail comes in, and of rewritten senders.
        addresses: the public addresses of the host; empty where they are not known.
        key: the key that signs for the domain.
    """
    yield f"; Mail for {domain}, and the bounces of what it forwards, come to this host."
    yield f"{domain}. 3600 IN MX 10 {hostname}."
    if addresses:
        yield "; The PTR record of each address must lead back to the name; whoever gave you the address sets it."
    else:
        yield "; The public address of this host is not known: with --address this line is complete, and has its PTR."
        yield f";{hostname}. 3600 IN A 192.0.2.1"
    for ip in map(ipaddress.ip_address, addresses):
        yield f"{hostname}. 3600 IN {'A' if ip.version == 4 else 'AAAA'} {ip}"
        yield f";{ip.reverse_pointer}. 3600 IN PTR {hostname}."
    yield "; SPF (RFC 7208): rewritten senders are of the domain; bounces have only the name of the host."
    yield "; A name has one such record: where there is one, put mx into it. Whoever else sends must be in it, too."
    if hostname == domain:
        yield zone_line(domain, "v=spf1 a mx -all")
    else:
        yield zone_line(domain, "v=spf1 mx -all")
        yield zone_line(hostname, "v=spf1 a -all")
    yield "; The public half of the DKIM key (RFC 6376)."
    yield zone_line(key.record_name, key.public_record())
    yield "; DMARC (RFC 9989): nobody else may use the domain in From. Where others send for it, begin with p=none."
    yield zone_line(f"_dmarc.{domain}", "v=DMARC1; p=reject")
