"""The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): a proxy tells the address of its client.

`read_header` reads exactly the octets of the header, so that the TLS handshake that may follow stays in the socket.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import NamedTuple

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_LONGEST = 107  # octets with CRLF, section 2.1
_V2_FIXED = 16
_V2_LONGEST = 4096  # octets of addresses and TLVs that we read
TIMEOUT = 5.0  # seconds; a proxy sends the header at once


class BadProxyHeader(Exception):
    """The connection does not begin with a valid PROXY header and must be dropped (section 2)."""


class ProxiedClient(NamedTuple):
    """The client of the proxy."""

    ip: str
    port: int


async def read_header(sock: socket.socket) -> ProxiedClient | None:
    """Reads the header from a new connection. Returns None for UNKNOWN and LOCAL, where the proxy names no client.

    Raises:
        BadProxyHeader: there is no valid header within five seconds.
        OSError: the connection is lost.
    """
    loop = asyncio.get_running_loop()
    sock.setblocking(False)

    async def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await loop.sock_recv(sock, count - len(data))
            if not more:
                raise BadProxyHeader("connection closed within the header")
            data += more
        return data

    try:
        async with asyncio.timeout(TIMEOUT):
            start = await exactly(12)
            if start == SIGNATURE:
                return await _read_v2(start, exactly)
            return await _read_v1(start, exactly)
    except TimeoutError:
        raise BadProxyHeader("no header in time") from None


async def _read_v2(start: bytes, exactly: Callable[[int], Awaitable[bytes]]) -> ProxiedClient | None:
    fixed = start + await exactly(_V2_FIXED - len(start))
    length = struct.unpack("!H", fixed[14:16])[0]
    if length > _V2_LONGEST:
        raise BadProxyHeader("the header is too long")
    return parse_v2(fixed + await exactly(length))


async def _read_v1(start: bytes, exactly: Callable[[int], Awaitable[bytes]]) -> ProxiedClient | None:
    line = start
    if not line.startswith(b"PROXY "):
        raise BadProxyHeader("no PROXY header")
    while not line.endswith(b"\r\n"):
        if len(line) >= _V1_LONGEST:
            raise BadProxyHeader("the header is too long")
        line += await exactly(1)
    return parse_v1(line)


def parse_v1(line: bytes) -> ProxiedClient | None:
    """Parses a version 1 line with its CRLF (section 2.1).

    Raises:
        BadProxyHeader: the line is malformed.
    """
    words = line.removesuffix(b"\r\n").split(b" ")
    if len(words) >= 2 and words[1] == b"UNKNOWN":
        return None
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6") or not words[4].isdigit():
        raise BadProxyHeader("malformed version 1 header")
    try:
        address = ipaddress.ip_address(words[2].decode("ascii"))
    except ValueError:
        raise BadProxyHeader("malformed version 1 header") from None
    port = int(words[4])
    if address.version != (4 if words[1] == b"TCP4" else 6) or port > 65535:
        raise BadProxyHeader("malformed version 1 header")
    return ProxiedClient(str(address), port)


def parse_v2(header: bytes) -> ProxiedClient | None:
    """Parses a whole version 2 header (section 2.2), without its TLVs.

    Raises:
        BadProxyHeader: the header is malformed.
    """
    version_command, family = header[12], header[13]
    body = header[_V2_FIXED:]
    if version_command >> 4 != 2 or version_command & 15 > 1:
        raise BadProxyHeader("malformed version 2 header")
    if version_command & 15 == 0 or family >> 4 not in (1, 2) or family & 15 != 1:
        return None
    size = 4 if family >> 4 == 1 else 16
    if len(body) < 2 * size + 4:
        raise BadProxyHeader("malformed version 2 header")
    (port,) = struct.unpack("!H", body[2 * size : 2 * size + 2])
    return ProxiedClient(str(ipaddress.ip_address(body[:size])), port)
