"""Whether the certificates of a server are those that its TLSA records name (RFC 7671, RFC 7672 section 3).

A record of usage 3 names the server's own certificate or its key, whatever names and dates are in it. One of usage 2
names an authority: then the chain from the server's certificate up to it has to be right, and the certificate in date
and for one of the names of the host. OpenSSL builds the chain; a record's authority need not be a root.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from relay.dns import Tlsa
from relay.transport_security.tlsa import AUTHORITY, CERTIFICATE, FULL, HOST, KEY, is_usable, names, strongest

Match = Literal["matches", "differs", "useless"]

CHAIN_LENGTH = 16  # certificates of a chain that are looked at: the longest in use have five
BARE_KEYS = 8  # records with a whole key that are tried: each costs up to one verified signature a certificate

_UNREADABLE = (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_SERVER_USAGES = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


class Mismatch(Exception):
    """The certificates are not those that the records name; the text says why.

    Attributes:
        result: the failure type of RFC 8460 section 4.3.
    """

    def __init__(self, result: str, problem: str) -> None:
        self.result = result
        super().__init__(problem)


def authenticate(
    records: Sequence[Tlsa], chain: Sequence[bytes], hosts: Sequence[str], when: datetime.datetime
) -> None:
    """Check the certificates that a server has shown; one record that fits is enough.

    A long chain can take tenths of a second.

    Args:
        records: of the server; those that are not usable are ignored.
        chain: the certificates as they came (DER), the server's own first.
        hosts: the names that the certificate may be for, where an authority is named (RFC 7672 section 3.2.2).
        when: the time at which it has to be in date.

    Raises:
        Mismatch: no record fits.
    """
    records = strongest(records)
    if not chain:
        raise Mismatch("validation-failure", "the server has shown no certificate")
    if any(record.usage == HOST and names(record, chain[0]) for record in records):
        return
    above = [record for record in records if record.usage == AUTHORITY]
    if not above:
        raise Mismatch("validation-failure", "no TLSA record fits its certificate")
    _below_authority(above, chain[:CHAIN_LENGTH], hosts, when)


def match(record: Tlsa, chain: Sequence[x509.Certificate], host: str, when: datetime.datetime) -> Match:
    """Whether a sender that follows the record accepts a host with this chain, whose own certificate is the first."""
    if not is_usable(record):
        return "useless"
    try:
        authenticate([record], [certificate.public_bytes(Encoding.DER) for certificate in chain], [host], when)
    except Mismatch:
        return "differs"
    return "matches"


def covers(certificate: x509.Certificate, host: str) -> bool:
    """Whether a certificate is for a host name (RFC 7672 section 3.2.3): by name, or by `*.` for one label.

    The common name counts only where the certificate has no DNS name otherwise. One whose names cannot be read is for
    nobody.
    """
    try:
        found = _alternative_names(certificate) or [
            str(name.value) for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        ]
    except _UNREADABLE:
        return False
    host = host.lower()
    return not {host, f"*.{host.partition('.')[2]}"}.isdisjoint(name.lower() for name in found)


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _below_authority(
    records: Sequence[Tlsa], chain: Sequence[bytes], hosts: Sequence[str], when: datetime.datetime
) -> None:
    """Check the chain from the server's certificate to one of the authorities. Raises Mismatch."""
    own = _read(chain[0])
    if own is None:
        raise Mismatch("certificate-not-trusted", "its certificate cannot be read")
    others = [each for octets in chain[1:] if octets != chain[0] and (each := _read(octets))]
    anchors = [each for each in others if any(names(record, each.octets) for record in records)]
    whole = (record.data for record in records if (record.selector, record.matching) == (CERTIFICATE, FULL))
    anchors += [each for octets in whole if octets != chain[0] and (each := _read(octets))]
    bare = (record.data for record in records if (record.selector, record.matching) == (KEY, FULL))
    anchors += [each for key in islice(bare, BARE_KEYS) for each in (own, *others) if _signed(each.parsed, key)]
    if not anchors:
        raise Mismatch("validation-failure", "no TLSA record fits a certificate of its chain")
    for certificate in _path(own, others, anchors, when):
        if not _is_for_servers(certificate.to_cryptography()):
            raise Mismatch("certificate-not-trusted", "its certificate is not for servers")
    if not any(covers(own.parsed, host) for host in hosts):
        raise Mismatch("certificate-host-mismatch", f"its certificate is not for {' or '.join(hosts)}")


class _Certificate(NamedTuple):
    """A certificate as it came, and as the two libraries read it."""

    octets: bytes
    parsed: x509.Certificate
    openssl: crypto.X509


def _read(octets: bytes) -> _Certificate | None:
    try:
        parsed = x509.load_der_x509_certificate(octets)
        return _Certificate(octets, parsed, crypto.X509.from_cryptography(parsed))
    except (*_UNREADABLE, crypto.Error):
        return None


def _path(
    own: _Certificate, others: Sequence[_Certificate], anchors: Iterable[_Certificate], when: datetime.datetime
) -> list[crypto.X509]:
    """The chain from the server's certificate to an anchor, both included. Raises Mismatch."""
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # an anchor need not have signed itself
    store.set_time(when)
    for anchor in anchors:
        store.add_cert(anchor.openssl)
    context = crypto.X509StoreContext(store, own.openssl, [each.openssl for each in others])
    try:
        return context.get_verified_chain()
    except crypto.X509StoreContextError as error:
        code, depth, *_ = error.errors
        result = "certificate-expired" if code == _EXPIRED else "certificate-not-trusted"
        which = "its certificate" if depth == 0 else f"certificate {depth} of its chain"
        raise Mismatch(result, f"{which}: {error}") from None


def _signed(certificate: x509.Certificate, key: bytes) -> bool:
    """Whether the signature of a certificate was made with a key (DER)."""
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        public: PublicKeyTypes = load_der_public_key(key)
        how, digest = certificate.signature_algorithm_parameters, certificate.signature_hash_algorithm
        if isinstance(public, rsa.RSAPublicKey) and isinstance(how, padding.PKCS1v15 | padding.PSS) and digest:
            public.verify(signature, signed, how, digest)
        elif isinstance(public, ec.EllipticCurvePublicKey) and isinstance(how, ec.ECDSA):
            public.verify(signature, signed, how)
        elif isinstance(public, dsa.DSAPublicKey) and how is None and digest:
            public.verify(signature, signed, digest)
        elif isinstance(public, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) and how is None:
            public.verify(signature, signed)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _is_for_servers(certificate: x509.Certificate) -> bool:
    """Whether a certificate, or what an authority with it signs, is for servers (RFC 5280 section 4.2.1.12)."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    except _UNREADABLE:
        return False
    return not _SERVER_USAGES.isdisjoint(usages)
