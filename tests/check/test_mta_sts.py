"""MTA-STS of our domains: the record, and the policy against the mail hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import https
from relay.check import mta_sts
from relay.check.finding import Finding
from relay.dns import DnsFailure
from tests.check.policy_host import serving
from tests.check.sites import HOST, OTHER, Zone, green, levels, only, site, txt

POLICY = "version: STSv1\nmode: enforce\nmx: mx.fwd.example\nmax_age: 604800\n"
RECORD: Zone = {
    ("_mta-sts.fwd.example", "TXT"): txt("v=STSv1; id=20261130;"),
    ("mta-sts.fwd.example", "A"): ["127.0.0.1"],
}


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[int, bytes]]]:
    answers: dict[str, tuple[int, bytes]] = {}
    with serving(tmp_path, "mta-sts.fwd.example", answers) as (port, certificate):
        monkeypatch.setattr(https, "PORT", port)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        yield answers


async def finding_with(folder: Path, more: Zone) -> Finding:
    return only(await mta_sts.check(site(folder, green() | RECORD | more)), "fwd.example")


async def test_none_is_good_with_a_hint(tmp_path: Path) -> None:
    findings = await mta_sts.check(site(tmp_path, green()))
    assert levels(findings) == [("fwd.example", "ok"), ("brand.example", "ok")]
    assert all(finding.mend for finding in findings)


@pytest.mark.parametrize(
    "records",
    [
        ["v=STSv1; id=1", "v=STSv1; id=2"],
        ["v=STSv1"],
        ["v=STSv1; id="],
        ["v=STSv1; id=a-b"],
        ["v=STSv1; x"],
        ["v=stsv1; id=1"],
        ["id=1; v=STSv1"],
    ],
)
async def test_a_record_that_senders_ignore(tmp_path: Path, records: list[str]) -> None:
    finding = await finding_with(tmp_path, {("_mta-sts.fwd.example", "TXT"): txt(*records)})
    assert finding.level == "warning" and "_mta-sts.fwd.example. 3600 IN TXT" in finding.mend


@pytest.mark.parametrize(
    ("policy", "level", "said"),
    [
        (POLICY, "ok", HOST),
        (POLICY.replace("mx.fwd.example", "*.fwd.example"), "ok", HOST),
        (POLICY.replace("mx.fwd.example", "old.fwd.example"), "error", "does not name mx.fwd.example"),
        (POLICY.replace("mx.fwd.example", "old.fwd.example").replace("enforce", "testing"), "warning", HOST),
        (POLICY.replace("enforce", "testing"), "ok", "testing"),
        (POLICY.replace("enforce", "none"), "ok", "there is none"),
        (POLICY.replace("604800", "600"), "warning", "600 seconds"),
        (POLICY.replace("STSv1", "STSv0"), "warning", "cannot be read"),
        ("<html>", "warning", "cannot be read"),
    ],
)
async def test_the_policy(
    tmp_path: Path, answers: dict[str, tuple[int, bytes]], policy: str, level: str, said: str
) -> None:
    answers["/.well-known/mta-sts.txt"] = 200, policy.encode()
    finding = await finding_with(tmp_path, {})
    assert (finding.level, said in finding.text) == (level, True), finding
    assert level == "ok" or finding.mend


async def test_every_mail_host_has_to_be_named(tmp_path: Path, answers: dict[str, tuple[int, bytes]]) -> None:
    answers["/.well-known/mta-sts.txt"] = 200, POLICY.encode()
    more: Zone = {("fwd.example", "MX"): [(10, HOST), (20, "backup.test")], ("backup.test", "A"): [OTHER]}
    finding = await finding_with(tmp_path, more)
    assert finding.level == "error" and finding.mend.endswith("\nmx: backup.test")


@pytest.mark.usefixtures("answers")
async def test_a_policy_that_cannot_be_fetched(tmp_path: Path) -> None:
    finding = await finding_with(tmp_path, {})
    assert (finding.level, "404" in finding.text) == ("warning", True)
    finding = await finding_with(tmp_path, {("mta-sts.fwd.example", "A"): []})
    assert (finding.level, "no address" in finding.text) == ("warning", True)


async def test_no_answer(tmp_path: Path) -> None:
    finding = await finding_with(tmp_path, {("_mta-sts.fwd.example", "TXT"): DnsFailure("SERVFAIL")})
    assert finding.level == "error"
