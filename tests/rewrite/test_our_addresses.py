"""The addresses under which next hops see us; `test_senders` shows what they decide."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config.model import Config
from relay.dns import DnsFailure, StaticResolver
from relay.rewrite.our_addresses import OurAddresses, public_addresses_of_name

ZONE: dict[tuple[str, str], Any] = {
    ("relay.test", "A"): ["10.0.0.5", "203.0.113.5"],
    ("relay.test", "AAAA"): ["2001:db8::5"],
}


async def addresses(zone: dict[tuple[str, str], Any] = ZONE, **delivery: Any) -> tuple[str, ...]:
    config = Config.model_validate(
        {
            "hostname": "relay.test",
            "listen": [{"address": "127.0.0.1:0"}],
            "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
            "delivery": delivery,
        }
    )
    usual = config.destinations.leaving
    leaving = next(iter(config.destinations), None)
    ours = OurAddresses(usual, StaticResolver(zone), clock=lambda: 0.0)
    return await ours.all(usual if leaving is None else leaving.leaving)


async def test_private_addresses_of_our_name_are_no_public_ones() -> None:
    assert await public_addresses_of_name(StaticResolver(ZONE), "relay.test", "ipv4") == ("203.0.113.5",)
    assert await public_addresses_of_name(StaticResolver({}), "relay.test", "ipv6") == ()


async def test_a_configured_public_address_is_the_only_one_of_its_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.sending_addresses.kernel_choice", lambda destination, source="": "203.0.113.9")
    ours = await addresses(families=["ipv6", "ipv4"], source_ipv6="2001:db8::9")
    assert ours == ("2001:db8::9", "203.0.113.9", "10.0.0.5", "203.0.113.5")


async def test_configured_addresses_of_each_family_need_no_dns() -> None:
    silent = {("relay.test", rdtype): DnsFailure("timeout") for rdtype in ("A", "AAAA")}
    ours = await addresses(silent, source_ipv4="203.0.113.9", source_ipv6="2001:db8::9")
    assert set(ours) == {"203.0.113.9", "2001:db8::9"}
    with pytest.raises(DnsFailure):
        await addresses(silent, source_ipv4="203.0.113.9")


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ({"source_ipv4": "203.0.113.9"}, {"203.0.113.9"}),
        ({"source_ipv4": "10.0.0.6", "helo": "bulk.test"}, {"203.0.113.6"}),
        ({"source_ipv4": "10.0.0.6"}, {"10.0.0.5", "203.0.113.5", "10.0.0.6"}),  # which one a NAT makes of it is open
        ({"helo": "bulk.test"}, {"203.0.113.6"}),
        ({"rate": 3}, {"10.0.0.5", "203.0.113.5"}),
    ],
)
async def test_a_destination_has_addresses_of_its_own(destination: dict[str, Any], expected: set[str]) -> None:
    zone = ZONE | {("bulk.test", "A"): ["203.0.113.6"]}
    entry = {"domains": ["d.test"], "families": ["ipv4"], **destination}
    assert set(await addresses(zone, source_ipv4="10.0.0.5", destinations=[entry])) == expected
