"""Decides which addresses of this host `init` publishes, and which ones mail may leave from.

Mail has to leave from an address that DNS names. So `init` looks at the addresses of both families that this host has,
compares them with the given ones, and keeps mail away from all others.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from relay.sending_addresses import FAMILIES, Family, is_private, kernel_choice_to_anywhere

_AGAIN = "run the same command again with --force and"  # --force replaces relay.toml
NAMES: dict[Family, str] = {"ipv4": "IPv4", "ipv6": "IPv6"}
# Flags of the kernel's IPv6 addresses (linux/if_addr.h): one that changes daily (RFC 8981), and one that is going.
_TEMPORARY, _DEPRECATED = 0x01, 0x20


class OwnAddress(NamedTuple):
    """A public IPv6 address of this host.

    Attributes:
        lasting: whether the host keeps it, so that DNS can name it.
    """

    ip: str
    lasting: bool


@dataclass(frozen=True, slots=True)
class Host:
    """The addresses of this host.

    Attributes:
        choice: the address that the kernel sends from to the world; None for a family without a route.
        has: whether the host has an address.
        ipv6: its public IPv6 addresses.
    """

    choice: Mapping[Family, str | None]
    has: Callable[[str], bool]
    ipv6: Sequence[OwnAddress] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of the addresses.

    Attributes:
        published: the addresses for DNS.
        families: those that mail may leave by; empty for both.
        sources: the address to send from, where the kernel may choose another one.
        unknown: the families that mail may leave by from an address that is not known.
        said: what was found and what it means, a line for each thing.
    """

    published: tuple[str, ...] = ()
    families: tuple[Family, ...] = ()
    sources: Mapping[Family, str] = field(default_factory=dict)
    unknown: tuple[Family, ...] = ()
    said: tuple[str, ...] = ()


def family_of(ip: str) -> Family:
    """The address family of an IP address."""
    return "ipv6" if ":" in ip else "ipv4"


def look() -> Host:
    """Looks at this host. Nothing is sent."""
    return Host({family: kernel_choice_to_anywhere(family) for family in FAMILIES}, _has, tuple(_public_ipv6()))


def plan(given: Sequence[str], host: Host) -> Plan:
    """Chooses the addresses to publish, and keeps mail from leaving by others.

    Args:
        given: the public addresses of the host, as its administrator knows them; if there are none, those that are
            found count.
    """
    if given:
        return _plan_given(tuple(dict.fromkeys(given)), host)
    published = tuple(ip for family in FAMILIES if (ip := _lasting_choice(family, host)))
    said = [_leaves_from(published)] if published else []
    ipv4 = host.choice["ipv4"]
    if ipv4 is not None and _private(ipv4):
        said.append(
            f"mail leaves from {ipv4}, which is private: a NAT replaces it, and the address that the world sees is not"
            f" known here; to name it, {_AGAIN} --address IP"
        )
        return Plan(published, (), _sources(published, host), ("ipv4",), tuple(said))
    if not published:
        said.append(
            f"this host has no route to the world, so its address is not known; to name it, {_AGAIN} --address IP"
        )
        return Plan(unknown=("ipv4",), said=tuple(said))
    families = _families(published)
    return Plan(published, families, _sources(published, host), said=(*said, *_without_family(families, host)))


def _plan_given(given: tuple[str, ...], host: Host) -> Plan:
    families, sources = _families(given), _sources(given, host)
    said = list[str]()
    for family in FAMILIES:
        named = [ip for ip in given if family_of(ip) == family]
        choice = host.choice[family]
        if not named:
            continue
        if family in sources:
            said.append(f"mail leaves from {sources[family]} (delivery.source_{family})")
        elif choice is None:
            said.append(f"this host has no route to the world by {NAMES[family]} that mail could take")
        elif choice in named:
            said.append(_leaves_from([choice]))
            if foreign := [ip for ip in named if ip != choice and not host.has(ip)]:
                said.append(f"this host does not have {' or '.join(foreign)}: mail to there does not come here")
        elif _private(choice):
            said.append(f"mail leaves from {choice}, and a NAT has to make {' or '.join(named)} of it")
        else:
            said.append(
                f"this host does not have {' or '.join(named)}: its mail leaves from {choice}, for which there is"
                f" neither SPF nor PTR; to send from it, {_AGAIN} --address {choice}"
            )
    return Plan(given, families, sources, said=(*said, *_without_family(families, host)))


def _families(published: Sequence[str]) -> tuple[Family, ...]:
    """The one family of the published addresses; empty where there are both."""
    families = {family_of(ip) for ip in published}
    return tuple(families) if len(families) == 1 else ()


def _without_family(families: Sequence[Family], host: Host) -> Iterator[str]:
    """Says that one family is not used, and which address the host has in it."""
    if not families:
        return
    other: Family = "ipv6" if families[0] == "ipv4" else "ipv4"
    line = f"mail leaves by {NAMES[families[0]]} alone (delivery.families)"
    unused = _lasting_choice(other, host) or host.choice[other]
    if unused is None:
        yield f"{line}, since no {NAMES[other]} address is known"
    elif _private(unused):
        yield f"{line}, since {unused} is private; to use both, {_AGAIN} --address for each public address"
    else:
        yield (
            f"{line}: mail from {unused} would have neither SPF nor PTR;"
            f" to use both, {_AGAIN} --address for each of the two"
        )
    if other == "ipv4":
        yield "hosts that have no IPv6 get no mail from here, unless there is a smarthost (delivery.smarthost)"


def _sources(published: Sequence[str], host: Host) -> dict[Family, str]:
    """The addresses to write as `delivery.source_ipv4` and `delivery.source_ipv6`.

    The kernel is left to choose where the host has none of the published addresses, because then a NAT replaces what it
    chooses, and where it can only choose one of them. Among several IPv6 addresses its choice depends on the
    destination (RFC 6724 section 5, rule 8).
    """
    sources = dict[Family, str]()
    for family in FAMILIES:
        named = [ip for ip in published if family_of(ip) == family]
        possible = {host.choice[family], *(own.ip for own in host.ipv6 if family == "ipv6")} - {None}
        owned = [ip for ip in named if ip in possible or host.has(ip)]
        if owned and not possible <= set(named):
            sources[family] = owned[0]
    return sources


def _lasting_choice(family: Family, host: Host) -> str | None:
    """The public address to publish for a family: the kernel's choice, or one beside it that lasts."""
    choice = host.choice[family]
    if choice is None or _private(choice):
        return None
    passing = {own.ip for own in host.ipv6 if not own.lasting}
    lasting = [own.ip for own in host.ipv6 if own.lasting]
    return lasting[0] if choice in passing and lasting else choice


def _leaves_from(published: Sequence[str]) -> str:
    return f"mail leaves from {' and '.join(published)}"


def _private(ip: str) -> bool:
    return is_private(ipaddress.ip_address(ip))


def _has(ip: str) -> bool:
    """Whether this host has an address."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((ip, 0))
    except OSError:
        return False
    return True


def _public_ipv6(table: Path = Path("/proc/net/if_inet6")) -> Iterator[OwnAddress]:
    """The public IPv6 addresses in the kernel's table: address, interface, prefix length, scope, flags, name."""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        digits, _, _, _, flags, *_ = line.split()
        address = ipaddress.IPv6Address(int(digits, 16))
        if not is_private(address) and not int(flags, 16) & _DEPRECATED:
            yield OwnAddress(str(address), lasting=not int(flags, 16) & _TEMPORARY)
