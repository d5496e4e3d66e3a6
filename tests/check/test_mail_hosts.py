"""The mail hosts of a domain."""

from __future__ import annotations

from pathlib import Path

from relay.check.here import find_places
from relay.check.mail_hosts import MailHost, MailHosts, mail_hosts
from tests.check.sites import HOST, IPV4, IPV6, OTHER, Zone, green, site


async def hosts_of(folder: Path, domain: str, zone: Zone) -> MailHosts:
    here = site(folder, green() | zone)
    return await mail_hosts(here.resolver, await find_places(here), domain)


async def test_hosts_are_in_the_order_in_which_they_are_tried(tmp_path: Path) -> None:
    zone: Zone = {
        ("x.example", "MX"): [(20, "b.test"), (10, HOST), (30, "")],
        ("b.test", "A"): [OTHER],
        ("b.test", "CNAME"): ["c.test"],
    }
    found = await hosts_of(tmp_path, "x.example", zone)
    assert found == MailHosts(
        (MailHost(10, HOST, (IPV4, IPV6), "here"), MailHost(20, "b.test", (OTHER,), "elsewhere", is_alias=True))
    )


async def test_domains_without_mx_records(tmp_path: Path) -> None:
    assert await hosts_of(tmp_path, "gone.example", {}) == MailHosts(exists=False)
    assert (await hosts_of(tmp_path, "x.example", {("x.example", "MX"): [(0, "")]})).null
    found = await hosts_of(tmp_path, "x.example", {("x.example", "A"): [OTHER]})
    assert found == MailHosts((MailHost(0, "x.example", (OTHER,), "elsewhere"),), implicit=True)
