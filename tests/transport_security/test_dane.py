"""Certificates against TLSA records, as RFC 7671 and RFC 7672 have it. `test_danetest` has OpenSSL's own cases."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.dns import Tlsa
from relay.transport_security.dane import BARE_KEYS, CHAIN_LENGTH, Mismatch, authenticate, match
from tests.transport_security.issued import BETWEEN, HOST, HOUR, NOW, OTHER, ROOT, Issued, host


def verdict(
    records: Sequence[Tlsa], *chain: Issued, hosts: Sequence[str] = (HOST,), when: datetime.datetime = NOW
) -> str:
    """`ok`, or the failure type."""
    try:
        authenticate(records, [each.certificate.public_bytes(Encoding.DER) for each in chain], hosts, when)
    except Mismatch as mismatch:
        return mismatch.result
    return "ok"


OWN = host(BETWEEN)
EVERY_FORM = [(selector, matching) for selector in (0, 1) for matching in (0, 1, 2)]


@pytest.mark.parametrize(("selector", "matching"), EVERY_FORM)
def test_every_form_of_record(selector: int, matching: int) -> None:
    for usage, named, expected in (
        (3, OWN, "ok"),
        (3, BETWEEN, "validation-failure"),
        (3, OTHER, "validation-failure"),
        (2, BETWEEN, "ok"),
        (2, ROOT, "ok"),
        (2, OWN, "validation-failure"),
        (2, OTHER, "validation-failure" if (selector, matching) != (0, 0) else "certificate-not-trusted"),
        (0, ROOT, "validation-failure"),
        (1, OWN, "validation-failure"),
    ):
        record = named.record(usage, selector, matching)
        assert verdict([record], OWN, BETWEEN, ROOT) == expected, (usage, named.name)


@pytest.mark.parametrize(("selector", "matching"), EVERY_FORM)
def test_an_authority_that_is_not_shown_has_to_be_whole_in_the_record(selector: int, matching: int) -> None:
    record = ROOT.record(2, selector, matching)
    assert verdict([record], OWN, BETWEEN) == ("ok" if matching == 0 else "validation-failure")
    assert verdict([record], OWN) == {
        (0, 0): "certificate-not-trusted",  # what is between them is missing
    }.get((selector, matching), "validation-failure")
    direct = BETWEEN.record(2, selector, matching)
    assert verdict([direct], OWN) == ("ok" if matching == 0 else "validation-failure")


KEYS: dict[str, Callable[[], CertificateIssuerPrivateKeyTypes]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "p-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "dsa": lambda: dsa.generate_private_key(2048),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_bare_key_is_the_key_that_signed(kind: str) -> None:
    authority = Issued("authority", key=KEYS[kind]())
    impostor = Issued("authority", key=KEYS[kind]())
    own = host(authority)
    assert verdict([authority.record(2, 1, 0)], own) == "ok"
    assert verdict([impostor.record(2, 1, 0)], own) == "validation-failure"
    assert verdict([impostor.record(2, 1, 0)], own, authority) == "validation-failure"
    for other in KEYS:
        if other != kind:
            assert verdict([Issued("authority", key=KEYS[other]()).record(2, 1, 0)], own) == "validation-failure"


def test_a_bare_key_may_have_signed_with_pss() -> None:
    authority = Issued("authority", key=rsa.generate_private_key(65537, 2048))
    own = host(authority, rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32))
    assert verdict([authority.record(2, 1, 0)], own) == "ok"


def test_one_record_that_fits_is_enough() -> None:
    wrong = OTHER.record(3, 1, 1), OTHER.record(2, 0, 0), OTHER.record(2, 1, 0), Tlsa(3, 1, 1, b"short")
    assert verdict([*wrong, OWN.record(3, 1, 1)], OWN) == "ok"
    assert verdict([*wrong, BETWEEN.record(2, 0, 1)], OWN, BETWEEN) == "ok"


def test_a_weaker_digest_does_not_count_beside_a_stronger_one() -> None:
    """RFC 7671 section 9: of two digests for the same thing, the stronger one is the one that was kept right."""
    stale = OTHER.record(3, 1, 2)
    assert verdict([OWN.record(3, 1, 1), stale], OWN) == "validation-failure"
    assert verdict([OWN.record(3, 0, 1), stale], OWN) == "ok"
    assert verdict([OWN.record(3, 1, 0), stale], OWN) == "ok"


def test_names_and_dates_do_not_count_where_the_certificate_itself_is_named() -> None:
    for own in (
        host(BETWEEN, "elsewhere.example", until=NOW - HOUR),
        host(BETWEEN, since=NOW + HOUR, until=NOW + 2 * HOUR),
        Issued("", authority=True),
    ):
        assert verdict([own.record(3, 1, 1)], own) == "ok"


def test_below_an_authority_dates_count() -> None:
    old = Issued("old", ROOT, until=NOW - HOUR)
    for record, *chain in (
        (BETWEEN.record(2, 0, 1), host(BETWEEN, until=NOW - HOUR), BETWEEN),
        (ROOT.record(2, 0, 1), host(old), old, ROOT),
        (old.record(2, 0, 1), host(old), old),
        (old.record(2, 0, 0), host(old)),
        (ROOT.record(2, 1, 0), host(ROOT, until=NOW - HOUR)),
    ):
        assert verdict([record], *chain) == "certificate-expired"
    for when, expected in ((NOW, "ok"), (NOW + 2 * HOUR, "certificate-expired")):
        assert verdict([BETWEEN.record(2, 0, 1)], OWN, BETWEEN, when=when) == expected
    early = host(BETWEEN, since=NOW + HOUR, until=NOW + 2 * HOUR)
    assert verdict([BETWEEN.record(2, 0, 1)], early, BETWEEN) == "certificate-not-trusted"


@pytest.mark.parametrize(
    ("names", "hosts", "expected"),
    [
        ([HOST], [HOST], True),
        (["MX.Far.Example"], [HOST], True),
        ([HOST], ["mx.FAR.example"], True),
        (["far.example"], [HOST, "far.example"], True),
        (["other.example", HOST], [HOST], True),
        (["*.far.example"], [HOST], True),
        (["*.far.example"], ["far.example"], False),
        (["*.far.example"], ["a.mx.far.example"], False),
        (["m*.far.example"], [HOST], False),
        (["*"], ["example"], False),
        (["*.example"], [HOST], False),
        (["other.example"], [HOST], False),
        ([HOST + "."], [HOST], False),
    ],
)
def test_below_an_authority_the_name_counts(names: Sequence[str], hosts: Sequence[str], expected: bool) -> None:
    own = host(BETWEEN, *names)
    for record, *above in ((BETWEEN.record(2, 1, 1), BETWEEN), (BETWEEN.record(2, 1, 0),)):
        result = verdict([record], own, *above, hosts=hosts)
        assert result == ("ok" if expected else "certificate-host-mismatch")


def test_the_common_name_counts_where_there_is_no_other() -> None:
    record = BETWEEN.record(2, 0, 1)
    assert verdict([record], Issued(HOST, BETWEEN, authority=False), BETWEEN) == "ok"
    assert verdict([record], Issued("*.far.example", BETWEEN, authority=False), BETWEEN) == "ok"
    both = Issued(HOST, BETWEEN, authority=False, names=["other.example"])
    assert verdict([record], both, BETWEEN) == "certificate-host-mismatch"
    assert verdict([record], Issued("", BETWEEN, authority=False), BETWEEN) == "certificate-host-mismatch"
    address = x509.SubjectAlternativeName([x509.RFC822Name("a@far.example")])
    assert verdict([record], Issued(HOST, BETWEEN, False, extensions=[address]), BETWEEN) == "ok"


@pytest.mark.parametrize(
    "octets",
    [
        b"nonsense",
        bytes.fromhex("3003820161ff"),
        bytes.fromhex("3004a3023000"),  # an X.400 address
        bytes.fromhex("3003870100"),  # an address of one octet
    ],
)
def test_names_that_cannot_be_read_are_for_nobody(octets: bytes) -> None:
    unreadable = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, octets)
    own = Issued(HOST, BETWEEN, authority=False, extensions=[unreadable])
    assert verdict([BETWEEN.record(2, 0, 1)], own, BETWEEN) in ("certificate-host-mismatch", "certificate-not-trusted")
    assert verdict([own.record(3, 0, 1)], own) == "ok"


def test_a_purpose_that_cannot_be_read_is_none() -> None:
    unreadable = x509.UnrecognizedExtension(ExtensionOID.EXTENDED_KEY_USAGE, b"nonsense")
    own = host(BETWEEN, extensions=[unreadable])
    assert verdict([BETWEEN.record(2, 0, 1)], own, BETWEEN) == "certificate-not-trusted"


def test_a_certificate_that_comes_more_than_once() -> None:
    records = BETWEEN.record(2, 0, 0), BETWEEN.record(2, 0, 1), ROOT.record(2, 1, 0), ROOT.record(2, 0, 0)
    assert verdict(records, OWN, BETWEEN, BETWEEN, ROOT, ROOT, OWN) == "ok"


def test_a_certificate_that_may_not_sign_leads_nowhere() -> None:
    plain = Issued("plain", ROOT, authority=False)
    for record in (ROOT.record(2, 0, 1), plain.record(2, 0, 1), plain.record(2, 0, 0)):
        assert verdict([record], host(plain), plain, ROOT) == "certificate-not-trusted"
    no_signing = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    limited = Issued("limited", ROOT, extensions=[no_signing])
    assert verdict([ROOT.record(2, 0, 1)], host(limited), limited, ROOT) == "certificate-not-trusted"


def test_an_authority_for_other_names_leads_nowhere() -> None:
    elsewhere = x509.NameConstraints([x509.DNSName("elsewhere.example")], None)
    limited = Issued("limited", ROOT, extensions=[elsewhere])
    assert verdict([ROOT.record(2, 0, 1)], host(limited), limited, ROOT) == "certificate-not-trusted"
    assert verdict([limited.record(2, 0, 1)], host(limited), limited) == "certificate-not-trusted"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (ExtendedKeyUsageOID.SERVER_AUTH, "ok"),
        (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, "ok"),
        (ExtendedKeyUsageOID.CLIENT_AUTH, "certificate-not-trusted"),
    ],
)
def test_what_the_certificate_is_for(usage: x509.ObjectIdentifier, expected: str) -> None:
    own = host(BETWEEN, extensions=[x509.ExtendedKeyUsage([usage])])
    assert verdict([BETWEEN.record(2, 0, 1)], own, BETWEEN) == expected
    assert verdict([own.record(3, 0, 1)], own) == "ok"


def test_a_chain_may_be_in_any_order_and_hold_more() -> None:
    record = ROOT.record(2, 0, 1)
    assert verdict([record], OWN, OTHER, ROOT, BETWEEN, OWN) == "ok"
    assert verdict([record], OWN, ROOT) == "certificate-not-trusted"
    crossed = Issued("between", OTHER, key=BETWEEN.key)
    assert verdict([record], OWN, BETWEEN, crossed, ROOT) == "ok"
    assert verdict([OTHER.record(2, 0, 1)], OWN, crossed, BETWEEN, OTHER, ROOT) == "ok"


def test_a_chain_that_is_signed_by_another_leads_nowhere() -> None:
    impostor = Issued("between", key=ec.generate_private_key(ec.SECP256R1()))
    assert verdict([impostor.record(2, 0, 1)], OWN, impostor) == "certificate-not-trusted"
    assert verdict([OTHER.record(2, 0, 1)], OWN, OTHER) == "certificate-not-trusted"


def test_a_self_signed_certificate_is_no_authority_of_its_own() -> None:
    """As OpenSSL has it: what signs nothing but itself is named by usage 3."""
    own = Issued(HOST, names=[HOST])
    for selector, matching in EVERY_FORM:
        expected = "ok" if (selector, matching) == (1, 0) else "validation-failure"  # its key did sign it
        assert verdict([own.record(2, selector, matching)], own, own) == expected
        assert verdict([own.record(3, selector, matching)], own) == "ok"


def test_a_server_that_shows_nothing() -> None:
    assert verdict([OWN.record(3, 1, 1)]) == "validation-failure"


def test_a_hostile_chain_takes_bounded_time() -> None:
    """Each signature that is tried costs up to a millisecond; no honest chain or set of records is as long."""
    records = [Issued("another").record(2, 1, 0) for _ in range(BARE_KEYS)]
    assert verdict([*records[1:], BETWEEN.record(2, 1, 0)], OWN) == "ok"
    assert verdict([*records, BETWEEN.record(2, 1, 0)], OWN) == "validation-failure"
    others = [Issued("between") for _ in range(CHAIN_LENGTH - 1)]
    assert verdict([ROOT.record(2, 1, 0)], OWN, *others[1:], BETWEEN) == "ok"
    assert verdict([ROOT.record(2, 1, 0)], OWN, *others, BETWEEN) == "validation-failure"


@pytest.mark.filterwarnings("ignore:Parsed a serial number:UserWarning")
@settings(max_examples=200)
@given(st.lists(st.binary(max_size=40), max_size=3), st.integers(0, 400), st.integers(0, 255))
def test_arbitrary_octets_prove_nothing(octets: list[bytes], at: int, octet: int) -> None:
    own = bytearray(OWN.certificate.public_bytes(Encoding.DER))
    own[at % len(own)] = octet
    records = [ROOT.record(2, 0, 1), ROOT.record(2, 1, 0), BETWEEN.record(2, 0, 0), OTHER.record(3, 0, 1)]
    if bytes(own) == OWN.certificate.public_bytes(Encoding.DER):
        return
    for chain in ([bytes(own), *octets], [*octets, bytes(own)]):
        with pytest.raises(Mismatch):
            authenticate(records, chain, [HOST], NOW)


def test_what_a_check_says_of_each_record() -> None:
    chain = [each.certificate for each in (OWN, BETWEEN)]
    records = OWN.record(3, 1, 1), OTHER.record(3, 1, 1), OWN.record(1, 1, 1)
    assert [match(record, chain, HOST, NOW) for record in records] == ["matches", "differs", "useless"]
