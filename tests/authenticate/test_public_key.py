"""What key records say of a signature (RFC 6376 section 3.6.1), and what becomes of it when DNS says nothing."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.authenticate import public_key
from relay.dns import DnsFailure
from tests.authenticate.signing import ED25519, RSA, signed, verdict

P = RSA.public_record().partition("p=")[2]
ED25519_P = ED25519.public_record().partition("p=")[2]


def encoded(public: object, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> str:
    octets: bytes = public.public_bytes(Encoding.DER, form)  # type: ignore[attr-defined]
    return base64.b64encode(octets).decode()


def rsa_of(bits: int, exponent: int = 65537) -> str:
    return encoded(RSAPublicNumbers(exponent, (1 << bits - 1) | 1).public_key())


@pytest.mark.parametrize(
    "record",
    [
        f"v=DKIM1; k=rsa; p={P}",
        f"p={P}",
        f"p={P};",
        f"v=DKIM1;p={P[:40]} {P[40:80]}\r\n\t{P[80:]}",
        f"k=rsa; p={P}; v_=1",
        f"v=DKIM1; h=sha256; p={P}",
        f"v=DKIM1; h=sha1 : sha256; p={P}",
        f"v=DKIM1; s=email; p={P}",
        f"v=DKIM1; s=tlsrpt:*; p={P}",
        f"v=DKIM1; s=tlsrpt : email; p={P}",
        f"v=DKIM1; g=other; n=Gr\u00fc\u00dfe, a note; x=y; t=z; p={P}",
    ],
)
async def test_a_key_that_fits(record: str) -> None:
    assert (await verdict(signed(), {RSA.record_name: record})).result == "pass"


async def test_a_key_in_the_older_form() -> None:
    public = public_key.parse_record(f"p={P}", "rsa-sha256").public
    record = f"v=DKIM1; p={encoded(public, PublicFormat.PKCS1)}"
    assert (await verdict(signed(), {RSA.record_name: record})).result == "pass"


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("", "no key (p=)"),
        ("v=DKIM1", "no key (p=)"),
        ("v=DKIM1; p=", "revoked"),
        ("v=DKIM1; p=; p=", "malformed: p= is there twice"),
        (f"v=DKIM2; p={P}", "none of DKIM1"),
        (f"v=dkim1; p={P}", "none of DKIM1"),
        (f"k=rsa; v=DKIM1; p={P}", "none of DKIM1"),
        ("v=spf1 include:author.example -all", "none of DKIM1"),
        ("an explanation", "malformed: no tag=value"),
        (f"v=DKIM1; k=ed25519; p={P}", "not for rsa (k=)"),
        (f"v=DKIM1; k=; p={P}", "not for rsa (k=)"),
        (f"v=DKIM1; h=sha1; p={P}", "not for sha256 (h=)"),
        (f"v=DKIM1; s=tlsrpt; p={P}", "not for mail (s=)"),
        ("v=DKIM1; p=AAAA", "no rsa key"),
        (f"v=DKIM1; p={P[:-8]}", "no rsa key"),
        (f"v=DKIM1; p={P[:-1]}", "no base64"),
        (f"v=DKIM1; p={P[:-3]}?==", "no base64"),
        (f"v=DKIM1; p={ED25519_P}", "no rsa key"),
        ("v=DKIM1; p=MCowBQYDK2VwAyEA" + ED25519_P, "no rsa key"),
        ("v=DKIM1; p=" + "A" * 6000, "no rsa key"),
    ],
)
async def test_a_record_without_a_key_for_it(record: str, problem: str) -> None:
    found = await verdict(signed(), {RSA.record_name: record})
    assert found.result == "permerror"
    assert problem in found.problem


@pytest.mark.parametrize("record", [f"v=DKIM1; p={ED25519_P}", "v=DKIM1; k=ed25519; p=AAAA", f"k=ed25519; p={P}"])
async def test_a_record_without_an_ed25519_key(record: str) -> None:
    found = await verdict(signed(key=ED25519), {ED25519.record_name: record})
    assert (found.result, "ed25519" in found.problem) == ("permerror", True)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (rsa_of(512), "an RSA key of 512 bits"),
        (rsa_of(1023), "an RSA key of 1023 bits"),
        (rsa_of(9000), "an RSA key of 9000 bits"),
        (rsa_of(2048, (1 << 2000) + 1), "exponent"),
    ],
)
async def test_a_key_that_proves_nothing_or_takes_too_long(key: str, problem: str) -> None:
    found = await verdict(signed(), {RSA.record_name: f"v=DKIM1; p={key}"})
    assert found.result == "policy"
    assert problem in found.problem


async def test_another_key_than_the_one_that_signed() -> None:
    assert (await verdict(signed(), {RSA.record_name: f"p={rsa_of(1024)}"})).result == "fail"
    other = base64.b64encode(bytes(31) + b"\1").decode()
    record = f"v=DKIM1; k=ed25519; p={other}"
    assert (await verdict(signed(key=ED25519), {ED25519.record_name: record})).result == "fail"


async def test_flags() -> None:
    def key(flags: str) -> dict[str, str]:
        return {RSA.record_name: f"v=DKIM1; t={flags}; p={P}"}

    below = signed(i="@sub.author.example")
    assert (await verdict(below, key("y"))).result == "pass"
    strict = await verdict(below, key("y : s"))
    assert (strict.result, strict.problem) == ("permerror", "the key is for author.example itself only (t=s)")
    assert (await verdict(signed(i="ann@AUTHOR.example"), key("s"))).result == "pass"
    assert (await verdict(signed(), key("s"))).result == "pass"
    assert (await verdict(signed(), key("s:y"))).testing
    assert not (await verdict(signed(), key("yes"))).testing


@pytest.mark.parametrize(
    ("records", "result"),
    [
        (["v=spf1 -all", f"v=DKIM1; p={P}"], "pass"),
        (["v=DKIM1; p=", f"v=DKIM1; p={P}"], "pass"),
        ([f"v=DKIM1; p={P}", f"v=DKIM1; p={rsa_of(1024)}"], "pass"),
        ([f"v=DKIM1; p={rsa_of(1024)}", "v=spf1 -all"], "fail"),
        (["v=spf1 -all"] * 3 + [f"v=DKIM1; p={P}"], "permerror"),
        ([], "permerror"),
    ],
)
async def test_several_records(records: Sequence[str], result: str) -> None:
    assert (await verdict(signed(), {RSA.record_name: records})).result == result


async def test_what_dns_does_not_tell_is_for_now_and_what_is_not_there_for_good() -> None:
    failed = await verdict(signed(), {RSA.record_name: DnsFailure("rsa._domainkey.author.example TXT: timeout")})
    assert (failed.result, failed.problem) == ("temperror", "rsa._domainkey.author.example TXT: timeout")
    absent = await verdict(signed(), {})
    assert (absent.result, absent.problem) == ("permerror", "DNS has no key for it")
    nameless = await verdict(signed(s=".".join(["a" * 60] * 4), d="b" * 60 + ".example"), {})
    assert (nameless.result, nameless.problem) == ("permerror", "DNS has no key for it")
