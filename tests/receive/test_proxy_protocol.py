from __future__ import annotations

import ipaddress
import struct

import pytest

from relay.receive.proxy_protocol import SIGNATURE, BadProxyHeader, ProxiedClient, parse_v1, parse_v2


def v2(version_command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes([version_command, family]) + struct.pack("!H", len(body)) + body


V4 = (
    ipaddress.ip_address("192.0.2.7").packed
    + ipaddress.ip_address("198.51.100.1").packed
    + struct.pack("!HH", 1234, 25)
)
V6 = ipaddress.ip_address("2001:db8::7").packed * 2 + struct.pack("!HH", 1234, 25)


@pytest.mark.parametrize(
    ("line", "client"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 25\r\n", ProxiedClient("192.0.2.7", 1234)),
        (b"PROXY TCP6 2001:DB8::7 2001:db8::1 1234 25\r\n", ProxiedClient("2001:db8::7", 1234)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    ],
)
def test_version_1(line: bytes, client: ProxiedClient | None) -> None:
    assert parse_v1(line) == client


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1234\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1234 25\r\n",
        b"PROXY TCP4 192.0.2.700 198.51.100.1 1234 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 99999 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +25 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1_2 25\r\n",
        b"PROXY TCP4 192.0.2.7\xff 198.51.100.1 1234 25\r\n",
        b"PROXY\r\n",
    ],
)
def test_bad_version_1(line: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        parse_v1(line)


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (v2(0x21, 0x11, V4), ProxiedClient("192.0.2.7", 1234)),
        (v2(0x21, 0x11, V4 + b"\x04\x00\x01x"), ProxiedClient("192.0.2.7", 1234)),
        (v2(0x21, 0x21, V6), ProxiedClient("2001:db8::7", 1234)),
        (v2(0x20, 0x11, V4), None),
        (v2(0x21, 0x00, b""), None),
        (v2(0x21, 0x31, b"x" * 216), None),
    ],
)
def test_version_2(header: bytes, client: ProxiedClient | None) -> None:
    assert parse_v2(header) == client


@pytest.mark.parametrize("header", [v2(0x11, 0x11, V4), v2(0x22, 0x11, V4), v2(0x21, 0x11, V4[:7])])
def test_bad_version_2(header: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        parse_v2(header)
