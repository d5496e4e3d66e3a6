"""`srs-relay init` for each use and on each kind of host, and where a configuration is there already."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay import cli
from relay.cli import host_addresses
from relay.cli.host_addresses import Host, OwnAddress
from relay.cli.init_files import Site, config_text
from relay.config.file import load
from relay.process.files import read_files
from relay.sign import keys
from tests.cli.initialized import FILES, V4, V6, a_host, answers, files, zone

BOTH = Host({"ipv4": V4, "ipv6": V6}, lambda ip: ip in (V4, V6), (OwnAddress(V6, lasting=True),))


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    a_host(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "new" / "relay"


@pytest.mark.parametrize(
    ("use", "more", "hop", "postmaster", "signing"),
    [
        ("mailboxes", [], "lmtp://127.0.0.1:24", "postmaster@fwd.example", ["srs.fwd.example"]),
        (
            "mailboxes",
            ["--next-hop", "smtp://10.0.0.5"],
            "smtp://10.0.0.5:25",
            "postmaster@fwd.example",
            ["srs.fwd.example"],
        ),
        (
            "mailboxes",
            ["--srs-domain", "back.example"],
            "lmtp://127.0.0.1:24",
            "postmaster@fwd.example",
            ["back.example"],
        ),
        ("relayhost", [], "smtp://127.0.0.1:25", "postmaster@fwd.example", ["fwd.example", "srs.fwd.example"]),
        (
            "relayhost",
            ["--postmaster", "me@x.example"],
            "smtp://127.0.0.1:25",
            "me@x.example",
            ["fwd.example", "srs.fwd.example"],
        ),
    ],
)
def test_each_use_can_be_served(
    folder: Path, use: str, more: list[str], hop: str, postmaster: str, signing: list[str]
) -> None:
    assert cli.run(["init", str(folder), "--for", use, *more]) == 0
    config = load(folder / "relay.toml", {})
    read_files(config)
    assert str(config.next_hop("fwd.example")) == hop
    assert config.routes.postmaster == postmaster
    assert [key.domain for key in config.dkim] == signing


@pytest.mark.parametrize("use", ["forwarding", "mailboxes", "relayhost"])
def test_the_records_fit_the_use(folder: Path, capsys: pytest.CaptureFixture[str], use: str) -> None:
    assert cli.run(["init", str(folder), "--for", use, "--address", "198.51.100.4"]) == 0
    published = zone(capsys.readouterr().out)
    config = load(folder / "relay.toml", {})
    assert answers(published, config.srs.domain, "MX") == ["10 mx.fwd.example."]
    assert answers(published, config.srs.domain, "TXT") == ["v=spf1 mx -all"]
    for entry in config.dkim:
        key = keys.load(entry)
        assert answers(published, key.record_name, "TXT") == [key.public_record()]


@pytest.mark.parametrize(
    ("given", "families", "records", "said"),
    [
        (["--address", V4], ("ipv4",), ([V4], []), f"mail from {V6} would have neither SPF nor PTR"),
        (["--address", V6], ("ipv6",), ([], [V6]), f"mail from {V4} would have neither SPF nor PTR"),
        (["--address", V4, "--address", V6], ("ipv6", "ipv4"), ([V4], [V6]), "publish the records"),
        ([], ("ipv6", "ipv4"), ([V4], [V6]), f"mail leaves from {V4} and {V6}"),
    ],
)
def test_mail_leaves_only_by_families_whose_addresses_are_published(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    families: tuple[str, ...],
    records: tuple[list[str], list[str]],
    said: str,
) -> None:
    monkeypatch.setattr(host_addresses, "look", lambda: BOTH)
    assert cli.run(["init", str(folder), *given]) == 0
    assert load(folder / "relay.toml", {}).delivery.families == families
    printed = capsys.readouterr()
    published = zone(printed.out)
    assert (answers(published, "mx.fwd.example", "A"), answers(published, "mx.fwd.example", "AAAA")) == records
    assert said in printed.err


def test_behind_a_nat_no_private_address_is_published(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host_addresses, "look", lambda: Host({"ipv4": "10.0.0.5", "ipv6": None}, lambda ip: False))
    assert cli.run(["init", str(folder)]) == 0
    printed = capsys.readouterr()
    assert "10.0.0.5" not in printed.out and ";mx.fwd.example. 3600 IN A 192.0.2.1" in printed.out
    assert "mail leaves from 10.0.0.5, which is private" in printed.err and "--address" in printed.err
    assert load(folder / "relay.toml", {}).delivery.families == ("ipv6", "ipv4")


@pytest.mark.parametrize("named", ["folder", "file"])
def test_a_configuration_that_is_there_gets_what_it_lacks(
    folder: Path, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    assert cli.run(["init", str(folder), "--alias", "alice", "al@mailbox.example"]) == 0
    config = folder / "relay.toml"
    config.write_text(config.read_text() + "\n# mine\n")
    before = config.read_bytes()
    kept = (folder / "aliases").read_bytes()
    for name in ("srs.secret", "dkim/relay1.pem"):
        (folder / name).unlink()
    records = [line for line in capsys.readouterr().out.splitlines() if "MX" in line or "spf1" in line]
    assert cli.run(["init", str(folder if named == "folder" else config)]) == 0
    printed = capsys.readouterr()
    assert set(records) <= set(printed.out.splitlines())
    assert f"wrote {folder}/srs.secret, {folder}/dkim/relay1.pem" in printed.err
    assert (config.read_bytes(), (folder / "aliases").read_bytes()) == (before, kept)
    read_files(load(config, {}))


def test_a_configuration_that_lacks_nothing_stays_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["init", str(folder)]) == 0
    before = {name: (folder / name).read_bytes() for name in FILES}
    for more in ([], ["--domain", "other.example"]):
        capsys.readouterr()
        assert cli.run(["init", str(folder), *more]) == 1
        captured = capsys.readouterr()
        assert "nothing was written" in captured.err and "--force" in captured.err
        assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert {name: (folder / name).read_bytes() for name in FILES} == before


def test_a_certificate_that_is_named_and_missing_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir(parents=True)
    tls = '[tls]\ncertificate = "fullchain.pem"\nprivate_key = "privkey.pem"\n'
    (folder / "relay.toml").write_text(config_text(Site("forwarding", "mx.x.example", "x.example", "x.example")) + tls)
    assert cli.run(["init", str(folder)]) == 1
    printed = capsys.readouterr()
    assert f"{folder}/fullchain.pem: No such file or directory; get a certificate" in printed.err
    assert files(folder) == FILES


@pytest.mark.parametrize("args", [["none.toml"], ["relay.toml", "--force"], ["relay.toml", "--domain", "x.example"]])
def test_a_file_is_no_folder_to_write_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relay.toml").write_text("mine")
    assert cli.run(["init", *args]) == 2
    assert "DIR" in capsys.readouterr().err
    assert files(tmp_path) == ["relay.toml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
def test_root_writes_files_for_the_owner_of_the_folder(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chown(folder, 2525, 2526)
    assert cli.run(["init", str(folder)]) == 0
    for name in (*FILES, "dkim"):
        assert ((folder / name).stat().st_uid, (folder / name).stat().st_gid) == (2525, 2526)
