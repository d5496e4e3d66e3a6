"""The addresses of this host that mail leaves from.

In each address family that is the configured source address, or else the one that the kernel chooses. Behind a NAT the
kernel's choice is private, and what the world sees is not known here.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Family = Literal["ipv4", "ipv6"]
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

FAMILIES: tuple[Family, ...] = ("ipv4", "ipv6")
# Addresses that only the default route leads to (RFC 5737, RFC 3849). Nothing is sent there.
_ANYWHERE: dict[Family, str] = {"ipv4": "192.0.2.1", "ipv6": "2001:db8::1"}
_SMTP = 25

# Networks whose addresses nobody outside can reach or name. Unlike `ipaddress.is_private` this leaves out the networks
# of documentation (RFC 5737, RFC 3849), which stand for public addresses.
_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # RFC 1122 section 3.2.1.3
            "10.0.0.0/8",  # RFC 1918, as are 172.16.0.0/12 and 192.168.0.0/16
            "100.64.0.0/10",  # RFC 6598, shared by the customers of a provider
            "127.0.0.0/8",  # RFC 1122 section 3.2.1.3
            "169.254.0.0/16",  # RFC 3927
            "172.16.0.0/12",
            "192.168.0.0/16",
            "224.0.0.0/3",  # multicast (RFC 5771) and what is reserved above (RFC 1112 section 4)
            "::/127",  # unspecified and loopback (RFC 4291 section 2.5)
            "fc00::/7",  # RFC 4193
            "fe80::/10",  # RFC 4291 section 2.5.6
            "fec0::/10",  # RFC 3879
            "ff00::/8",  # RFC 4291 section 2.7
        ),
    )
)


@dataclass(frozen=True, slots=True)
class SendingAddress:
    """An address that mail leaves from.

    Attributes:
        configured: whether the configuration names it (`source_ipv4`, `source_ipv6`); otherwise the kernel chose it.
        helo: the name that EHLO says from it; empty for the host name.
        to_smarthost: whether a smarthost is all that ever sees it.
    """

    ip: str
    family: Family
    configured: bool = False
    helo: str = ""
    to_smarthost: bool = False

    @property
    def private(self) -> bool:
        """Whether it is replaced by a NAT on the way, so that next hops see another one."""
        return is_private(ipaddress.ip_address(self.ip))


def is_private(address: IPAddress) -> bool:
    """Whether only hosts of the same network can use an address: private, shared, link-local, loopback, multicast."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return is_private(address.ipv4_mapped)
    return any(address.version == network.version and address in network for network in _PRIVATE)


def kernel_choice(destination: str, source: str = "") -> str | None:
    """The address that the kernel sends from to a destination; None where no route leads there.

    Args:
        destination: an IP address.
        source: the address that the socket is bound to first, as a configured source is; None is returned where this
            host does not have it.
    """
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            if source:
                probe.bind((source, 0))
            probe.connect((destination, _SMTP))  # looks up the route and sends nothing
            own: str = probe.getsockname()[0]
    except OSError:
        return None
    return own.partition("%")[0]


def kernel_choice_to_anywhere(family: Family) -> str | None:
    """The address that the kernel sends from to the world; None for a family without a route."""
    return kernel_choice(_ANYWHERE[family])


def sending_addresses(
    families: Sequence[Family],
    source_ipv4: ipaddress.IPv4Address | None = None,
    source_ipv6: ipaddress.IPv6Address | None = None,
) -> tuple[SendingAddress, ...]:
    """The addresses that mail to anywhere leaves from, at most one for each family, in the order of the families.

    A family without a route to the world is left out, unless its source address is configured.
    """
    sources = {"ipv4": source_ipv4, "ipv6": source_ipv6}
    addresses = []
    for family in families:
        source = sources[family]
        if source is not None:
            addresses.append(SendingAddress(str(source), family, configured=True))
        elif (own := kernel_choice_to_anywhere(family)) is not None:
            addresses.append(SendingAddress(own, family))
    return tuple(addresses)
