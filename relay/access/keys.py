"""The keys of access tables: how a line names clients and addresses, and which keys are tried for one, in which order.

The order is that of access(5), with `parent_domain_matches_subdomains` as Postfix has it by default: a domain stands
for itself and all below it. `.domain`, which Postfix has in the place of that, is only what is below; the longer name
goes first.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from relay.mail.address import (
    ADDRESS_LITERAL,
    domain_of,
    is_domain,
    is_local_part,
    lookup_key,
    normal_domain,
    parse,
    quote,
    split,
    split_detail,
)
from relay.network import IPNetwork, network
from relay.table_files.bad_lines import is_utf8, shown

NULL_SENDER = "<>"

_NUMERIC = re.compile(r"[0-9./-]+\Z")  # no name, also not as a range: no top-level domain is a number
_OCTETS = re.compile(r"(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){0,2}\Z")  # the first one to three of an address
_GROUPS = re.compile(r"[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){1,6}\Z", re.IGNORECASE)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def parse_key(text: str) -> str | IPNetwork:
    """The key of a line: a network, or the text that is looked up.

    One file may serve for clients, senders and recipients; each only meets the keys that are for it.

    Raises:
        ValueError: it is no key.
    """
    if text == NULL_SENDER:
        return text
    if not is_utf8(text):
        raise ValueError(f"{shown(text)}: not UTF-8")
    local, domain = split(text)
    if text.endswith("@") and is_local_part(text[:-1]):
        return lookup_key(text[:-1]) + "@"
    if domain and not local:
        raise ValueError(f"{text}: a whole domain is written {domain}")
    if domain:
        return lookup_key(str(parse(text)))
    if _NUMERIC.match(text) or (":" in text and "[" not in text):
        return _network(text)
    if is_domain(text.removeprefix(".")) or ADDRESS_LITERAL.match(text):
        return ("." if text.startswith(".") else "") + normal_domain(text.removeprefix("."))
    mend = f": all below a domain is written {text[1:]}" if text.startswith("*.") else ""
    raise ValueError(f"{text} is no address, network or domain{mend}")


def meant_domain(text: str) -> str:
    """The domain of which a text that is no key says something, as far as that can be told; otherwise empty."""
    domain = text.removeprefix("*.").rpartition("@")[2]
    if "." not in domain or _NUMERIC.match(domain) or not is_utf8(domain) or not is_domain(domain):
        return ""
    return normal_domain(domain)


def _network(text: str) -> IPNetwork:
    if _OCTETS.match(text):
        octets = text.count(".") + 1
        return network(f"{text}{'.0' * (4 - octets)}/{8 * octets}")
    if _GROUPS.match(text):
        return network(f"{text}::/{16 * (text.count(':') + 1)}")
    found = network(text)
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):  # such a client counts as one of IPv4
        return network(f"{ipaddress.IPv4Address(int(found.network_address) & 0xFFFFFFFF)}/{found.prefixlen - 96}")
    return found


def keys_of_address(address: str) -> Iterator[str]:
    """The keys for an address, or for the null sender (empty)."""
    if not address:
        yield NULL_SENDER
        return
    local, domain = split(address)
    user, detail = split_detail(local)
    yield lookup_key(address)
    if detail:
        yield lookup_key(f"{quote(user)}@{domain}")
    yield from keys_of_name(domain_of(address))
    yield lookup_key(local) + "@"
    if detail:
        yield lookup_key(quote(user)) + "@"


def keys_of_name(name: str) -> Iterator[str]:
    """The keys for a normal domain name: itself, then `.parent` and `parent` up to the top."""
    while name:
        yield name
        _, _, name = name.partition(".")
        if name:
            yield f".{name}"


def keys_of_ip(ip: str) -> Iterator[str]:
    """The keys for an address in tables that know no networks: itself, and what is left of it without its end."""
    separator = ":" if ":" in ip else "."
    while ip:
        yield ip
        ip = ip.rpartition(separator)[0]
