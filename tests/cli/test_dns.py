"""`srs-relay dns`: what it prints is what `init` printed, and can be published as it is."""

from __future__ import annotations

import json
from pathlib import Path

import dns.zone
import pytest

from relay import cli
from relay.cli import host_addresses, site_records
from relay.cli.host_addresses import Host
from relay.sending_addresses import SendingAddress
from relay.sign import keys
from tests import corpus

ADDRESS = "203.0.113.5"


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Host({"ipv4": ADDRESS, "ipv6": None}, lambda ip: ip == ADDRESS)
    monkeypatch.setattr(host_addresses, "look", lambda: found)
    monkeypatch.setattr(site_records, "sending_addresses", lambda *_: (SendingAddress(ADDRESS, "ipv4"),))
    monkeypatch.setattr(keys, "generate", lambda kind: corpus.RSA_PEM)


def initialized(folder: Path, *more: str) -> str:
    names = ["--domain", "fwd.example", "--hostname", "mx.fwd.example", "--address", ADDRESS]
    assert cli.run(["init", str(folder), *names, *more]) == 0
    return str(folder / "relay.toml")


@pytest.mark.parametrize("use", ["forwarding", "mailboxes", "relayhost"])
def test_the_records_of_the_first_day_are_printed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], use: str
) -> None:
    config = initialized(tmp_path, "--for", use)
    before = capsys.readouterr().out
    assert cli.run(["dns", "--config", config]) == 0
    assert capsys.readouterr().out == before


def test_json_has_every_record_of_the_zone_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = initialized(tmp_path, "--alias", "a@club.example", "b@y.example")
    printed = capsys.readouterr().out
    zone = dns.zone.from_text(printed, origin=".", relativize=False, check_origin=False)
    assert cli.run(["dns", "--json", "--config", config]) == 0
    rows = json.loads(capsys.readouterr().out)
    ours = {(row["name"], row["type"]) for row in rows if not row["elsewhere"]}
    assert ours == {
        (name.to_text(omit_final_dot=True), rdataset.rdtype.name) for name, rdataset in zone.iterate_rdatasets()
    }
    values = {(row["name"], row["type"]): row["value"] for row in rows}
    assert values["club.example", "MX"] == "10 mx.fwd.example."
    assert values["mx.fwd.example", "A"] == ADDRESS
    assert values["5.113.0.203.in-addr.arpa", "PTR"] == "mx.fwd.example."
    assert values["fwd.example", "TXT"] == "v=spf1 mx -all"
    assert values["relay1._domainkey.fwd.example", "TXT"] == corpus.RSA.public_record()
    assert values["_dmarc.fwd.example", "TXT"] == "v=DMARC1; p=reject"


def test_what_is_missing_is_said_beside_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = initialized(tmp_path)
    for name in ("dkim/relay1.pem", "aliases", "srs.secret"):
        (tmp_path / name).unlink()
    capsys.readouterr()
    assert cli.run(["dns", "--json", "--config", config]) == 0
    printed = capsys.readouterr()
    assert {row["purpose"] for row in json.loads(printed.out)} == {"mx", "address", "spf", "dmarc"}
    assert f"{tmp_path}/aliases: No such file" in printed.err
    assert "`srs-relay keys new` makes it" in printed.err
    assert cli.run(["dns", "--config", config]) == 0
    printed = capsys.readouterr()
    assert "; relay1._domainkey.fwd.example has no key yet" in printed.out and printed.err == ""


def test_an_alias_that_stands_twice_is_no_line_of_the_zone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = initialized(tmp_path)
    (tmp_path / "aliases").write_text("a@fwd.example b@y.example\na@fwd.example c@y.example\nbad line@@\n")
    capsys.readouterr()
    assert cli.run(["dns", "--config", config]) == 0
    printed = capsys.readouterr()
    assert all(line.startswith(";") or " IN " in line for line in printed.out.splitlines())
    assert printed.err == ""
