"""Where the MX records of our domains lead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.check import mx
from relay.check.run import run
from relay.dns import DnsFailure
from tests.check.sites import HOST, IPV4, OTHER, Zone, green, levels, only, site

THERE: Zone = {("mail.elsewhere.test", "A"): [OTHER]}


async def test_all_is_well(tmp_path: Path) -> None:
    findings = await mx.check(site(tmp_path, green()))
    assert levels(findings) == [("fwd.example", "ok"), ("brand.example", "ok")]


@pytest.mark.parametrize(
    ("records", "srs_level", "alias_level", "said"),
    [
        ([(10, "mail.elsewhere.test")], "error", "error", "mail.elsewhere.test"),
        ([(10, HOST), (10, "mail.elsewhere.test")], "error", "error", "as often to mail.elsewhere.test"),
        ([(10, HOST), (5, "mail.elsewhere.test")], "error", "error", "first to mail.elsewhere.test"),
        ([(10, HOST), (20, "mail.elsewhere.test")], "error", "warning", "also to mail.elsewhere.test"),
        ([(0, "")], "error", "error", "null MX"),
        ([], "error", "error", "no MX record"),
        ([(10, "gone.test")], "error", "error", "no address"),
        ([(10, HOST), (20, "gone.test")], "warning", "warning", "gone.test has no address"),
        ([(10, "203.0.113.5")], "error", "error", "no address"),
        ([(10, "alias.test")], "warning", "warning", "CNAME"),
        ([(10, "other-name.test")], "ok", "ok", "other-name.test"),
    ],
)
async def test_where_it_leads(
    tmp_path: Path, records: list[tuple[int, str]], srs_level: str, alias_level: str, said: str
) -> None:
    more: Zone = {
        ("other-name.test", "A"): [IPV4],
        ("alias.test", "CNAME"): [HOST],
        ("alias.test", "A"): [IPV4],
        ("fwd.example", "TXT"): [],
        ("brand.example", "TXT"): [],
    }
    zone = green() | THERE | more | {("fwd.example", "MX"): records, ("brand.example", "MX"): records}
    findings = await mx.check(site(tmp_path, zone))
    assert levels(findings) == [("fwd.example", srs_level), ("brand.example", alias_level)]
    assert all(said in finding.text for finding in findings)
    assert all(finding.mend for finding in findings if finding.level != "ok")


async def test_a_host_without_addresses_is_mended_at_its_name(tmp_path: Path) -> None:
    findings = await mx.check(site(tmp_path, green() | {(HOST, "A"): [], (HOST, "AAAA"): []}))
    assert {finding.level for finding in findings} == {"error"}
    assert all("addresses of mx.fwd.example" in finding.mend and " MX " not in finding.mend for finding in findings)


async def test_mail_by_the_address_of_the_domain(tmp_path: Path) -> None:
    zone = green() | {("brand.example", "MX"): [], ("brand.example", "A"): [IPV4]}
    finding = only(await mx.check(site(tmp_path, zone)), "brand.example")
    assert finding.level == "warning" and f"brand.example. 3600 IN MX 10 {HOST}." in finding.mend.split("\n")


async def test_a_domain_that_dns_does_not_know(tmp_path: Path) -> None:
    zone = green()
    del zone["brand.example", "MX"]
    assert only(await mx.check(site(tmp_path, zone)), "brand.example").level == "error"


@pytest.mark.parametrize(
    "tables",
    [
        {"clients": {"trusted": ["198.51.100.0/24"]}},
        {"routes": {"domains": {"brand.example": {"recipients": "any", "next_hop": f"smtp://{OTHER}:25"}}}},
        {"routes": {"domains": {"brand.example": {"recipients": "any", "next_hop": "smtp://mail.elsewhere.test:25"}}}},
        {"delivery": {"smarthost": {"url": "smtp://mail.elsewhere.test:587"}}, "routes": {"aliases": "aliases"}},
    ],
)
async def test_hosts_that_work_with_us_may_take_the_mail(tmp_path: Path, tables: dict[str, Any]) -> None:
    zone = green() | THERE | {("brand.example", "MX"): [(10, "mail.elsewhere.test")]}
    assert only(await mx.check(site(tmp_path, zone, **tables)), "brand.example").level == "ok"


async def test_a_backup_is_behind_us(tmp_path: Path) -> None:
    skip = {"skip": [OTHER]}
    behind = green() | THERE | {("fwd.example", "MX"): [(10, HOST), (20, "mail.elsewhere.test")]}
    assert only(await mx.check(site(tmp_path, behind, spf=skip)), "fwd.example").level == "ok"
    alone = green() | THERE | {("fwd.example", "MX"): [(20, "mail.elsewhere.test")]}
    assert only(await mx.check(site(tmp_path, alone, spf=skip)), "fwd.example").level == "error"


async def test_an_address_that_only_a_listener_has(tmp_path: Path) -> None:
    zone = green() | {("second.test", "A"): ["203.0.113.6"], ("fwd.example", "MX"): [(10, "second.test")]}
    here = site(tmp_path, zone, listen=[{"address": "203.0.113.6:25"}])
    assert only(await mx.check(here), "fwd.example").level == "ok"


async def test_names_that_are_in_no_public_dns_are_left_out(tmp_path: Path) -> None:
    findings = await mx.check(site(tmp_path, green(), aliases="root@localhost someone@mailbox.example\n"))
    assert levels(findings) == [("fwd.example", "ok")]


async def test_no_answer_about_one_domain_leaves_the_others(tmp_path: Path) -> None:
    zone: Zone = green() | {("brand.example", "MX"): DnsFailure("SERVFAIL")}
    assert levels(await mx.check(site(tmp_path, zone))) == [("fwd.example", "ok"), ("brand.example", "error")]
    zone = green() | {(HOST, "A"): DnsFailure("SERVFAIL")}
    assert levels(await run(site(tmp_path, zone), ["mx"])) == [(HOST, "error")]
