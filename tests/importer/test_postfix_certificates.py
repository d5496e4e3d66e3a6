"""The certificates of Postfix."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.importer.folder import ask_for_missing, write
from tests.importer.loading import load_text, loaded, meanings
from tests.importer.postfix_site import site

KEY = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
Shown = tuple[str, str, tuple[str, ...]]


def shown(folder: Path, text: str, **files: str) -> list[Shown]:
    """The names of certificate and key of each pair, and for which hosts it is shown."""
    config = loaded(folder, site(folder, text, **files))
    pairs = () if config.tls is None else config.tls.pairs
    return [(pair.certificate.name, pair.private_key.name, pair.hosts) for pair in pairs]


def test_one_certificate(tmp_path: Path) -> None:
    draft = site(tmp_path, "smtpd_tls_cert_file = /etc/postfix/cert\nsmtpd_tls_security_level = encrypt\n", cert="x")
    assert draft.value(("tls",), "certificate") == f"{tmp_path}/postfix/cert"
    assert draft.value(("tls",), "private_key") == f"{tmp_path}/postfix/cert"
    assert draft.arrays["listen"][0].keys["tls"].value == "require"


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("/etc/postfix/both", [("both", "both")]),
        ("/etc/postfix/both, /etc/postfix/other", [("both", "both"), ("other", "other")]),
        (
            "/etc/postfix/key /etc/postfix/cert /etc/postfix/both",
            [("cert", "key"), ("both", "both")],
        ),
    ],
)
def test_chain_files(tmp_path: Path, text: str, pairs: list[tuple[str, str]]) -> None:
    files = {"both": KEY + CERTIFICATE, "other": KEY + CERTIFICATE, "key": KEY, "cert": CERTIFICATE}
    text = f"smtpd_tls_chain_files = {text}\nsmtpd_tls_cert_file = /etc/postfix/ignored\n"
    assert shown(tmp_path, text, **files) == [(certificate, key, ()) for certificate, key in pairs]


def test_a_file_with_several_certificates_is_named(tmp_path: Path) -> None:
    draft = site(tmp_path, "smtpd_tls_chain_files = /etc/postfix/all\n", all=2 * (KEY + CERTIFICATE))
    assert "the first alone" in meanings(draft)["smtpd_tls_chain_files"]


def test_keys_of_two_kinds(tmp_path: Path) -> None:
    text = "smtpd_tls_cert_file = /etc/postfix/rsa\nsmtpd_tls_eccert_file = /etc/postfix/ec\n"
    assert shown(tmp_path, text, rsa="x", ec="x") == [("rsa", "rsa", ()), ("ec", "ec", ())]


def test_a_port_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    master = "smtp inet n - y - - smtpd\n465 inet n - y - - smtpd -o smtpd_tls_wrappermode=yes"
    master += " -o smtpd_tls_cert_file=/etc/postfix/b\n"
    text = "smtpd_tls_cert_file = /etc/postfix/a\n"
    assert shown(tmp_path, text, a="x", b="x", **{"master.cf": master}) == [("a", "a", ()), ("b", "b", ())]


def test_certificates_by_name(tmp_path: Path) -> None:
    text = "smtpd_tls_cert_file = /etc/postfix/rsa\ntls_server_sni_maps = hash:/etc/postfix/sni\n"
    sni = "Mx.b.example /etc/postfix/key, /etc/postfix/cert\n.c.example /etc/postfix/both\na/b /x\n"
    files = {"rsa": "x", "sni": sni, "both": KEY + CERTIFICATE, "key": KEY, "cert": CERTIFICATE}
    assert shown(tmp_path, text, **files) == [
        ("rsa", "rsa", ()),
        ("cert", "key", ("mx.b.example",)),
        ("both", "both", ("*.c.example",)),
    ]
    said = meanings(site(tmp_path, text))
    assert "one more label" in said["tls_server_sni_maps .c.example"]
    assert "a/b" in said["tls_server_sni_maps a/b"]


def test_names_in_a_database_are_named(tmp_path: Path) -> None:
    draft = site(tmp_path, "tls_server_sni_maps = mysql:/x.cf\n")
    assert "[[tls.certificates]]" in meanings(draft)["tls_server_sni_maps = mysql:/x.cf"]


@pytest.mark.parametrize(
    "text", ["", "smtpd_tls_cert_file = none\n", "smtpd_tls_cert_file = /c\nsmtpd_tls_security_level = none\n"]
)
def test_no_certificate(tmp_path: Path, text: str) -> None:
    assert ("tls",) not in site(tmp_path, text).tables


def test_a_certificate_that_is_not_here_is_to_fill_in(tmp_path: Path) -> None:
    draft = site(tmp_path, "smtpd_tls_cert_file = /none/cert\nsmtpd_tls_eccert_file = /none/ec\n")
    ask_for_missing(draft)
    assert draft.to_fill_in() == ["tls.certificate", "tls.private_key", "srs.domain", "tls.certificates"]


def test_keys_that_our_user_may_not_read_are_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("relay.importer.folder._may_read", lambda path, user: False)
    text = "smtpd_tls_cert_file = /etc/postfix/rsa\nsmtpd_tls_eccert_file = /etc/postfix/ec\n"
    into = tmp_path / "relay"
    write(site(tmp_path, text, rsa="rsa", ec="ec"), into, force=False)
    config = load_text(into, (into / "relay.toml").read_text())
    assert config.tls is not None
    assert [pair.certificate.read_text() for pair in config.tls.pairs] == ["rsa", "ec"]
    assert [pair.certificate.parent for pair in config.tls.pairs] == [into, into]
