"""TLSA records: which of them are of use, and which certificate they name."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from relay.dns import UNREADABLE_TLSA, Tlsa
from relay.transport_security.tlsa import association, data, is_usable, names, strongest, text
from tests.check.chains import Authority

HOST = "mx.fwd.example"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> x509.Certificate:
    return Authority("root").host(tmp_path_factory.mktemp("key"), HOST)


@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("selector", [0, 1])
def test_every_form_of_record_names_its_certificate(
    certificate: x509.Certificate, selector: int, matching: int, tmp_path: Path
) -> None:
    other = Authority("other").host(tmp_path, HOST)
    record = Tlsa(3, selector, matching, data(certificate, selector, matching))
    assert is_usable(record)
    assert names(record, certificate.public_bytes(Encoding.DER))
    assert not names(record, other.public_bytes(Encoding.DER))


@pytest.mark.parametrize(
    "record",
    [
        UNREADABLE_TLSA,
        Tlsa(0, 1, 1, b"x" * 32),
        Tlsa(1, 1, 1, b"x" * 32),
        Tlsa(3, 1, 1, b"x" * 31),
        Tlsa(3, 1, 2, b"x" * 32),
        Tlsa(3, 2, 1, b"x" * 32),
        Tlsa(3, 1, 3, b"x" * 32),
        Tlsa(4, 1, 1, b"x" * 32),
        Tlsa(3, 0, 0, b""),
        Tlsa(3, 0, 0, b"no certificate"),
        Tlsa(2, 1, 0, b"no key"),
    ],
)
def test_what_nobody_can_use(record: Tlsa) -> None:
    assert not is_usable(record)


def test_as_in_a_zone_file() -> None:
    assert text(Tlsa(3, 1, 1, b"\x01\xff")) == "3 1 1 01ff"


def test_the_stronger_digest_hides_the_weaker_one() -> None:
    """RFC 7671 section 9; whole certificates and keys always count."""
    weak, strong = Tlsa(3, 1, 1, b"w" * 32), Tlsa(3, 1, 2, b"s" * 64)
    others = Tlsa(3, 0, 1, b"w" * 32), Tlsa(2, 1, 1, b"w" * 32)
    useless = Tlsa(2, 1, 2, b"too short"), Tlsa(1, 1, 2, b"s" * 64), Tlsa(3, 0, 3, b"w" * 32)
    key = Tlsa(3, 1, 0, ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*SPKI))
    assert strongest([weak, strong, *others, *useless, key]) == [strong, *others, key]
    assert strongest([weak, *useless]) == [weak]


SPKI = Encoding.DER, PublicFormat.SubjectPublicKeyInfo


def test_the_key_is_cut_out_of_the_certificate(certificate: x509.Certificate) -> None:
    octets = certificate.public_bytes(Encoding.DER)
    assert association(octets, 1, 0) == certificate.public_key().public_bytes(*SPKI)


def test_a_certificate_of_the_first_version_has_no_field_for_its_version(certificate: x509.Certificate) -> None:
    signed = certificate.tbs_certificate_bytes
    begin = signed.index(b"\xa0\x03\x02\x01\x02")
    fields = signed[begin + 5 :]
    old = b"\x30\x82" + len(fields).to_bytes(2, "big") + fields
    old = b"\x30\x82" + len(old).to_bytes(2, "big") + old
    assert association(old, 1, 0) == certificate.public_key().public_bytes(*SPKI)


def test_the_key_stays_as_it_was_written() -> None:
    """A key that says that it is for PSS only (RFC 4055) would be written without that by cryptography."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256(), rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32))
    )
    plain = bytes.fromhex("300d06092a864886f70d0101010500")
    pss_only = bytes.fromhex("300d06092a864886f70d01010a0500")
    octets = certificate.public_bytes(Encoding.DER).replace(plain, pss_only)
    assert association(octets, 1, 0) == key.public_key().public_bytes(*SPKI).replace(plain, pss_only)


@given(st.binary(max_size=80), st.sampled_from([0, 1]), st.sampled_from([0, 1, 2]))
def test_arbitrary_octets_are_no_certificate(octets: bytes, selector: int, matching: int) -> None:
    assert not names(Tlsa(3, selector, matching, b"x" * 100), octets)
    is_usable(Tlsa(2, selector, matching, octets))
