"""Where a host leads."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.check import here
from relay.check.here import find_places, reached_from_outside
from relay.dns import DnsFailure
from tests.check.sites import HOST, IPV4, OTHER, Zone, green, site


async def test_hosts_by_what_they_are_to_us(tmp_path: Path) -> None:
    zone: Zone = green() | {
        ("box.internal.test", "A"): ["10.0.0.7"],
        ("down.internal.test", "A"): DnsFailure("SERVFAIL"),
    }
    routes = {
        "domains": {
            name: {"recipients": "any", "next_hop": f"smtp://{hop}:25"}
            for name, hop in (("a.example", "box.internal.test"), ("b.example", "down.internal.test"))
        }
    }
    known = site(
        tmp_path,
        zone,
        routes=routes,
        clients={"trusted": ["192.0.2.0/24"]},
        spf={"skip": ["2001:db8:5::/48"]},
        listen=[{"address": "203.0.113.6:25"}, {"address": "0.0.0.0:26"}],
        delivery={"smarthost": {"url": "smtp://10.9.9.9"}},
    )
    places = await find_places(known)
    for name, ips, place in (
        (HOST, [], "here"),
        ("x.test", [OTHER, IPV4], "here"),
        ("x.test", ["203.0.113.6"], "here"),
        ("x.test", ["127.0.0.9"], "elsewhere"),  # this machine has it, but so has every other
        ("x.test", ["0.0.0.0"], "elsewhere"),
        ("x.test", ["192.0.2.77"], "trusted"),
        ("x.test", ["10.0.0.7"], "next hop"),
        ("box.internal.test", [OTHER], "next hop"),
        ("down.internal.test", [OTHER], "next hop"),
        ("x.test", ["10.9.9.9"], "next hop"),
        ("x.test", ["2001:db8:5::1"], "backup"),
        ("x.test", [OTHER], "elsewhere"),
        ("x.test", [], "elsewhere"),
    ):
        assert places.place(name, ips) == place, (name, ips)


def test_addresses_of_this_machine_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever interface they are on; every machine has all of loopback, so that says nothing."""
    site_here = site(tmp_path, {}, listen=[{"address": "127.0.0.12:25"}])
    monkeypatch.setattr(here, "kernel_choice", lambda ip, source: ip if ip in ("198.51.100.9", "127.0.0.9") else None)
    owned = [ip for ip in (IPV4, OTHER, "198.51.100.8", "127.0.0.12", "127.0.0.9") if here.is_ours(site_here, ip)]
    assert owned == [IPV4, OTHER, "127.0.0.12"]


async def test_a_host_name_that_leads_elsewhere_makes_nothing_ours(tmp_path: Path) -> None:
    places = await find_places(site(tmp_path, {(HOST, "A"): [OTHER]}, sends_from=[IPV4]))
    assert places.place("x.test", [OTHER]) == "elsewhere"
    behind_a_nat = await find_places(site(tmp_path, {(HOST, "A"): [OTHER]}, sends_from=["10.0.0.5"]))
    assert behind_a_nat.place("x.test", [OTHER]) == "here"


def test_a_container_without_ipv6_may_be_reached_by_the_ipv6_address_of_its_host(tmp_path: Path) -> None:
    assert here.may_be_ours(site(tmp_path, {}, sends_from=["172.17.0.2"]), "2001:db8::77")
    assert not here.may_be_ours(site(tmp_path, {}, sends_from=["172.17.0.2"]), "fd00::77")
    assert not here.may_be_ours(site(tmp_path, {}, sends_from=[IPV4]), "2001:db8::77")


@pytest.mark.parametrize(
    ("addresses", "reached"),
    [
        (["127.0.0.1:10025"], False),
        (["127.0.0.1:10025", "[::1]:10025"], False),
        (["0.0.0.0:25"], True),
        (["[::]:25"], True),
        (["127.0.0.1:10025", "10.0.0.5:2525"], True),
    ],
)
def test_listeners_that_other_hosts_reach(tmp_path: Path, addresses: list[str], reached: bool) -> None:
    listen = [{"address": address} for address in addresses]
    assert reached_from_outside(site(tmp_path, green(), listen=listen)) is reached
