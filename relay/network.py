"""Network addresses: next hops, listening addresses, and the networks that count as one client."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, ConfigDict

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

UNIX_PATH_OCTETS = 107  # sun_path of unix(7) without its NUL

_AS_URL = "lmtp:///path/of/the/socket"
_SHORTEST_PREFIX = {4: 8, 6: 16}  # no organization has a larger network
# Prefix lengths that registries and hosters give to one customer, and the limit of each, in limits of one client.
_WIDER = ((56, 4), (48, 16), (32, 64))


class Endpoint(BaseModel):
    """A next hop with its protocol, written as a URL. An IPv6 address stands in brackets.

    Attributes:
        host, port: empty and 0 for a Unix socket.
        path: of a Unix socket, which speaks LMTP; empty for a host.
    """

    model_config = ConfigDict(frozen=True)

    scheme: Literal["smtp", "smtps", "lmtp"]
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"{self.scheme}://{quote(self.path)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def endpoint(value: object) -> Endpoint:
    """Reads an `Endpoint` from its URL. The port defaults to 25, 465 or 24.

    Raises:
        ValueError: the URL has another scheme, no host, credentials, or a path that is not that of a Unix socket.
    """
    if isinstance(value, Endpoint):
        return value
    default = {"smtp": 25, "smtps": 465, "lmtp": 24}
    text = str(value)
    if text.startswith("lmtp:///"):
        return Endpoint(scheme="lmtp", host="", port=0, path=_socket_path(text.removeprefix("lmtp://")))
    if text.startswith(("unix:", "lmtp:unix:", "lmtp:/")) and not text.startswith("lmtp://"):
        raise ValueError(f"a Unix socket is written {_AS_URL}")
    parts = urlsplit(text)
    path = parts.path.strip("/")
    if parts.scheme == "lmtp" and path and "@" not in parts.netloc:
        raise ValueError(f"a Unix socket is written {_AS_URL}, with three slashes; a host has no path")
    if parts.scheme not in default or not parts.hostname or path or parts.query or "@" in parts.netloc:
        raise ValueError(f"a next hop is written smtp://host:port, smtps://host:port, lmtp://host:port or {_AS_URL}")
    return Endpoint(
        scheme=parts.scheme,
        host=unquote(parts.hostname),
        port=parts.port or default[parts.scheme],
    )


def _socket_path(text: str) -> str:
    """The path of a Unix socket in a URL, where `%20` is a space (RFC 3986 section 2.1).

    Raises:
        ValueError: it is no path that the kernel takes.
    """
    if "?" in text or "#" in text:
        raise ValueError("a Unix socket is a path alone: ? is written %3F, and # is written %23")
    try:
        path = unquote(text, errors="strict")
    except UnicodeDecodeError:
        path = "\0"
    if not path.isprintable():
        raise ValueError("the path of the Unix socket has octets that are no UTF-8, or control characters")
    if path.endswith("/"):
        raise ValueError(f"the path of the Unix socket is missing: it is written {_AS_URL}")
    if len(os.fsencode(path)) > UNIX_PATH_OCTETS:
        raise ValueError(f"{path}: the path of a Unix socket has at most {UNIX_PATH_OCTETS} octets")
    return path


def too_wide(networks: Iterable[IPNetwork]) -> IPNetwork | None:
    """A network that is so large that trusting it makes an open relay; None if there is none.

    Adjacent networks count as one.
    """
    given = list(networks)
    collapsed: list[IPNetwork] = [
        *ipaddress.collapse_addresses(n for n in given if isinstance(n, ipaddress.IPv4Network)),
        *ipaddress.collapse_addresses(n for n in given if isinstance(n, ipaddress.IPv6Network)),
    ]
    return next((n for n in collapsed if n.prefixlen < _SHORTEST_PREFIX[n.version]), None)


def host_port(value: str) -> tuple[str, int]:
    """Host and port of `"0.0.0.0:25"`, `"[::]:25"`, `"127.0.0.1:5353"`.

    Raises:
        ValueError: the port is missing or outside 0…65535, or the host is no IP address.
    """
    host, _, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f'{value!r} is not an address with a port (like "0.0.0.0:25" or "[::]:25")') from None
    if not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{value!r} has no valid port")
    return host, int(port)


def network(value: object) -> IPNetwork:
    """A network from `"192.0.2.0/24"` or a single address.

    Raises:
        ValueError: the text is neither.
    """
    try:
        return ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is not an address or network (like 192.0.2.1 or 2001:db8::/32)") from None


def plain_ip(ip: str) -> str:
    """The address without its zone; an IPv4-mapped IPv6 address becomes the IPv4 address."""
    if ":" not in ip:
        return ip
    address = ipaddress.IPv6Address(ip.partition("%")[0])
    return str(address.ipv4_mapped or address)


def literal_ip(domain: str) -> str:
    """The address in an address literal (RFC 5321 section 4.1.3), as `plain_ip` returns it; empty for other domains."""
    if domain[:1] + domain[-1:] != "[]":
        return ""
    inner = domain[1:-1]
    version, tag = (6, "ipv6:") if inner.lower().startswith("ipv6:") else (4, "")
    try:
        address = ipaddress.ip_address(inner[len(tag) :])
    except ValueError:
        return ""
    return plain_ip(str(address)) if address.version == version else ""


@lru_cache(maxsize=4096)
def client_network(ip: str) -> str:
    """The network that counts as one client: an IPv4 address itself, or the /64 of an IPv6 address.

    A host may choose any address in its /64. A network that this function returned stays the same.
    """
    return ip if ":" not in ip else str(ipaddress.ip_network((ip.partition("/")[0], 64), strict=False))


@lru_cache(maxsize=4096)
def wider_networks(client: str) -> tuple[tuple[str, int], ...]:
    """The networks around an IPv6 client with the limit of each, in limits of one client; none for IPv4.

    The owner of a /48 can appear as 65,536 clients, so networks have limits as well: a /56 that of four clients, a /48
    that of sixteen, a /32 that of sixty-four.

    Args:
        client: an address, or a network that `client_network` returned.
    """
    if ":" not in client:
        return ()
    address = client.partition("/")[0]
    return tuple((str(ipaddress.ip_network((address, length), strict=False)), times) for length, times in _WIDER)


def within(ip: str, networks: Collection[IPNetwork]) -> bool:
    """Whether an address lies in one of the networks."""
    if not networks:
        return False
    address = _address(ip)
    return any(address.version == network.version and address in network for network in networks)


@lru_cache(maxsize=1024)
def _address(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(ip)
