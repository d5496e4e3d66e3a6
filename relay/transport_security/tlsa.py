"""TLSA records (RFC 6698): which of them SMTP can use (RFC 7672), and which certificate a record names.

Whether a server is who its records say is decided in `dane`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from relay.dns import Tlsa

AUTHORITY, HOST = 2, 3  # usages DANE-TA and DANE-EE; the others are of no use in SMTP (RFC 7672 section 3.1.3)
CERTIFICATE, KEY = 0, 1  # selectors
FULL = 0  # the matching type without a digest

_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}  # from the weakest to the strongest


def is_usable(record: Tlsa) -> bool:
    """Whether senders can do anything with the record (RFC 7671 section 4)."""
    if record.usage not in (AUTHORITY, HOST) or record.selector not in (CERTIFICATE, KEY):
        return False
    if record.matching in _DIGESTS:
        return len(record.data) == _DIGESTS[record.matching]().digest_size
    if record.matching != FULL:
        return False
    try:
        if record.selector == KEY:
            load_der_public_key(record.data)
        else:
            x509.load_der_x509_certificate(record.data).public_key()
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm):
        return False
    return True


def strongest(records: Iterable[Tlsa]) -> list[Tlsa]:
    """Usable records without digests weaker than another of the same usage and selector (RFC 7671 section 9)."""
    usable = [record for record in records if is_usable(record)]
    best = {(usage, selector): matching for usage, selector, matching, _ in sorted(usable, key=lambda r: r.matching)}
    return [record for record in usable if record.matching in (FULL, best[record.usage, record.selector])]


def names(record: Tlsa, certificate: bytes) -> bool:
    """Whether a record names a certificate (DER); the octets on the wire count, whatever is wrong with them."""
    try:
        return association(certificate, record.selector, record.matching) == record.data
    except ValueError:
        return False


def data(certificate: x509.Certificate, selector: int, matching: int) -> bytes:
    """The data of a record for a certificate (selector 0) or its key (1)."""
    return association(certificate.public_bytes(Encoding.DER), selector, matching)


def association(certificate: bytes, selector: int, matching: int) -> bytes:
    """The data of a record for a certificate (DER).

    Raises:
        ValueError: no key can be found in it.
    """
    octets = certificate if selector == CERTIFICATE else _key(certificate)
    return _DIGESTS[matching](octets).digest() if matching else octets


def text(record: Tlsa) -> str:
    """The record as in a zone file, its data in lower-case hex."""
    return f"{record.usage} {record.selector} {record.matching} {record.data.hex()}"


def _key(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate, as it stands there (RFC 5280 section 4.1).

    It is cut out: a library that knows the kind of key writes some kinds in another way than it has read them.
    """
    at, _ = _element(certificate, 0)  # Certificate
    at, _ = _element(certificate, at)  # TBSCertificate
    if certificate[at : at + 1] == b"\xa0":  # version
        _, at = _element(certificate, at)
    for _ in ("serialNumber", "signature", "issuer", "validity", "subject"):
        _, at = _element(certificate, at)
    _, end = _element(certificate, at)
    return certificate[at:end]


def _element(octets: bytes, at: int) -> tuple[int, int]:
    """Where the content of a DER element begins, and where it ends (X.690 section 8.1)."""
    length = int.from_bytes(octets[at + 1 : at + 2], "big")
    begin = at + 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(octets[at + 2 : begin], "big")
    if begin + length > len(octets) or at + 2 > len(octets):
        raise ValueError("an element is longer than the certificate")
    return begin, begin + length
