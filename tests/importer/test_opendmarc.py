"""opendmarc.conf."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.importer import opendmarc
from relay.importer.draft import Draft, ImportFailed
from tests.importer.loading import loaded, meanings

DMARC = ("dmarc",)
# What most instructions for OpenDMARC write.
USUAL = """\
AuthservID mail.a.example
PidFile /var/run/opendmarc/opendmarc.pid
RejectFailures false
Syslog true
TrustedAuthservIDs mail.a.example
Socket inet:54321@localhost
UserID opendmarc:opendmarc
IgnoreHosts {folder}/ignore.hosts
HistoryFile /var/run/opendmarc/opendmarc.dat
SPFSelfValidate true
"""


def draft(tmp_path: Path, text: str) -> Draft:
    (tmp_path / "opendmarc.conf").write_text(text.format(folder=tmp_path))
    return opendmarc.read(tmp_path / "opendmarc.conf")


@pytest.mark.parametrize("wanted", [False, True])
def test_the_usual_file(tmp_path: Path, wanted: bool) -> None:
    (tmp_path / "ignore.hosts").write_text("localhost\n# c\n10.0.0.0/8 # ours\nmx.lists.example\n.b.example\n")
    made = draft(tmp_path, USUAL)
    config = loaded(tmp_path, made, wanted=wanted)
    assert config.authserv_id == "mail.a.example"
    assert config.clients.authserv_ids == ()
    assert (config.dmarc.reject, config.dmarc.quarantine, config.dmarc.temperror) == ("tag", "tag", "tag")
    assert [str(host) for host in config.dmarc.skip] == [
        *("127.0.0.1/32", "::1/128", "10.0.0.0/8", "mx.lists.example", ".b.example")
    ]
    assert [setting.name for setting in made.unmapped if setting.matters] == ["HistoryFile"]


@pytest.mark.parametrize(
    ("text", "reject", "temperror"),
    [
        ("RejectFailures yes\n", "reject", "defer"),
        ("RejectFailures no\n", "tag", "tag"),
        ("Syslog yes\n", "tag", "tag"),
    ],
)
def test_whether_failures_are_refused(tmp_path: Path, text: str, reject: str, temperror: str) -> None:
    config = loaded(tmp_path, draft(tmp_path, text))
    assert (config.dmarc.reject, config.dmarc.temperror) == (reject, temperror)


def test_what_was_held_is_noted(tmp_path: Path) -> None:
    made = draft(tmp_path, "HoldQuarantinedMessages true\n")
    assert made.value(DMARC, "quarantine") == "tag"
    assert "dmarc.quarantine" in meanings(made)["HoldQuarantinedMessages"]


def test_results_of_others_are_believed_from_trusted_clients(tmp_path: Path) -> None:
    made = draft(tmp_path, "AuthservID HOSTNAME\nTrustedAuthservIDs HOSTNAME, mx.a.example,b c\n")
    assert made.value((), "authserv_id") is None
    assert made.strings(("clients",), "authserv_ids") == ("mx.a.example",)
    assert "HOSTNAME is our own authserv-id" in meanings(made)["TrustedAuthservIDs"]


def test_hosts_that_cannot_be_skipped_are_named(tmp_path: Path) -> None:
    (tmp_path / "ignore.hosts").write_text("0.0.0.0/0\n::/0\n!10.0.0.1\na b\n10.0.0.2\n")
    made = draft(tmp_path, "IgnoreHosts {folder}/ignore.hosts\n")
    assert made.strings(DMARC, "skip") == ("10.0.0.2/32",)
    said = meanings(made)["IgnoreHosts"]
    assert all(
        part in said for part in ("0.0.0.0/0, ::/0 would turn", "!10.0.0.1: there are no exceptions", "a b: neither")
    )


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    made = draft(tmp_path, "IgnoreHosts {folder}/none\n")
    assert "dmarc.skip" in meanings(made)["IgnoreHosts"]
    loaded(tmp_path, made)


def test_sealers_that_are_believed(tmp_path: Path) -> None:
    (tmp_path / "sealers").write_text("b.example\nc.example d.example\n")
    made = draft(tmp_path, "BaseDirectory {folder}\nDomainWhitelist a.example, x!\nDomainWhitelistFile sealers\n")
    assert made.strings(("arc",), "trusted_sealers") == ("a.example", "b.example", "c.example", "d.example")
    assert "x!" in meanings(made)["DomainWhitelist"]


@pytest.mark.parametrize(
    "text",
    ["FailureReports true\n", "IgnoreMailFrom a.example\n", "NoSuchSetting x\nSyslog no\nUMask 2\nRejectFailures no\n"],
)
def test_what_changes_for_mail_is_said(tmp_path: Path, text: str) -> None:
    name = text.split()[0]
    assert [setting.name.lower() for setting in draft(tmp_path, text).unmapped if setting.matters] == [name.lower()]


@pytest.mark.parametrize("text", ["FailureReports false\n", "SPFIgnoreResults 0\n"])
def test_what_is_off_is_not_named(tmp_path: Path, text: str) -> None:
    assert draft(tmp_path, text).unmapped == []


@pytest.mark.parametrize("text", ["Domain a.example\nKeyFile x\nSelector y\n", "a=b\n", ""])
def test_a_file_of_another_program_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ImportFailed, match="this is no configuration of OpenDMARC"):
        draft(tmp_path, text)


def test_a_folder_is_looked_into(tmp_path: Path) -> None:
    draft(tmp_path, "RejectFailures yes\n")
    assert opendmarc.read(tmp_path).source == f"{tmp_path}/opendmarc.conf"
    (tmp_path / "sub/sub").mkdir(parents=True)
    with pytest.raises(ImportFailed, match=r"no opendmarc\.conf"):
        opendmarc.read(tmp_path / "sub/sub")
