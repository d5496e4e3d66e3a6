"""The addresses that the world sees."""

from __future__ import annotations

from pathlib import Path

from relay.check.seen_addresses import SeenAddress, seen_addresses, smarthost
from tests.check.sites import HOST, IPV4, IPV6, OTHER, green, site


async def test_public_addresses_are_seen_as_they_are(tmp_path: Path) -> None:
    assert (await seen_addresses(site(tmp_path, {}))).known == (SeenAddress(IPV4, HOST), SeenAddress(IPV6, HOST))


async def test_behind_a_nat_those_in_dns_count(tmp_path: Path) -> None:
    seen = await seen_addresses(site(tmp_path, green() | {(HOST, "A"): [IPV4, OTHER]}, sends_from=["10.0.0.5", IPV6]))
    assert seen.known == (
        SeenAddress(IPV4, HOST, "10.0.0.5"),
        SeenAddress(OTHER, HOST, "10.0.0.5"),
        SeenAddress(IPV6, HOST),
    )
    assert "10.0.0.5" in str(seen.known[0]) and str(seen.known[2]) == IPV6
    assert not seen.unknown


async def test_a_private_address_that_dns_has_as_well(tmp_path: Path) -> None:
    seen = await seen_addresses(site(tmp_path, green() | {(HOST, "A"): ["10.0.0.5"]}, sends_from=["10.0.0.5"]))
    assert seen.known == (SeenAddress("10.0.0.5", HOST),)
    seen = await seen_addresses(site(tmp_path, green() | {(HOST, "A"): ["10.0.0.7"]}, sends_from=["10.0.0.5"]))
    assert seen.known == (SeenAddress("10.0.0.5", HOST),), "a NAT to the world has a public address"


async def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    assert "no A record" in (await seen_addresses(site(tmp_path, {}, sends_from=["10.0.0.5"]))).unknown
    assert "no route" in (await seen_addresses(site(tmp_path, {}, sends_from=[]))).unknown


def test_the_smarthost(tmp_path: Path) -> None:
    assert smarthost(site(tmp_path, {})) == ""
    here = site(tmp_path, {}, delivery={"smarthost": {"url": "smtp://smtp.provider.example:587"}})
    assert smarthost(here) == "smtp.provider.example"
