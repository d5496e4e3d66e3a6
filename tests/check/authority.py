"""An authority with an intermediate, as public ones are, and certificates of it for the hosts under test."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Signed:
    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def signed(
    name: str,
    issuer: Signed | None,
    *,
    hosts: Sequence[str] = (),
    days: tuple[float, float] = (-1, 90),
    key: Key | None = None,
) -> Signed:
    """A certificate: of an authority, or of hosts where any are given; self-signed without an issuer.

    Args:
        days: from now to its beginning and to its end.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signer = issuer or Signed(None, key)  # type: ignore[arg-type]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=not hosts, path_length=None), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), False)
    return Signed(builder.sign(signer.key, hashes.SHA256()), key)


class Authority:
    """Its root is a file, for SSL_CERT_FILE."""

    def __init__(self, folder: Path) -> None:
        self.root = signed(f"Root {folder.name}", None)
        self.intermediate = signed("Intermediate", self.root)
        self.root_file = folder / "root.pem"
        self.root_file.write_bytes(self.root.pem)


def write(folder: Path, leaf: Signed, *others: Signed) -> None:
    """`cert.pem` with the leaf and the others below it, and `key.pem`."""
    (folder / "cert.pem").write_bytes(b"".join(entry.pem for entry in (leaf, *others)))
    pem = leaf.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(pem)
