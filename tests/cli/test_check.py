"""`srs-relay check`: the checks that are asked for, their findings, the exit status, and watching."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.check.run import CHECKS
from relay.cli import check, run
from tests import corpus
from tests.certificates import write_certificate
from tests.check.sites import KEY_RECORD
from tests.journeys.world import Nameserver
from tests.peers import wait_until

ZONE = {
    ("fwd.example", "MX"): ["10 mx.fwd.example."],
    ("fwd.example", "TXT"): ['"v=spf1 mx -all"'],
    ("mx.fwd.example", "TXT"): ['"v=spf1 a -all"'],
    ("mx.fwd.example", "A"): ["203.0.113.5"],
    ("relay1._domainkey.fwd.example", "TXT"): [f'"{KEY_RECORD}"'],
    ("_dmarc.fwd.example", "TXT"): ['"v=DMARC1; p=reject; rua=mailto:dmarc@fwd.example"'],
    ("5.113.0.203.in-addr.arpa", "PTR"): ["mx.fwd.example."],
}
CONFIG = """
hostname = "mx.fwd.example"
listen = [{address = "0.0.0.0:25"}]
dns = {nameservers = ["%s"]}
srs = {domain = "fwd.example", secrets_file = "srs.secret"}
dkim = [{domain = "fwd.example", selector = "relay1", private_key = "relay1.pem"}]
delivery = {families = ["ipv4"], source_ipv4 = "203.0.113.5"}
"""
OF_DNS = "spf,dkim,dmarc,mx,ptr,address,mta-sts,tls-rpt,dane,dnssec,dnsbl"


@pytest.fixture
def zone() -> dict[tuple[str, str], list[str]]:
    return dict(ZONE)


@pytest.fixture
def folder(tmp_path: Path, zone: dict[tuple[str, str], list[str]]) -> Iterator[Path]:
    server = Nameserver(zone, {})
    server.start()
    (tmp_path / "srs.secret").write_text("tops3cr3t\n")
    (tmp_path / "relay1.pem").write_bytes(corpus.ED25519_PEM)
    (tmp_path / "relay.toml").write_text(CONFIG % server.endpoint)
    yield tmp_path
    server.stop()


def checked(folder: Path, *options: str) -> int:
    return run(["check", "--config", str(folder / "relay.toml"), *options])


def findings(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == ["findings"]
    found: list[dict[str, Any]] = printed["findings"]
    return found


def test_a_certificate_that_cannot_be_used_is_a_finding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_certificate(folder, "one")
    (folder / "key.pem").write_text("rubbish")
    with (folder / "relay.toml").open("a") as file:
        file.write('tls = {certificate = "cert.pem", private_key = "key.pem"}\n')
    assert checked(folder, "--only", "certificate", "--json") == 1
    [finding] = findings(capsys)
    assert finding["level"] == "error" and "cannot be used with the key" in finding["text"]


def test_where_all_is_well_the_exit_status_is_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(folder, "--only", OF_DNS, "--json") == 0
    found = findings(capsys)
    assert {tuple(finding) for finding in found} == {("check", "subject", "level", "text", "mend")}
    assert [finding for finding in found if finding["level"] != "ok"] == []
    assert {finding["check"] for finding in found} == set(OF_DNS.split(","))
    assert checked(folder, "--only", OF_DNS) == 0
    assert capsys.readouterr().out.endswith(f"\n\nno errors, no warnings, {len(found)} ok\n")


@pytest.mark.parametrize(
    ("name", "record", "status", "level"),
    [
        (("fwd.example", "TXT"), '"v=spf1 -all"', 1, "error"),
        (("_dmarc.fwd.example", "TXT"), '"v=spf1 -all"', 0, "warning"),
    ],
)
def test_an_error_is_status_1_and_a_warning_is_none(
    folder: Path,
    zone: dict[tuple[str, str], list[str]],
    capsys: pytest.CaptureFixture[str],
    name: tuple[str, str],
    record: str,
    status: int,
    level: str,
) -> None:
    server = Nameserver(zone | {name: [record]}, {})
    server.start()
    (folder / "relay.toml").write_text(CONFIG % server.endpoint)
    assert checked(folder, "--only", OF_DNS, "--json") == status
    [finding] = [finding for finding in findings(capsys) if finding["level"] != "ok"]
    assert (finding["level"], finding["subject"]) == (level, "fwd.example")
    server.stop()


def test_chosen_and_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, names in (
        (["--only", "mx"], ["mx"]),
        (["--only", "mx", "--only", "spf"], ["spf", "mx"]),
        (["--only", "ptr, mx", "--skip", "mx"], ["ptr"]),
    ):
        assert checked(folder, "--json", *options) == 0
        assert list(dict.fromkeys(finding["check"] for finding in findings(capsys))) == names
    skipped = [option for name in CHECKS if name != "dkim" for option in ("--skip", name)]
    assert checked(folder, "--json", *skipped) == 0
    assert {finding["check"] for finding in findings(capsys)} == {"dkim"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "spff"], "there is no check 'spff'; there are spf, dkim, "),
        (["--skip", "SPF"], "there is no check 'SPF'; there are spf, dkim, "),
        (["--only", "spf", "--skip", "spf"], "it leaves no check"),
    ],
)
def test_a_wrong_call(folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str) -> None:
    assert checked(folder, *options) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_configuration_that_cannot_be_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "srs.secret").unlink()
    assert checked(folder) == 1
    assert "srs.secret" in capsys.readouterr().err
    (folder / "relay.toml").write_text("hostname = mx")
    assert checked(folder, "--json") == 1
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1


def test_it_is_watched_until_all_is_green(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DNS is asked anew in each round, and so is the configuration, which the administrator mends meanwhile."""
    good = (folder / "relay.toml").read_text()
    (folder / "relay.toml").write_text(good.replace("203.0.113.5", "203.0.113.9").replace('"mx.fwd', '"mx2.fwd'))
    rounds = iter([good.replace("203.0.113.5", "203.0.113.9"), "hostname = ", good])
    printed = []

    def pause(seconds: float) -> None:
        assert seconds == 30
        printed.append(capsys.readouterr())
        (folder / "relay.toml").write_text(next(rounds))

    monkeypatch.setattr(time, "sleep", pause)
    assert checked(folder, "--only", "spf,address", "--watch") == 0
    last = capsys.readouterr()
    assert "error    address      mx2.fwd.example: the host name has no address" in printed[0].out
    assert "gone     address      mx2.fwd.example: the host name has no address" in printed[1].out
    assert "error    address      mx.fwd.example: DNS has 203.0.113.5" in printed[1].out
    assert printed[2].out == "" and "relay.toml" in printed[2].err
    assert "ok       spf          fwd.example, mx.fwd.example: pass for 203.0.113.5" in last.out
    assert last.out.endswith(" no errors, no warnings, 3 ok\n")


def test_watching_prints_an_object_a_round(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (folder / "relay.toml").read_text()
    (folder / "relay.toml").write_text(good.replace("203.0.113.5", "203.0.113.9"))
    monkeypatch.setattr(time, "sleep", lambda _: (folder / "relay.toml").write_text(good))
    assert checked(folder, "--only", "spf", "--watch", "--json") == 0
    levels = [
        {finding["level"] for finding in json.loads(line)["findings"]} for line in capsys.readouterr().out.splitlines()
    ]
    assert levels == [{"error"}, {"ok"}]


def test_watching_is_interrupted(folder: Path) -> None:
    (folder / "relay.toml").write_text((folder / "relay.toml").read_text().replace("203.0.113.5", "203.0.113.9"))
    command = [sys.executable, "-m", "relay", "check", "-c", str(folder / "relay.toml"), "--only", "spf", "--watch"]
    with (folder / "out").open("wb") as out:
        watching = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE)
    wait_until(lambda: "errors" in (folder / "out").read_text(), "the first round")
    os.kill(watching.pid, signal.SIGINT)
    assert watching.communicate(timeout=10)[1] == b""
    assert watching.returncode == 130


def test_half_a_minute_is_between_two_rounds() -> None:
    assert check.PAUSE == 30
