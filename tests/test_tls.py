"""How the log names TLS, and why a certificate cannot be used."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from relay.tls import UnusableCertificate, describe, load_certificate
from tests.certificates import write_certificate


@pytest.mark.parametrize(
    ("cipher", "version", "text"),
    [
        (("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256), "TLSv1.3", "TLSv1.3 TLS_AES_256_GCM_SHA384"),
        (None, "TLSv1.3", ""),
        (("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256), None, ""),
        (None, None, ""),
    ],
)
def test_version_and_cipher_or_nothing(cipher: tuple[str, str, int] | None, version: str | None, text: str) -> None:
    assert describe(cipher, version) == text


def _of_another(folder: Path) -> None:
    certificate = (folder / "cert.pem").read_bytes()
    write_certificate(folder, "another")
    (folder / "cert.pem").write_bytes(certificate)


def _encrypted(folder: Path) -> None:
    key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (folder / "key.pem").write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"passphrase")))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_of_another, "the certificate is for another key"),
        (_encrypted, "the key is encrypted"),
        (lambda folder: (folder / "cert.pem").write_text("rubbish"), "no PEM"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_told_in_words(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    write_certificate(tmp_path, "one")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_certificate(context, tmp_path / "cert.pem", tmp_path / "key.pem")
    spoil(tmp_path)
    with pytest.raises(UnusableCertificate, match=said):
        load_certificate(context, tmp_path / "cert.pem", tmp_path / "key.pem")
