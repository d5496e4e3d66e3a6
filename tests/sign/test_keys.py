"""Keys: what is read, what is refused and how it is told, and the record that DNS must show."""

from __future__ import annotations

import base64
import hashlib
import warnings
from datetime import UTC, datetime
from pathlib import Path

import dkim.crypto
import dns.rdatatype
import dns.zone
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from relay.config.model import ConfigError
from relay.config.sections import ArcSection, DkimSection
from relay.sign import keys
from relay.sign.keys import SigningKey
from tests import corpus

RSA_512 = b"""\
-----BEGIN RSA PRIVATE KEY-----
MIIBOwIBAAJBAKnYNgzWEEqjZQj79MJXMMnhziqwcvOC7RI1BDoaOuBmA749Tjju
4WYHHX16IKg9FshzP0W1xXaqeVqFV866g2cCAwEAAQJBAIP2ochHalETsyTP3tRA
un+hGnbAsg/R4jELUEV0q9o9JDdzjPzs967kXRHV146EfuwrjshcrcC882ae+IdS
ZsECIQDgSPOPcyhnbVT+Ax9nrFXmbwsR4CMMYgJ/4cNzSEBicwIhAMHciKrH5an5
hSMbVxiGUd1z2/Squ+rtGzlc/mNEVzo9AiEA3S80eziPFQiec+6ybvRmtly2JwfK
qLCTVHhZ3vvW+v8CIF6+RfiY+zAH5z5SFU3CD25YOi4n5vEYcg6l2Rlwg+TNAiB4
gMPsgM4MezPcEV0nY0LjR82ypkzPzbN1te5j+c37WA==
-----END RSA PRIVATE KEY-----
"""


def entry(path: Path) -> DkimSection:
    return DkimSection(domain="fwd.example", selector="relay1", private_key=path)


def loaded(tmp_path: Path, pem: bytes) -> SigningKey:
    path = tmp_path / "key.pem"
    path.write_bytes(pem)
    return keys.load(entry(path))


def public_octets(key: SigningKey) -> bytes:
    return base64.b64decode(key.public_record().rpartition("p=")[2], validate=True)


@pytest.mark.parametrize("kind", ["rsa2048", "ed25519"])
def test_a_generated_key_loads_without_a_warning(tmp_path: Path, kind: keys.KeyType) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        key = loaded(tmp_path, keys.generate(kind))
        key.sign(b"data")
        key.public_record()
    assert (key.domain, key.selector) == ("fwd.example", "relay1")


@pytest.mark.slow
def test_4096_bits_are_what_was_asked_for(tmp_path: Path) -> None:
    public = load_der_public_key(public_octets(loaded(tmp_path, keys.generate("rsa4096"))))
    assert isinstance(public, RSAPublicKey)
    assert public.key_size == 4096


def test_pkcs1_and_pkcs8_hold_the_same_key(tmp_path: Path) -> None:
    parsed = load_pem_private_key(corpus.RSA_PEM, None)
    pkcs8 = parsed.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert loaded(tmp_path, corpus.RSA_PEM).public_record() == loaded(tmp_path, pkcs8).public_record()


def test_an_rsa_signature_is_pkcs1_over_sha256_and_the_record_verifies_it() -> None:
    public = load_der_public_key(public_octets(corpus.RSA))
    assert isinstance(public, RSAPublicKey)
    signature = corpus.RSA.sign(b"data")
    public.verify(signature, b"data", PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        public.verify(signature, b"date", PKCS1v15(), hashes.SHA256())
    # dkimpy's RSA is of its own making
    own = dkim.crypto.parse_public_key(public_octets(corpus.RSA))
    assert dkim.crypto.RSASSA_PKCS1_v1_5_verify(hashlib.sha256(b"data"), signature, own)


def test_an_ed25519_signature_is_over_the_digest_and_the_record_verifies_it() -> None:
    # RFC 8463 section 3: the SHA-256 digest is the message that Ed25519 signs
    public = Ed25519PublicKey.from_public_bytes(public_octets(corpus.ED25519))
    public.verify(corpus.ED25519.sign(b"data"), hashlib.sha256(b"data").digest())


def test_the_record_of_the_published_ed25519_key(tmp_path: Path) -> None:
    # RFC 8463 appendix A.2: secret and record
    seed = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    pem = corpus.ED25519_PEM.replace(
        base64.b64encode(corpus.PKCS8_ED25519 + corpus.ED25519_SEED), base64.b64encode(corpus.PKCS8_ED25519 + seed)
    )
    assert loaded(tmp_path, pem).public_record() == corpus.RECORDS["brisbane._domainkey.football.example.com"]


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        (RSA_512, "an RSA key of 512 bits"),
        (b"", "not a private key"),
        (b"v=DKIM1; k=rsa; p=AAAA", "not a private key"),
        (corpus.RSA_PEM.replace(b"43hIU", b""), "not a private key"),
        (
            load_pem_private_key(corpus.RSA_PEM, None)
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "not a private key",
        ),
        (
            load_pem_private_key(corpus.RSA_PEM, None).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
            ),
            "has a password",
        ),
        (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "neither an RSA nor an Ed25519 key",
        ),
    ],
    ids=["short", "empty", "record", "damaged", "public", "password", "elliptic"],
)
def test_a_key_that_cannot_sign_is_refused_by_file_and_reason(tmp_path: Path, pem: bytes, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, pem)
    assert str(tmp_path / "key.pem") in str(refused.value)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.pem: No such file"):
        keys.load(entry(tmp_path / "gone.pem"))


def test_a_key_knows_when_it_signs(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(corpus.RSA_PEM)
    since, until = datetime(2026, 7, 1, tzinfo=UTC), datetime(2027, 7, 1, tzinfo=UTC)
    limited = entry(tmp_path / "key.pem").model_copy(update={"active_from": since, "active_until": until})
    key = keys.load(limited)
    turns = [moment.timestamp() + step for moment in (since, until) for step in (-0.001, 0)]
    assert [key.state(now) for now in turns] == ["waiting", "active", "active", "retired"]


def test_a_sealing_key_has_to_be_rsa(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(corpus.RSA_PEM)
    arc = ArcSection(domain="fwd.example", selector="arc1", private_key=path)
    sealing = keys.load_sealing(arc)
    assert sealing is not None and sealing.record_name == "arc1._domainkey.fwd.example"
    assert keys.load_sealing(ArcSection()) is None
    path.write_bytes(corpus.ED25519_PEM)
    with pytest.raises(ConfigError, match=r"key\.pem: ARC needs an RSA key"):
        keys.load_sealing(arc)


@pytest.mark.parametrize("key", [corpus.RSA, corpus.ED25519], ids=["rsa", "ed25519"])
def test_the_private_half_is_never_shown(key: SigningKey) -> None:
    assert "_private" not in repr(key)


def test_the_zone_line_is_read_by_a_name_server_as_the_record() -> None:
    key = SigningKey("fwd.example", "relay1", keys.parse(keys.generate("rsa2048")))
    line = keys.zone_line(key.record_name, key.public_record())
    zone = dns.zone.from_text(line, origin="fwd.example", relativize=False, check_origin=False)
    (record,) = zone.find_rdataset("relay1._domainkey.fwd.example.", dns.rdatatype.TXT)
    assert b"".join(record.strings).decode() == key.public_record()
    assert len(record.strings[0]) == 255


def test_quotes_and_backslashes_survive_the_zone_file() -> None:
    zone = dns.zone.from_text(keys.zone_line("a.example", 'x"y\\z'), origin="a.example", check_origin=False)
    (record,) = zone.find_rdataset("@", dns.rdatatype.TXT)
    assert record.strings == (b'x"y\\z',)
