"""DMARC of our domains: the record, and the way of its reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.check import dmarc
from relay.check.finding import Finding
from relay.dns import DnsFailure
from tests.check.sites import Zone, green, levels, only, site, txt

GOOD = "v=DMARC1; p=reject; rua=mailto:dmarc@fwd.example"


async def finding_with(folder: Path, *records: str, more: Zone | None = None) -> Finding:
    zone = green() | {("_dmarc.fwd.example", "TXT"): txt(*records)} | (more or {})
    return only(await dmarc.check(site(folder, zone)), "fwd.example")


async def test_all_is_well(tmp_path: Path) -> None:
    [finding] = await dmarc.check(site(tmp_path, green()))
    assert (finding.subject, finding.level, finding.mend) == ("fwd.example", "ok", "")


@pytest.mark.parametrize(
    ("records", "level", "said"),
    [
        ([], "warning", "no DMARC record"),
        (["v=spf1 -all"], "warning", "no DMARC record"),
        ([GOOD, "v=DMARC1; p=none"], "error", "2 DMARC records"),
        (["v=dmarc1; p=none"], "error", "void"),
        (["v=DMARC1; p=none; p=reject"], "error", "void"),
        (["p=reject; v=DMARC1"], "error", "void"),
        (["v=DMARC1; p=rejekt"], "error", "no valid policy"),
        (["v=DMARC1; rua=mailto:dmarc@fwd.example"], "error", "no valid policy"),
        (["v=DMARC1; p=reject; sp=nix"], "error", "no valid policy"),
        ([GOOD.replace("mailto:", "")], "warning", "no address"),
        ([GOOD.replace("mailto:dmarc@fwd.example", "https://fwd.example/in")], "warning", "no address"),
        (["v=DMARC1;p=reject;rua=mailto:x@reports.test!10m"], "warning", "reports.test"),
    ],
)
async def test_a_fault_is_found(tmp_path: Path, records: list[str], level: str, said: str) -> None:
    finding = await finding_with(tmp_path, *records)
    assert (finding.level, said in finding.text) == (level, True), finding
    assert finding.mend


@pytest.mark.parametrize(
    ("record", "hint"),
    [
        ("v=DMARC1; p=none; rua=mailto:dmarc@fwd.example", "p=none"),
        ("v=DMARC1; p=reject", "rua="),
        (GOOD + "; t=y", "t=y"),
        (GOOD, ""),
        (GOOD + "; sp=none; fo=1; unknown=x;", ""),
    ],
)
async def test_a_mild_record_is_good_with_a_hint(tmp_path: Path, record: str, hint: str) -> None:
    finding = await finding_with(tmp_path, record)
    assert finding.level == "ok" and hint in finding.mend and bool(hint) == bool(finding.mend)


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        (txt("v=DMARC1"), "ok"),
        (txt("v=DMARC1;"), "ok"),
        (txt("v=DMARC1; rua=mailto:y@reports.test"), "ok"),
        (txt("no"), "warning"),
    ],
)
async def test_reports_go_where_they_are_wanted(tmp_path: Path, answer: list[tuple[bytes, ...]], level: str) -> None:
    more: Zone = {("fwd.example._report._dmarc.reports.test", "TXT"): answer}
    finding = await finding_with(tmp_path, "v=DMARC1; p=reject; rua=mailto:x@reports.test", more=more)
    assert finding.level == level
    assert (level == "ok") or 'fwd.example._report._dmarc.reports.test. 3600 IN TXT "v=DMARC1"' in finding.mend


async def test_a_mend_keeps_what_the_bad_record_says(tmp_path: Path) -> None:
    finding = await finding_with(tmp_path, "v=DMARC1; p=rejekt; sp=quarantine; rua=mailto:dmarc@fwd.example")
    record = "v=DMARC1; p=none; sp=quarantine; rua=mailto:dmarc@fwd.example"
    assert finding.mend.split("\n")[1] == f'_dmarc.fwd.example. 3600 IN TXT "{record}"'
    assert (await finding_with(tmp_path, record)).level == "ok"


async def test_a_host_of_reports_that_does_not_answer_is_no_error_of_ours(tmp_path: Path) -> None:
    more: Zone = {("fwd.example._report._dmarc.reports.test", "TXT"): DnsFailure("SERVFAIL")}
    finding = await finding_with(tmp_path, "v=DMARC1; p=reject; rua=mailto:x@reports.test", more=more)
    assert (finding.level, "not known" in finding.text) == ("warning", True)


async def test_reports_to_the_own_organization_need_no_word(tmp_path: Path) -> None:
    zone = green() | {
        ("_dmarc.fwd.example", "TXT"): [],
        ("_dmarc.example", "TXT"): txt("v=DMARC1; p=none; psd=y"),
        ("_dmarc.corp.example", "TXT"): txt("v=DMARC1; p=quarantine; rua=mailto:d@reports.corp.example"),
    }
    found = await dmarc.check(site(tmp_path, zone, senders={"local_domains": ["lists.corp.example"]}))
    finding = only(found, "lists.corp.example")
    assert (finding.level, finding.text) == ("ok", "p=quarantine at _dmarc.corp.example")


async def test_every_domain_of_ours_counts(tmp_path: Path) -> None:
    entry = {"domain": "brand.example", "selector": "b1", "private_key": "relay1.pem"}
    here = site(tmp_path, green(), senders={"local_domains": ["shop.example"]}, dkim=[entry])
    assert levels(await dmarc.check(here)) == [
        ("fwd.example", "ok"),
        ("shop.example", "warning"),
        ("brand.example", "warning"),
    ]


async def test_no_answer(tmp_path: Path) -> None:
    zone: Zone = green() | {("_dmarc.fwd.example", "TXT"): DnsFailure("SERVFAIL")}
    assert levels(await dmarc.check(site(tmp_path, zone))) == [("fwd.example", "error")]
