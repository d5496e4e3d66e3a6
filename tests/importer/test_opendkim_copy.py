"""A copy of OpenDKIM's keys and tables signs as the originals do."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.model import Config
from relay.importer import folder as folders
from relay.importer import opendkim
from relay.process.files import read_signer
from relay.sign import keys
from tests.importer.loading import load_text

PEM = keys.generate("ed25519")


def copied(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The configuration that a user gets who may not read the originals."""
    monkeypatch.setattr(folders, "_may_read", lambda path, user: not path.is_relative_to(tmp_path / "etc"))
    written = folders.write(opendkim.read(source), tmp_path / "relay", force=False)
    assert written.copies[0][1] == tmp_path / "relay/opendkim"
    for file in sorted((tmp_path / "etc").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    return load_text(tmp_path / "relay", (tmp_path / "relay/relay.toml").read_text())


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    etc = tmp_path / "etc/opendkim"
    for name in ("a.example", "b.example"):
        (etc / "keys" / name).mkdir(parents=True)
        (etc / "keys" / name / "mail.private").write_bytes(PEM)
    return etc


def selectors(config: Config, *domains: str) -> list[str]:
    signer = read_signer(config)
    return [key.record_name for domain in domains for key in signer.table.select("x", domain, 0.0)]


def test_tables_with_a_key_for_each_domain(tmp_path: Path, etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "KeyTable").write_text(f"own %:mail:{etc}/keys/%/mail.private\n")
    (etc / "SigningTable").write_text("*@* own\n")
    (etc / "hosts").write_text("10.0.0.0/8\n")
    (etc / "opendkim.conf").write_text(
        f"KeyTable file:{etc}/KeyTable\nSigningTable refile:{etc}/SigningTable\nInternalHosts {etc}/hosts\n"
    )
    config = copied(tmp_path, etc / "opendkim.conf", monkeypatch)
    assert config.signing.opendkim == tmp_path / "relay/opendkim"
    assert "10.0.0.0/8" in map(str, config.clients.trusted)
    assert selectors(config, "a.example", "b.example") == [
        "mail._domainkey.a.example",
        "mail._domainkey.b.example",
    ]


def test_a_single_key(tmp_path: Path, etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "opendkim.conf").write_text(
        f"Domain a.example\nSelector s\nKeyFile {etc}/keys/a.example/mail.private\nInternalHosts 10.0.0.1, 10.0.0.2\n"
    )
    config = copied(tmp_path, etc / "opendkim.conf", monkeypatch)
    assert selectors(config, "a.example") == ["s._domainkey.a.example"]
    assert [str(network) for network in config.clients.trusted] == ["10.0.0.1/32", "10.0.0.2/32"]


def test_tables_without_opendkim_conf(tmp_path: Path, etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "KeyTable").write_text("k a.example:mail:./keys/a.example/mail.private\n")
    (etc / "SigningTable").write_text("*@a.example k\n")
    (etc / "TrustedHosts").write_text("10.0.0.1\n")
    config = copied(tmp_path, etc, monkeypatch)
    assert selectors(config, "a.example") == ["mail._domainkey.a.example"]
    assert [str(network) for network in config.clients.trusted] == ["10.0.0.1/32"]


def test_nothing_is_copied_that_can_be_read(tmp_path: Path, etc: Path) -> None:
    (etc / "opendkim.conf").write_text(f"Domain a.example\nSelector s\nKeyFile {etc}/keys/a.example/mail.private\n")
    written = folders.write(opendkim.read(etc / "opendkim.conf"), tmp_path / "relay", force=False)
    assert written.copies == []
    assert not (tmp_path / "relay/opendkim").exists()
