"""The hosts that take bounces for a domain, as DNS has them."""

from __future__ import annotations

from typing import Any

import pytest

from relay.check.bounce_hosts import BounceHost, NoBounceHost, bounce_hosts
from relay.dns import DnsFailure, StaticResolver

MX = ("fwd.test", "MX")


async def test_the_hosts_of_the_mx_records_by_preference_with_all_their_addresses() -> None:
    zone: dict[tuple[str, str], Any] = {
        MX: [(20, "b.test"), (10, "a.test"), (30, "a.test"), (40, "none.test")],
        ("a.test", "A"): ["10.0.0.1", "10.0.0.2"],
        ("a.test", "AAAA"): ["fd00::1"],
        ("b.test", "A"): ["127.0.0.1"],
    }
    assert await bounce_hosts("fwd.test", StaticResolver(zone)) == [
        BounceHost("a.test", ("fd00::1", "10.0.0.1", "10.0.0.2")),
        BounceHost("b.test", ("127.0.0.1",)),
        BounceHost("none.test", ()),
    ]


async def test_without_mx_records_the_domain_is_its_own_host() -> None:
    hosts = await bounce_hosts("fwd.test", StaticResolver({("fwd.test", "A"): ["10.0.0.1"]}))
    assert hosts == [BounceHost("fwd.test", ("10.0.0.1",))]


@pytest.mark.parametrize(
    ("zone", "why"),
    [
        ({}, "does not exist"),
        ({MX: [(0, "")]}, "null MX"),
        ({MX: [(10, "a.test")]}, "none of its MX hosts has an address"),
        ({("fwd.test", "TXT"): []}, "no MX record and no address"),
    ],
)
async def test_a_domain_without_hosts_says_why(zone: Any, why: str) -> None:
    with pytest.raises(NoBounceHost, match=why):
        await bounce_hosts("fwd.test", StaticResolver(zone))


async def test_what_dns_does_not_tell_is_not_taken_for_nothing() -> None:
    with pytest.raises(DnsFailure):
        await bounce_hosts("fwd.test", StaticResolver({MX: DnsFailure("timeout")}))
    zone: dict[tuple[str, str], Any] = {
        MX: [(10, "a.test"), (20, "b.test")],
        ("a.test", "A"): ["10.0.0.1"],
        ("a.test", "AAAA"): DnsFailure("late"),
    }
    hosts = await bounce_hosts("fwd.test", StaticResolver(zone | {("b.test", "A"): DnsFailure("never")}))
    assert hosts == [BounceHost("a.test", ("10.0.0.1",), "late"), BounceHost("b.test", (), "never")]
