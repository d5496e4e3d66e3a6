"""The default gateways of this host, as the kernel lists its routes."""

from __future__ import annotations

import ipaddress
import socket
import struct
from pathlib import Path

IPV4_ROUTES, IPV6_ROUTES = Path("/proc/net/route"), Path("/proc/net/ipv6_route")
_RTF_UP, _RTF_GATEWAY = 0x1, 0x2  # linux/route.h


def default_gateways() -> list[str]:
    """The addresses of the gateways of all default routes, each once; none where the kernel lists no routes."""
    found = [*_ipv4(_lines(IPV4_ROUTES)), *_ipv6(_lines(IPV6_ROUTES))]
    return list(dict.fromkeys(found))


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return []


def _ipv4(lines: list[list[str]]) -> list[str]:
    """Columns: interface, destination, gateway, flags, …, the eighth the mask; addresses as the host orders octets."""
    gateways = []
    for line in lines[1:]:
        if len(line) < 8 or line[1] != "00000000" or line[7] != "00000000":
            continue
        if _is_gateway(int(line[3], 16)):
            gateways.append(socket.inet_ntoa(struct.pack("=L", int(line[2], 16))))
    return gateways


def _ipv6(lines: list[list[str]]) -> list[str]:
    """Columns: destination, its prefix length, source, its prefix length, next hop, metric, …, the ninth the flags."""
    gateways = []
    for line in lines:
        if len(line) < 10 or int(line[0], 16) or line[1] != "00":
            continue
        if _is_gateway(int(line[8], 16)):
            gateways.append(str(ipaddress.IPv6Address(int(line[4], 16))))
    return gateways


def _is_gateway(flags: int) -> bool:
    return flags & (_RTF_UP | _RTF_GATEWAY) == _RTF_UP | _RTF_GATEWAY
