"""The addresses that mail leaves from: what is private, and what the kernel chooses."""

from __future__ import annotations

import ipaddress
import subprocess
import sys

import pytest

from relay.sending_addresses import SendingAddress, is_private, kernel_choice, sending_addresses
from tests.peers import needs


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("10.1.2.3", True),
        ("100.64.0.1", True),
        ("100.128.0.1", False),
        ("127.0.0.1", True),
        ("169.254.1.1", True),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.168.0.5", True),
        ("224.0.0.1", True),
        ("255.255.255.255", True),
        ("0.0.0.0", True),
        ("203.0.113.5", False),
        ("8.8.8.8", False),
        ("::", True),
        ("::1", True),
        ("::ffff:10.0.0.1", True),
        ("::ffff:8.8.8.8", False),
        ("fd00::1", True),
        ("fe80::1", True),
        ("2001:db8::5", False),
        ("2a01:4f8::1", False),
    ],
)
def test_private_is_what_a_nat_hides(address: str, private: bool) -> None:
    assert is_private(ipaddress.ip_address(address)) is private
    assert SendingAddress(address, "ipv6" if ":" in address else "ipv4").private is private


def test_to_loopback_the_kernel_sends_from_loopback() -> None:
    assert kernel_choice("127.0.0.1") == "127.0.0.1"


def test_a_source_that_the_host_has_is_kept() -> None:
    assert kernel_choice("127.0.0.1", source="127.0.0.9") == "127.0.0.9"


def test_a_source_that_the_host_does_not_have_sends_nothing() -> None:
    assert kernel_choice("127.0.0.1", source="198.51.100.77") is None


def test_a_configured_source_takes_the_place_of_the_kernels_choice() -> None:
    found = sending_addresses(("ipv4",), source_ipv4=ipaddress.IPv4Address("198.51.100.9"))

    assert found == (SendingAddress("198.51.100.9", "ipv4", configured=True),)


_PRINT = """
from relay.sending_addresses import sending_addresses
print(*(f"{each.family}={each.ip}" for each in sending_addresses(("ipv6", "ipv4"))))
"""


@needs("ip", root=True)
@pytest.mark.parametrize(
    ("addresses", "printed"),
    [
        ((), ""),
        (("203.0.113.5/24",), "ipv4=203.0.113.5"),
        (("203.0.113.5/24", "2001:db8:5::5/64"), "ipv6=2001:db8:5::5 ipv4=203.0.113.5"),
        (("10.0.0.5/24",), "ipv4=10.0.0.5"),
    ],
)
def test_a_host_sends_from_the_families_that_have_a_route(addresses: tuple[str, ...], printed: str) -> None:
    routes = {"203.0.113.5/24": "203.0.113.1", "10.0.0.5/24": "10.0.0.1", "2001:db8:5::5/64": "2001:db8:5::1"}
    setup = "ip link add wan type veth peer name far && ip link set wan up && ip link set far up"
    for address in addresses:
        setup += f" && ip address add {address} dev wan nodad && ip route add default via {routes[address]} dev wan"
    found = subprocess.run(
        ["unshare", "--net", "sh", "-c", f'{setup} && exec "$0" -c "$1"', sys.executable, _PRINT],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert found.stdout.strip() == printed, found.stderr
