"""Lists of hosts."""

from __future__ import annotations

import ipaddress

import pytest

from relay.importer.hosts import full_name, host_network, read_hosts, without_wide


def test_addresses_networks_and_names_are_told_apart() -> None:
    hosts = read_hosts(
        ["192.0.2.1", " 10.0.0.0/8", "[2001:db8::1]", "localhost", "mx.A.example", ".b.example", "a b", ""]
    )
    assert list(map(str, hosts.networks)) == [
        "192.0.2.1/32",
        "10.0.0.0/8",
        "2001:db8::1/128",
        "127.0.0.1/32",
        "::1/128",
    ]
    assert hosts.names == ["mx.a.example", ".b.example"]
    assert hosts.bad == ["a b"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MX.a.example.", "mx.a.example"),
        ("vm", ""),
        ("localhost", ""),
        ("vm.localdomain", ""),
        ("192.0.2.1", ""),
        ("a b", ""),
    ],
)
def test_names_that_other_hosts_can_look_up(text: str, name: str) -> None:
    assert full_name(text) == name


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
        ("[::ffff:192.0.2.1]", "192.0.2.1/32"),
        ("192.168.0.1/24", "192.168.0.0/24"),
        ("[2001:db8::]/32", "2001:db8::/32"),
        ("::ffff:0.0.0.0/90", "::ffc0:0:0/90"),
    ],
)
def test_networks(text: str, network: str) -> None:
    assert str(host_network(text)) == network


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["10.0.0.0/8", "0.0.0.0/0", "::1/128"], ["::1/128"]),
        (["10.0.0.0/8", "11.0.0.0/8", "192.0.2.0/24"], ["192.0.2.0/24"]),
        (["10.0.0.0/8", "2000::/3"], ["10.0.0.0/8"]),
        (["10.0.0.0/8"], ["10.0.0.0/8"]),
    ],
)
def test_what_is_too_wide_also_together_is_left_out(given: list[str], kept: list[str]) -> None:
    networks = [ipaddress.ip_network(text) for text in given]
    narrow, wide = without_wide(networks)
    assert list(map(str, narrow)) == kept
    assert sorted(map(str, [*narrow, *wide])) == sorted(given)
