"""DNS lists that name us."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.check import dnsbl
from relay.check.dns_lists import ADDRESS_LISTS
from relay.dns import DnsFailure
from tests.check.sites import HOST, IPV4, IPV6, Zone, green, levels, only, site, txt

LISTED = "5.113.0.203.zen.spamhaus.org"


async def test_all_is_well(tmp_path: Path) -> None:
    findings = await dnsbl.check(site(tmp_path, green()))
    assert levels(findings) == [("fwd.example", "ok"), (IPV4, "ok"), (IPV6, "ok")]
    assert all(each.zone in findings[1].text for each in ADDRESS_LISTS)


async def test_a_listing_has_its_reason_and_the_way_out(tmp_path: Path) -> None:
    more: Zone = {(LISTED, "A"): ["127.0.0.3", "127.0.0.4"], (LISTED, "TXT"): txt("https://check.spamhaus.org/q/5")}
    finding = only(await dnsbl.check(site(tmp_path, green() | more)), IPV4)
    assert finding.level == "error"
    assert "CSS" in finding.text and "XBL" in finding.text and "https://check.spamhaus.org/q/5" in finding.text
    assert "https://check.spamhaus.org/" in finding.mend


@pytest.mark.parametrize(
    ("name", "answer", "subject", "level"),
    [
        (LISTED, "127.0.0.10", IPV4, "error"),
        ("5.113.0.203.bl.spamcop.net", "127.0.0.2", IPV4, "error"),
        ("5.113.0.203.psbl.surriel.com", "127.0.0.2", IPV4, "warning"),
        ("fwd.example.dbl.spamhaus.org", "127.0.1.2", "fwd.example", "error"),
        (
            "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.zen.spamhaus.org",
            "127.0.0.3",
            IPV6,
            "error",
        ),
    ],
)
async def test_listings_of_all_kinds(tmp_path: Path, name: str, answer: str, subject: str, level: str) -> None:
    finding = only(await dnsbl.check(site(tmp_path, green() | {(name, "A"): [answer]})), subject)
    assert finding.level == level and finding.mend


@pytest.mark.parametrize("refusal", ["127.255.255.252", "127.255.255.254", "127.255.255.255"])
async def test_a_list_that_refuses_our_resolver_lists_nobody(tmp_path: Path, refusal: str) -> None:
    findings = await dnsbl.check(site(tmp_path, green() | {(LISTED, "A"): [refusal]}))
    assert levels(findings) == [("fwd.example", "ok"), (IPV4, "ok"), (IPV6, "ok"), (HOST, "warning")]
    assert "zen.spamhaus.org" in findings[-1].text and "zen.spamhaus.org" not in findings[1].text


@pytest.mark.parametrize(
    "more",
    [
        {(LISTED, "A"): DnsFailure("no answer within 5 s")},
        {(LISTED, "A"): ["192.0.2.80"]},  # a resolver that invents answers
        {(LISTED, "A"): ["127.0.0.2"], ("1.0.0.127.zen.spamhaus.org", "A"): ["127.0.0.2"]},  # a list that has closed
    ],
)
async def test_what_is_no_listing(tmp_path: Path, more: Zone) -> None:
    finding = only(await dnsbl.check(site(tmp_path, green() | more)), IPV4)
    assert finding.level == "ok" and "no answer that counts from zen.spamhaus.org" in finding.text


async def test_a_listing_without_a_reason(tmp_path: Path) -> None:
    more: Zone = {(LISTED, "A"): ["127.0.0.2"], (LISTED, "TXT"): DnsFailure("SERVFAIL")}
    assert only(await dnsbl.check(site(tmp_path, green() | more)), IPV4).level == "error"


async def test_private_addresses_are_not_asked_for(tmp_path: Path) -> None:
    zone = green() | {(HOST, "A"): ["10.0.0.5"]}
    assert levels(await dnsbl.check(site(tmp_path, zone, sends_from=["10.0.0.5"]))) == [("fwd.example", "ok")]
    smarthost = {"smarthost": {"url": "smtp://smtp.provider.example:587"}}
    found = levels(await dnsbl.check(site(tmp_path, green(), delivery=smarthost)))
    assert found == [(HOST, "ok"), ("fwd.example", "ok")]
