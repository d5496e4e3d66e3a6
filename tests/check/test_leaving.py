"""How mail leaves by the configuration, and what the checks make of the addresses and names of destinations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.check import address, dnsbl, ptr, spf
from relay.check.leaving import leaves_directly, leaving_addresses, smarthosts
from relay.check.seen_addresses import seen_addresses, smarthost
from relay.check.site import Site
from tests.check.sites import HOST, IPV4, levels, site, txt

OTHER = "203.0.113.77"
SMARTHOST = {"smarthost": {"url": "smtp://smtp.provider.example:587"}}
BACKUP = {"smarthosts": {"backup": {"url": "smtp://backup.example"}}}


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.sending_addresses.kernel_choice", lambda destination, source="": IPV4)


def here(folder: Path, zone: dict[tuple[str, str], Any], *destinations: dict[str, Any], **delivery: Any) -> Site:
    entries = [{"domains": [f"d{number}.example"], **entry} for number, entry in enumerate(destinations)]
    found = site(folder, zone, delivery={"families": ["ipv4"], "destinations": entries, **delivery})
    return replace(found, addresses=leaving_addresses(found.config))


def ways(site: Site) -> list[tuple[str, str, bool]]:
    return [(each.ip, each.helo, each.to_smarthost) for each in site.addresses]


def test_each_address_and_name_once(tmp_path: Path) -> None:
    bulk = {"source_ipv4": OTHER, "helo": "bulk.example"}
    found = here(tmp_path, {}, bulk, bulk, {"rate": 3}, {"source_ipv4": OTHER}, {"helo": "bulk.example"})
    assert ways(found) == [
        (IPV4, HOST, False),
        (OTHER, "bulk.example", False),
        (OTHER, HOST, False),
        (IPV4, "bulk.example", False),
    ]


def test_what_only_a_smarthost_sees(tmp_path: Path) -> None:
    found = here(tmp_path, {}, {"source_ipv4": OTHER, "smarthost": "backup"}, **BACKUP)
    assert ways(found) == [(IPV4, HOST, False), (OTHER, HOST, True)]
    assert smarthosts(found.config) == ("backup.example",) and smarthost(found) == ""
    found = here(tmp_path, {}, {"source_ipv4": OTHER}, {"next_hop": "smtp://10.0.0.7"}, **SMARTHOST)
    assert ways(found) == [(IPV4, HOST, True), (OTHER, HOST, True)]
    assert smarthost(found) == "smtp.provider.example" and not leaves_directly(found.config)
    found = here(tmp_path, {}, {"source_ipv4": OTHER, "next_hop": "smtp://partner.example"}, **SMARTHOST)
    assert ways(found) == [(IPV4, HOST, True), (OTHER, HOST, False)]
    assert smarthost(found) == "" and leaves_directly(found.config)


async def test_spf_has_to_cover_every_address(tmp_path: Path) -> None:
    zone = {("fwd.example", "TXT"): txt(f"v=spf1 ip4:{IPV4} -all"), (HOST, "TXT"): txt(f"v=spf1 ip4:{IPV4} -all")}
    found = here(tmp_path, zone, {"source_ipv4": OTHER, "helo": "bulk.example"})
    findings = {finding.subject: finding for finding in await spf.check(found)}
    assert {name: each.level for name, each in findings.items()} == {
        "fwd.example": "error",
        HOST: "ok",
        "bulk.example": "warning",
    }
    assert OTHER in findings["fwd.example"].text and f"ip4:{OTHER}" in findings["fwd.example"].mend
    assert IPV4 not in findings["bulk.example"].mend, "that name is never said from the other address"


async def test_the_name_of_a_destination_leads_to_its_address_and_back(tmp_path: Path) -> None:
    reverse, rdns = "77.113.0.203.in-addr.arpa", {(HOST, "A"): [IPV4], ("bulk.example", "A"): [OTHER]}
    entry = {"source_ipv4": OTHER, "helo": "bulk.example"}
    good = here(tmp_path, {**rdns, (reverse, "PTR"): ["bulk.example"]}, entry)
    assert (OTHER, "ok") in [(each.subject, each.level) for each in await ptr.check(good)]
    assert ("bulk.example", "ok") in [(each.subject, each.level) for each in await address.check(good)]
    other = here(tmp_path, {(HOST, "A"): [IPV4, OTHER], (reverse, "PTR"): [HOST]}, entry)
    [finding] = [each for each in await ptr.check(other) if each.subject == OTHER]
    assert finding.level == "warning" and "the name in our EHLO, bulk.example" in finding.text
    assert "delivery.destinations.helo" in finding.mend
    [finding] = [each for each in await address.check(other) if each.subject == "bulk.example"]
    assert finding.level == "warning" and f"bulk.example. 3600 IN A {OTHER}" in finding.mend


async def test_the_address_of_doubtful_mail_needs_all_that_others_need(tmp_path: Path) -> None:
    doubtful = {"source_ipv4": OTHER, "helo": "apart.example"}
    zone = {("fwd.example", "TXT"): txt(f"v=spf1 ip4:{IPV4} -all"), (HOST, "A"): [IPV4]}
    found = here(tmp_path, zone, doubtful=doubtful, families=["ipv6", "ipv4"])
    assert [way for way in ways(found) if way[1] == "apart.example"] == [(OTHER, "apart.example", False)]
    [finding] = [each for each in await spf.check(found) if each.subject == "fwd.example"]
    assert finding.level == "error" and OTHER in finding.text and f"ip4:{OTHER}" in finding.mend
    [finding] = [each for each in await address.check(found) if each.subject == "apart.example"]
    assert finding.level == "warning" and f"apart.example. 3600 IN A {OTHER}" in finding.mend
    assert "delivery.doubtful.helo" in finding.mend and "AAAA" not in finding.mend
    assert OTHER in [each.subject for each in await ptr.check(found)]
    assert OTHER in [each.subject for each in await dnsbl.check(found)]


async def test_every_address_is_looked_for_in_dns_lists(tmp_path: Path) -> None:
    found = here(tmp_path, {}, {"source_ipv4": OTHER}, {"helo": "bulk.example"})
    assert [each.subject for each in await dnsbl.check(found)] == ["fwd.example", IPV4, OTHER]
    assert (await seen_addresses(found)).ips == (IPV4, OTHER)
    assert levels(await dnsbl.check(found))
