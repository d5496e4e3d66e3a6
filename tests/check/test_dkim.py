"""The records of our DKIM keys: what DNS has of the keys that sign, will sign, and have signed."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.check import dkim
from relay.check.finding import Finding
from relay.dns import DnsFailure
from relay.sign import keys
from relay.sign.keys import zone_line
from tests import corpus
from tests.check.sites import KEY_RECORD, Zone, green, levels, only, site, txt

NAME = "relay1._domainkey.fwd.example"
OTHER_KEY = corpus.RSA.public_record()
KEY = {"domain": "fwd.example", "selector": "relay1", "private_key": "relay1.pem"}


def days(number: int) -> str:
    return (datetime.now(UTC) + timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


async def finding_with(folder: Path, *records: str, **dates: str) -> Finding:
    zone = green() | {(NAME, "TXT"): txt(*records)}
    return only(await dkim.check(site(folder, zone, dkim=[KEY | dates])), NAME)


async def test_all_is_well(tmp_path: Path) -> None:
    assert levels(await dkim.check(site(tmp_path, green()))) == [(NAME, "ok")]


@pytest.mark.parametrize(
    ("records", "level", "said"),
    [
        ([], "error", "no record"),
        ([OTHER_KEY], "error", "does not fit"),
        (["v=DKIM1; k=ed25519; p="], "error", "revoked"),
        ([KEY_RECORD, KEY_RECORD + " "], "error", "2 records"),
        (["v=DKIM1; k=ed25519; p=%%%"], "error", "does not fit"),
        ([KEY_RECORD.replace("; p=", "; t=y; p=")], "warning", "t=y"),
        ([KEY_RECORD.replace("; p=", "; t=s:y; p=")], "warning", "t=y"),
        ([KEY_RECORD.replace("; p=", "; t=s; p=")], "ok", ""),
        ([KEY_RECORD.removeprefix("v=DKIM1; ")], "ok", ""),
    ],
)
async def test_the_record_is_that_of_the_key(tmp_path: Path, records: list[str], level: str, said: str) -> None:
    finding = await finding_with(tmp_path, *records)
    assert (finding.level, said in finding.text) == (level, True), finding
    if level != "ok":
        assert zone_line(NAME, KEY_RECORD) in finding.mend.split("\n")


async def test_no_answer(tmp_path: Path) -> None:
    zone: Zone = green() | {(NAME, "TXT"): DnsFailure("SERVFAIL")}
    finding = only(await dkim.check(site(tmp_path, zone)), NAME)
    assert (finding.level, "SERVFAIL" in finding.text) == ("error", True)


async def test_a_key_that_is_going_to_sign(tmp_path: Path) -> None:
    coming = KEY | {"selector": "relay2", "active_from": days(2)}
    zone = green()
    findings = await dkim.check(site(tmp_path, zone, dkim=[KEY, coming]))
    assert levels(findings) == [(NAME, "ok"), ("relay2._domainkey.fwd.example", "warning")]
    assert "signs from" in findings[1].text
    zone["relay2._domainkey.fwd.example", "TXT"] = txt(KEY_RECORD)
    assert {finding.level for finding in await dkim.check(site(tmp_path, zone, dkim=[KEY, coming]))} == {"ok"}


async def test_a_key_that_has_signed_until_lately(tmp_path: Path) -> None:
    retired = KEY | {"selector": "relay0", "active_until": days(-2)}
    findings = await dkim.check(site(tmp_path, green(), dkim=[KEY, retired]))
    assert levels(findings) == [(NAME, "ok"), ("relay0._domainkey.fwd.example", "warning")]
    long_ago = KEY | {"selector": "relay0", "active_until": days(-30)}
    assert levels(await dkim.check(site(tmp_path, green(), dkim=[KEY, long_ago]))) == [(NAME, "ok")]


async def test_short_keys_are_named(tmp_path: Path) -> None:
    here = site(tmp_path, green() | {(NAME, "TXT"): txt(OTHER_KEY)})
    (tmp_path / "short.pem").write_bytes(corpus.RSA_PEM)
    short: dict[str, Any] = KEY | {"private_key": "short.pem"}
    finding = only(await dkim.check(site(tmp_path, green() | {(NAME, "TXT"): txt(OTHER_KEY)}, dkim=[short])), NAME)
    assert here and (finding.level, "1024 bits" in finding.text) == ("warning", True)


async def test_an_old_key_is_named_by_its_date_or_its_file(tmp_path: Path) -> None:
    assert (await finding_with(tmp_path, KEY_RECORD, active_from=days(-300))).level == "ok"
    finding = await finding_with(tmp_path, KEY_RECORD, active_from=days(-400))
    assert (finding.level, "400 days" in finding.text) == ("warning", True)
    old = site(tmp_path, green())
    os.utime(tmp_path / "relay1.pem", (old.now - 500 * 86400, old.now - 500 * 86400))
    finding = only(await dkim.check(old), NAME)
    assert (finding.level, "500 days" in finding.text) == ("warning", True)


async def test_without_a_key_mail_is_unsigned(tmp_path: Path) -> None:
    assert levels(await dkim.check(site(tmp_path, green(), dkim=None))) == [("fwd.example", "warning")]
    findings = await dkim.check(site(tmp_path, green(), dkim=[KEY | {"active_until": days(-2)}]))
    assert only(findings, "fwd.example").level == "warning"


async def test_keys_for_the_domain_of_each_author_are_not_looked_up(tmp_path: Path) -> None:
    folder = tmp_path / "opendkim"
    folder.mkdir()
    (folder / "KeyTable").write_text(f"one %:mail:{tmp_path}/rsa.pem\n")
    (folder / "SigningTable").write_text("* one\n")
    (folder / "opendkim.conf").write_text(f"KeyTable {folder}/KeyTable\nSigningTable {folder}/SigningTable\n")
    (tmp_path / "rsa.pem").write_bytes(keys.generate("rsa2048"))
    findings = await dkim.check(site(tmp_path, green(), signing={"opendkim": "opendkim"}))
    assert levels(findings) == [(NAME, "ok"), ("mail._domainkey.%", "ok")]
