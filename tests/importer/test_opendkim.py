"""opendkim.conf, and folders of its tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.importer import opendkim
from relay.importer.draft import Draft, ImportFailed
from relay.importer.text import config_text
from relay.process.files import read_signer
from relay.sign import keys
from tests.importer.loading import loaded, meanings
from tests.peers import needs

PEM = keys.generate("ed25519")
# The settings that most instructions for OpenDKIM have.
USUAL = """\
AutoRestart             Yes
Canonicalization        relaxed/simple
ExternalIgnoreList      refile:{folder}/TrustedHosts
InternalHosts           refile:{folder}/TrustedHosts
KeyTable                refile:{folder}/KeyTable
SigningTable            refile:{folder}/SigningTable
Mode                    sv
PidFile                 /var/run/opendkim/opendkim.pid
SignatureAlgorithm      rsa-sha256
Socket                  inet:12301@localhost
Syslog                  yes
UserID                  opendkim:opendkim
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "opendkim"
    (folder / "keys").mkdir(parents=True)
    (folder / "keys/mail.private").write_bytes(PEM)
    (folder / "TrustedHosts").write_text("127.0.0.1\nlocalhost\n10.0.0.0/8\n192.168.0.1/24\n*.a.example\n")
    (folder / "KeyTable").write_text(f"mail a.example:mail:{folder}/keys/mail.private\n")
    (folder / "SigningTable").write_text("*@a.example mail\n")
    (folder / "opendkim.conf").write_text(USUAL.format(folder=folder))
    return folder


def single(tmp_path: Path, text: str) -> Draft:
    (tmp_path / "single.conf").write_text(f"Domain a.example\nSelector s\nKeyFile {tmp_path}/key\n{text}")
    (tmp_path / "key").write_bytes(PEM)
    return opendkim.read(tmp_path / "single.conf")


@pytest.mark.parametrize("wanted", [False, True])
def test_a_folder_signs_as_before_once_the_rest_is_filled_in(tmp_path: Path, folder: Path, wanted: bool) -> None:
    draft = opendkim.read(folder)
    assert draft.to_fill_in() == ["hostname", "srs.domain", "listen"]
    config = loaded(tmp_path, draft, wanted=wanted)
    assert config.signing.opendkim == folder
    assert {"10.0.0.0/8", "127.0.0.1/32"} <= set(map(str, config.clients.trusted))
    assert config.srs.hash == "compatible"
    read_signer(config)


def test_a_file_is_named_as_it_is_with_the_settings_that_are_read_there(folder: Path) -> None:
    draft = opendkim.read(folder / "opendkim.conf")
    key = draft.tables[("signing",)]["opendkim"]
    assert key.value == f"{folder}/opendkim.conf"
    assert f"KeyTable ({folder}/opendkim.conf:5)" in key.comment
    assert "InternalHosts are trusted clients" in key.comment


def test_hosts_that_are_not_trusted_are_named(folder: Path) -> None:
    said = meanings(opendkim.read(folder))["InternalHosts"]
    assert "*.a.example is a name" in said
    assert "192.168.0.1/24: OpenDKIM does not match" in said


def test_a_folder_of_tables_needs_no_opendkim_conf(tmp_path: Path, folder: Path) -> None:
    (folder / "opendkim.conf").unlink()
    draft = opendkim.read(folder)
    assert draft.value(("signing",), "opendkim") == str(folder)
    read_signer(loaded(tmp_path, draft))


def test_keys_that_have_a_counterpart(tmp_path: Path) -> None:
    draft = single(
        tmp_path, "AuthservID mx.a.example\nNameservers 127.0.0.1, ::1, x\nDNSTimeout 7\nMaximumHeaders 1000\n"
    )
    config_text(draft)
    assert draft.value((), "authserv_id") == "mx.a.example"
    assert draft.strings(("dns",), "nameservers") == ("127.0.0.1", "::1")
    assert draft.value(("dns",), "timeout") == "7s"
    assert draft.value(("receive",), "max_header_size") == 1000
    assert list(meanings(draft)) == ["Nameservers"]


@pytest.mark.parametrize(("mode", "signs", "said"), [("v", False, True), ("s", True, True), ("sv", True, False)])
def test_the_mode(tmp_path: Path, mode: str, signs: bool, said: bool) -> None:
    draft = single(tmp_path, f"Mode {mode}\n")
    assert (draft.value(("signing",), "opendkim") is not None) is signs
    assert ("Mode" in meanings(draft)) is said


def test_without_a_key_nothing_is_signed(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("Canonicalization relaxed/simple\nSocket local:/x\n")
    draft = opendkim.read(tmp_path / "conf")
    assert draft.value(("signing",), "opendkim") is None
    assert "keys new" in meanings(draft)["KeyFile"]
    loaded(tmp_path, draft)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("On-BadSignature reject\n", "On-BadSignature"),
        ("On-NoSignature r\n", "On-NoSignature"),
        ("PeerList 10.0.0.1\n", "PeerList"),
        ("RequiredHeaders yes\n", "RequiredHeaders"),
        ("SetupPolicyScript /x.lua\n", "SetupPolicyScript"),
        ("NoSuchSetting x\n", "nosuchsetting"),
    ],
)
def test_what_changes_for_mail_is_said(tmp_path: Path, text: str, name: str) -> None:
    assert [setting.name for setting in single(tmp_path, text).unmapped if setting.matters] == [name]


@pytest.mark.parametrize(
    "text", ["On-BadSignature accept\n", "On-DNSError tempfail\n", "Quarantine no\n", "SenderHeaders From\n"]
)
def test_a_usual_value_is_not_named(tmp_path: Path, text: str) -> None:
    assert single(tmp_path, text).unmapped == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("KeyTable dsn:mysql://x\nSigningTable csl:*=x\n", "only text files"),
        ("KeyTable file:/none\nSigningTable csl:*=x\n", "No such file"),
        ("InternalHosts csl:0.0.0.0/0\n", "open relay"),
        ("InternalHosts csl:0.0.0.0/1,128.0.0.0/1\n", "open relay"),
        ("Domain *\n", "not a domain name"),
        ("KeyFile /none/key\n", "this key is not there"),
    ],
)
def test_what_would_stop_the_relay_is_said_and_left_out(tmp_path: Path, text: str, problem: str) -> None:
    draft = single(tmp_path, text)
    said = meanings(draft)["signing.opendkim"]
    assert problem in said and "does not start" in said
    assert "signing.opendkim" in draft.to_fill_in()
    assert f'#opendkim = "{tmp_path}/single.conf"' in config_text(draft)
    del draft.tables[("signing",)]
    assert loaded(tmp_path, draft).signing.opendkim is None


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("Domain a.example\nSelector s\nKeyFile /none/key\n")
    assert "/none/key: this key is not there" in meanings(opendkim.read(tmp_path / "conf"))["signing.opendkim"]


@pytest.mark.parametrize("text", ["AuthservID x\nRejectFailures true\nIgnoreHosts /x\n", "a = b\n", ""])
def test_a_file_of_another_program_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "conf").write_text(text)
    with pytest.raises(ImportFailed, match="this is no configuration of OpenDKIM"):
        opendkim.read(tmp_path / "conf")


def test_a_folder_without_its_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportFailed, match=r"no opendkim\.conf"):
        opendkim.read(tmp_path / "empty")


@needs("opendkim")
def test_the_file_of_debian(tmp_path: Path) -> None:
    draft = opendkim.read(Path("/etc/opendkim.conf"))
    assert not [setting for setting in draft.unmapped if setting.matters and setting.name != "KeyFile"]
    loaded(tmp_path, draft)
