"""Where a host leads."""

from __future__ import annotations

from pathlib import Path

from relay.check.here import find_places
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
    here = site(
        tmp_path,
        zone,
        routes=routes,
        clients={"trusted": ["192.0.2.0/24"]},
        spf={"skip": ["2001:db8:5::/48"]},
        listen=[{"address": "203.0.113.6:25"}, {"address": "0.0.0.0:26"}],
        delivery={"smarthost": {"url": "smtp://10.9.9.9"}},
    )
    places = await find_places(here)
    for name, ips, place in (
        (HOST, [], "here"),
        ("x.test", [OTHER, IPV4], "here"),
        ("x.test", ["203.0.113.6"], "here"),
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
