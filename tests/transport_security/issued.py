"""Certificates and authorities of every kind, right and wrong ones, for the tests of DANE."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.dns import Tlsa
from relay.transport_security.tlsa import data

HOST = "mx.far.example"
NOW = datetime.datetime.now(datetime.UTC)
HOUR = datetime.timedelta(hours=1)


@dataclass
class Issued:
    """A certificate with its key; the fields say what is unusual about it."""

    name: str
    above: Issued | None = None
    authority: bool = True
    names: Sequence[str] = ()
    until: datetime.datetime = NOW + HOUR
    since: datetime.datetime = NOW - 2 * HOUR
    key: CertificateIssuerPrivateKeyTypes = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    extensions: Sequence[x509.ExtensionType] = ()
    rsa_padding: padding.PSS | None = None

    def __post_init__(self) -> None:
        issuer = self.above or self
        digest = None if isinstance(issuer.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(self.name))
            .issuer_name(_name(issuer.name))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.since)
            .not_valid_after(self.until)
            .add_extension(x509.BasicConstraints(self.authority, None), True)
        )
        if self.names:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in self.names]), False)
        for extension in self.extensions:
            builder = builder.add_extension(extension, False)
        self.certificate = builder.sign(issuer.key, digest, rsa_padding=self.rsa_padding)

    def record(self, usage: int, selector: int, matching: int) -> Tlsa:
        return Tlsa(usage, selector, matching, data(self.certificate, selector, matching))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)] if text else [])


def host(above: Issued | None = None, *names: str, **more: object) -> Issued:
    """The certificate of a host, by default for `HOST`."""
    return Issued("host", above, authority=False, names=names or (HOST,), **more)  # type: ignore[arg-type]


ROOT = Issued("root")
BETWEEN = Issued("between", ROOT)
OTHER = Issued("other")


def server_context(folder: Path, *chain: Issued) -> ssl.SSLContext:
    """What a server needs to show these certificates, its own first; `chain.pem` has them behind the key."""
    pem = [chain[0].key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
    pem += [each.certificate.public_bytes(Encoding.PEM) for each in chain]
    (folder / "chain.pem").write_bytes(b"".join(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem")
    return context
