"""The record that asks for TLS reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.check import tls_rpt
from relay.dns import DnsFailure
from tests.check.sites import Zone, green, levels, site, txt

GOOD = "v=TLSRPTv1; rua=mailto:tls@fwd.example"


async def test_none_is_good_with_a_hint(tmp_path: Path) -> None:
    findings = await tls_rpt.check(site(tmp_path, green()))
    assert levels(findings) == [("fwd.example", "ok"), ("brand.example", "ok")]
    assert all("v=TLSRPTv1; rua=mailto:" in finding.mend for finding in findings)


@pytest.mark.parametrize(
    ("records", "level"),
    [
        ([GOOD], "ok"),
        ([GOOD + ";"], "ok"),
        (["v=TLSRPTv1;rua=https://reports.test/v1,mailto:tls@fwd.example"], "ok"),
        ([GOOD, "v=spf1 -all"], "ok"),
        ([GOOD, GOOD + ";"], "warning"),
        (["v=TLSRPTv1"], "warning"),
        (["v=TLSRPTv1; rua=tls@fwd.example"], "warning"),
        (["v=TLSRPTv1; rua=http://fwd.example/"], "warning"),
        (["v=TLSRPTv1; rua=mailto:tls"], "warning"),
        (["v=TLSRPTv1; mailto:tls@fwd.example"], "warning"),
        ([GOOD.lower()], "warning"),
        (["rua=mailto:tls@fwd.example; v=TLSRPTv1"], "warning"),
        (["v=spf1 -all"], "ok"),
    ],
)
async def test_the_record(tmp_path: Path, records: list[str], level: str) -> None:
    findings = await tls_rpt.check(site(tmp_path, green() | {("_smtp._tls.fwd.example", "TXT"): txt(*records)}))
    assert levels(findings) == [("fwd.example", level), ("brand.example", "ok")]
    assert (level == "ok") or "_smtp._tls.fwd.example. 3600 IN TXT" in findings[0].mend


async def test_no_answer(tmp_path: Path) -> None:
    zone: Zone = green() | {("_smtp._tls.fwd.example", "TXT"): DnsFailure("SERVFAIL")}
    assert levels(await tls_rpt.check(site(tmp_path, zone)))[0] == ("fwd.example", "error")
