"""Certificates with the authorities above them, for the tests of TLSA records."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Authority:
    """An authority; without one above it, it signs its own certificate."""

    def __init__(self, name: str, above: Authority | None = None) -> None:
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = (above or self).issue(self._name, self._key, x509.BasicConstraints(True, None))

    def issue(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        """Sign a certificate, good for a day."""
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def host(self, folder: Path, name: str) -> x509.Certificate:
        """The certificate of a host; `key.pem` in the folder has its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / "key.pem").write_bytes(key.private_bytes(*pem))
        return self.issue(subject, key, x509.SubjectAlternativeName([x509.DNSName(name)]))


def write_chain(folder: Path, *chain: x509.Certificate) -> None:
    """Write `cert.pem`."""
    pem = (certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)
    (folder / "cert.pem").write_bytes(b"".join(pem))
