"""TLSA records (RFC 6698) against a certificate chain, as SMTP uses them (RFC 7672).

Usage 3 names our certificate or its key, whatever names and dates it has. Usage 2 names an authority above it, and then
the certificate has to be good for the host. Usages 0 and 1 are useless in SMTP (RFC 7672 section 3.1.3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from relay.dns import Tlsa

Match = Literal["matches", "differs", "useless"]

_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}


def match(record: Tlsa, chain: Sequence[x509.Certificate], host: str) -> Match:
    """Whether a sender that follows the record accepts a host with this chain.

    Args:
        chain: ours first, each one issued by the next.
        host: the base domain of the record: the name of the mail host.
    """
    if not is_usable(record):
        return "useless"
    if record.usage == 3:
        return "matches" if _names(record, chain[0]) else "differs"
    return "matches" if _names_authority(record, chain) and covers(chain[0], host) else "differs"


def is_usable(record: Tlsa) -> bool:
    """Whether senders can do anything with the record (RFC 7671 section 4)."""
    if record.usage not in (2, 3) or record.selector not in (0, 1) or record.matching not in (0, 1, 2):
        return False
    if record.matching:
        return len(record.data) == _DIGESTS[record.matching]().digest_size
    try:
        _ = x509.load_der_x509_certificate(record.data) if not record.selector else load_der_public_key(record.data)
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def data(certificate: x509.Certificate, selector: int, matching: int) -> bytes:
    """The data of a record for a certificate (selector 0) or its key (1)."""
    if selector == 0:
        octets = certificate.public_bytes(Encoding.DER)
    else:
        octets = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _DIGESTS[matching](octets).digest() if matching else octets


def text(record: Tlsa) -> str:
    """The record as in a zone file, its data in lower-case hex."""
    return f"{record.usage} {record.selector} {record.matching} {record.data.hex()}"


def covers(certificate: x509.Certificate, host: str) -> bool:
    """Whether a certificate is for a host name (RFC 7672 section 3.2.2): by name, or by `*.` for one label."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return False
    names = {name.lower() for name in extension.value.get_values_for_type(x509.DNSName)}
    return host in names or f"*.{host.partition('.')[2]}" in names


def _names(record: Tlsa, certificate: x509.Certificate) -> bool:
    return data(certificate, record.selector, record.matching) == record.data


def _names_authority(record: Tlsa, chain: Sequence[x509.Certificate]) -> bool:
    """Whether one above the first is named, or the last is issued by a certificate that the record has in full."""
    for issued, issuer in pairwise(chain):
        if not _issued(issued, issuer):
            return False
        if _names(record, issuer):
            return True
    if record.matching or record.selector:
        return False
    return _issued(chain[-1], x509.load_der_x509_certificate(record.data))


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
