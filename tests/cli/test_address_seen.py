"""Under which addresses a next hop sees us: by its hosts, the configuration, the kernel, and DNS behind a NAT."""

from __future__ import annotations

from typing import Any

import pytest

from relay.cli.address_seen import AddressSeen, addresses_seen
from relay.config.model import Config
from relay.deliver.mx import Host
from relay.deliver.next_hop import NextHops
from relay.dns import DnsFailure, StaticResolver

FOUR, SIX = Host("mx.d.test", "8.8.8.8", 25, "d.test"), Host("mx.d.test", "2a01:4f8::8", 25, "d.test")
LAN = Host("10.0.0.7", "10.0.0.7", 24)
ZONE: dict[tuple[str, str], Any] = {
    ("d.test", "MX"): [(10, "mx.d.test")],
    ("mx.d.test", "A"): [FOUR.address],
    ("mx.d.test", "AAAA"): [SIX.address],
    ("relay.test", "A"): ["203.0.113.5", "10.0.0.5"],
    ("silent.test", "MX"): DnsFailure("timeout"),
}
ANYWHERE = {"192.0.2.1": "203.0.113.9", "2001:db8::1": "2001:db8::9"}


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the kernel sends from to an address; without an entry no route leads there."""
    sources: dict[str, str] = {}
    for module in ("relay.sending_addresses", "relay.cli.address_seen"):
        monkeypatch.setattr(f"{module}.kernel_choice", lambda destination, source="": sources.get(destination))
    return sources


async def seen(
    recipient: str = "a@d.test", zone: dict[tuple[str, str], Any] = ZONE, **delivery: Any
) -> tuple[tuple[AddressSeen, ...], str]:
    config = Config.model_validate(
        {
            "hostname": "relay.test",
            "listen": [{"address": "127.0.0.1:0"}],
            "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
            "routes": {"domains": {"lan.test": {"next_hop": "lmtp://10.0.0.7:24", "recipients": "any"}}},
            "delivery": delivery,
        }
    )
    seen = await addresses_seen(config, StaticResolver(zone), NextHops(config).of(recipient))
    return seen.addresses, seen.problem


async def test_the_kernel_is_asked_for_each_host_in_the_order_of_delivery(kernel: dict[str, str]) -> None:
    kernel |= {FOUR.address: "203.0.113.9", SIX.address: "2001:db8::9"}
    assert await seen() == (
        (AddressSeen("2001:db8::9", "kernel", hosts=(SIX,)), AddressSeen("203.0.113.9", "kernel", hosts=(FOUR,))),
        "",
    )
    assert (await seen(families=["ipv4"]))[0] == (AddressSeen("203.0.113.9", "kernel", hosts=(FOUR,)),)


async def test_hosts_that_see_the_same_address_share_it(kernel: dict[str, str]) -> None:
    kernel |= {FOUR.address: "203.0.113.9", "8.8.4.4": "203.0.113.9"}
    zone = {**ZONE, ("mx.d.test", "A"): [FOUR.address, "8.8.4.4"]}
    ((address,), _) = await seen(zone=zone)
    assert {host.address for host in address.hosts} == {FOUR.address, "8.8.4.4"}


async def test_a_configured_source_takes_the_place_of_the_kernels_choice(kernel: dict[str, str]) -> None:
    kernel |= {FOUR.address: "203.0.113.9", SIX.address: "2001:db8::9"}
    addresses, _ = await seen(source_ipv4="203.0.113.77")
    assert [(address.ip, address.origin) for address in addresses] == [
        ("2001:db8::9", "kernel"),
        ("203.0.113.77", "configured"),
    ]


async def test_behind_a_nat_it_is_the_public_address_of_our_name(kernel: dict[str, str]) -> None:
    kernel[FOUR.address] = "10.0.0.5"
    assert (await seen())[0] == (AddressSeen("203.0.113.5", "dns", behind="10.0.0.5", hosts=(FOUR,)),)
    assert (await seen(source_ipv4="10.0.0.5"))[0] == (
        AddressSeen("203.0.113.5", "dns", behind="10.0.0.5", hosts=(FOUR,)),
    )


async def test_a_private_address_that_dns_has_no_public_one_for_is_hidden(kernel: dict[str, str]) -> None:
    kernel |= {SIX.address: "fd00::5", FOUR.address: "203.0.113.9"}
    addresses, _ = await seen()
    assert [(address.ip, address.origin, address.is_hidden) for address in addresses] == [
        ("fd00::5", "kernel", True),
        ("203.0.113.9", "kernel", False),
    ]


async def test_a_host_in_our_network_may_see_the_private_address(kernel: dict[str, str]) -> None:
    kernel[LAN.address] = "10.0.0.5"
    ((address,), _) = await seen("a@lan.test")
    assert address.ip == "203.0.113.5" and address.private_hosts == (LAN,)
    ((alone,), _) = await seen("a@lan.test", zone={})
    assert alone == AddressSeen("10.0.0.5", "kernel", hosts=(LAN,)) and not alone.is_hidden


@pytest.mark.parametrize(
    ("recipient", "said"),
    [("a@gone.test", "gone.test does not exist"), ("a@silent.test", "timeout"), ("a@d.test", "no route")],
)
async def test_without_a_host_to_ask_about_it_is_the_address_to_anywhere(
    kernel: dict[str, str], recipient: str, said: str
) -> None:
    kernel |= ANYWHERE
    addresses, problem = await seen(recipient)
    assert said in problem
    assert addresses == (AddressSeen("2001:db8::9", "kernel"), AddressSeen("203.0.113.9", "kernel"))


async def test_without_any_route_it_is_what_dns_has() -> None:
    addresses, problem = await seen()
    assert addresses == (AddressSeen("203.0.113.5", "dns"),) and "no route" in problem


async def test_an_unanswered_question_for_our_name_leaves_the_private_address(kernel: dict[str, str]) -> None:
    silent = {**ZONE, ("relay.test", "A"): DnsFailure("timeout")}
    kernel[FOUR.address] = "10.0.0.5"
    assert (await seen(zone=silent))[0] == (AddressSeen("10.0.0.5", "kernel", hosts=(FOUR,), problem="timeout"),)
    kernel.clear()
    with pytest.raises(DnsFailure):
        await seen(zone=silent)


async def test_a_destination_has_a_source_and_a_name_of_its_own(kernel: dict[str, str]) -> None:
    kernel |= {FOUR.address: "203.0.113.9", SIX.address: "2001:db8::9"}
    bulk = {"domains": ["mx:mx.d.test"], "source_ipv4": "203.0.113.77", "families": ["ipv4"]}
    assert (await seen(destinations=[bulk]))[0] == (AddressSeen("203.0.113.77", "configured", hosts=(FOUR,)),)
    behind_nat = {"domains": ["d.test"], "source_ipv4": "10.0.0.6", "families": ["ipv4"], "helo": "bulk.test"}
    zone = {**ZONE, ("bulk.test", "A"): ["203.0.113.6"]}
    assert (await seen(zone=zone, destinations=[behind_nat]))[0] == (
        AddressSeen("203.0.113.6", "dns", behind="10.0.0.6", hosts=(FOUR,)),
    )


async def test_a_unix_socket_sees_no_address() -> None:
    addresses, problem = await seen(destinations=[{"domains": ["d.test"], "next_hop": "lmtp:///run/lmtp"}])
    assert addresses == () and "Unix socket" in problem
