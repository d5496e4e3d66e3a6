"""No Authentication-Results from outside passes for ours, however its name is written; other people's stay."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.authenticate.forged_results import SCANNED_OCTETS, are_signed, strip_forged
from relay.authenticate.results_field import MethodResult, results_field
from relay.mail.message import HeaderField, Message

OURS = "mx.fwd.example"


def with_fields(*values: bytes) -> Message:
    fields = b"".join(b"Authentication-Results: " + value + b"\r\n" for value in values)
    return Message(b"Received: x\r\n" + fields + b"From: a@d.example\r\n\r\nbody\r\n")


@pytest.mark.parametrize(
    "value",
    [
        b"mx.fwd.example; spf=pass",
        b"MX.fwd.EXAMPLE;spf=pass",
        b"mx.fwd.example. ; none",
        b"mx.fwd.example 1; spf=pass",
        b"\r\n\tmx.fwd.example\r\n (version)\r\n\t1 ; spf=pass",
        b"(a (nested \\) one) here) mx.fwd.example(and here); spf=pass",
        b'"mx.fwd.example"; spf=pass',
        b'"mx\\.fwd.exampl\\e" ; spf=pass',
        b"mx.(x)fwd . example; spf=pass",
        b"mx.fwd.example spf=pass",
        b"mx.fwd.example",
        b"(mx.fwd.example; spf=pass",
        b'"mx.fwd.example; spf=pass',
        b"(" * 20000 + b" mx.fwd.example; spf=pass",
        b"=?utf-8?q?mx.fwd.example?=; dmarc=pass",
        b"=?us-ascii?B?bXguZndkLmV4YW1wbGU=?= ; dmarc=pass",
        b"=?utf-8?q?mx=2Efwd?=\r\n =?iso-8859-15?b?LmV4YW1wbGU?=; dmarc=pass",
        b"=?utf-8*en?q?mx.fwd.example=3B_dmarc=3Dpass?=",
        b"mx=?utf-8?q?.fwd.example?=; dmarc=pass",
        b"=?utf-16be?b?AG0AeAAuAGYAdwBkAC4AZQB4AGEAbQBwAGwAZQ==?=; dmarc=pass",
        b"=?x-unknown?q?mx=00.fwd=FF.example?=; dmarc=pass",
        b'"=?utf-8?q?mx.fwd.example?="; dmarc=pass',
        b"=?utf-8?q?" + b"=00" * 500 + b"mx.fwd.example?=; dmarc=pass",
        b"mx.fwd\0.example; dmarc=pass",
        b"mx.fwd.example\0; dmarc=pass",
        b"mx.fwd.example\0evil.example; dmarc=pass",
        b"\x01mx.fwd.example\x1f; dmarc=pass",
        b"mx.fw\x7fd.example; dmarc=pass",
        b"mx.fwd\xff.example; dmarc=pass",
        b"mx.fwd.example\xff; dmarc=pass",
        b"mx.fwd.example\\; dmarc=pass",
        b"mx.fwd.example\\\\; dmarc=pass",
        b"mx.fwd\\.example; dmarc=pass",
        b"mx.fwd.example...; dmarc=pass",
        b".mx.fwd.example; dmarc=pass",
        b"<mx.fwd.example>; dmarc=pass",
        b"[mx.fwd.example]; dmarc=pass",
        b"{mx.fwd.example}; dmarc=pass",
        b"'mx.fwd.example'; dmarc=pass",
        b"(mx.fwd.example); dmarc=pass",
        b'"mx.fwd.example "; dmarc=pass',
        b'"mx.fwd.example; dmarc=pass"',
        b"mx.fwd.example/1; dmarc=pass",
        b'mx.fwd(;).example" 1; dmarc=pass',
        b"mx.fwd.(x)example=?utf-8?q?; dmarc=pass",
        rb"mx.fwd.example\1(x) ; dmarc=pass",
        b"mx.fwd .example 1 1; dmarc=pass",
        b"(mx.fwd.example)); dmarc=pass",
        b"mx.fwd.example, dmarc=pass",
        b"; mx.fwd.example; dmarc=pass",
        b"(x) ;; (y) mx.fwd.example; dmarc=pass",
        b"mx.fwd.example\t1\r\n ; dmarc=pass",
        b"mx.fwd.example 001; dmarc=pass",
        b"\xe2\x80\x8b" * 2000 + b"mx.fwd.example; dmarc=pass",
        *(
            value.encode()
            for character in "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u1806\u180b\u180e\ufe0f\u2066\u202e\U000e0041"
            for value in (f"mx.fw{character}d.example; dmarc=pass", f"mx.fwd.example{character}; dmarc=pass")
        ),
        *(
            value.encode()
            for value in (
                "\u2039mx.fwd.example\u203a; dmarc=pass",
                "\u00abmx.fwd.example\u00bb; dmarc=pass",
                "\u201cmx.fwd.example\u201d; dmarc=pass",
                "\u3008mx.fwd.example\u3009; dmarc=pass",
                "\u00a0mx.fwd.example\u3000; dmarc=pass",
                "mx\u3002fwd\uff0eexample\uff61; dmarc=pass",
                "mx\u2024fwd.example; dmarc=pass",
                "\uff4d\uff58.fwd.example; dmarc=pass",
                "mx.fwd.example\uff1b dmarc=pass",
            )
        ),
    ],
)
def test_a_field_that_claims_to_be_ours_goes(value: bytes) -> None:
    message = with_fields(b"other.example; none", value)
    kept, forged = strip_forged(message, OURS)
    assert kept.content == with_fields(b"other.example; none").content
    assert forged == message.all("Authentication-Results")[1:]


@pytest.mark.parametrize(
    "value",
    [
        b"other.example; spf=pass smtp.helo=mx.fwd.example",
        b"(mx.fwd.example) other.example; spf=pass",
        b"other.example (mx.fwd.example); mx.fwd.example",
        b"xmx.fwd.example; spf=pass",
        b"mx.fwd.example.evil.example; spf=pass",
        b"notmx.fwd.example; spf=pass",
        b"x.mx.fwd.example; spf=pass",
        b"mx.fwd.example-2; spf=pass",
        b"-mx.fwd.example; spf=pass",
        b"mx.fwd.example2; spf=pass",
        b"fwd.example; spf=pass",
        b"mx.fwd; spf=pass",
        b"user@mx.fwd.example; spf=pass",
        b"=?utf-8?q?mx.fwd.example.evil.example?=; spf=pass",
        b"=?utf-8?q?other.example?=; mx.fwd.example",
        b'"other.example" 1; spf=pass smtp.mailfrom="mx.fwd.example; dmarc=pass"',
        b"spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=mx.fwd.example; dkim=none",
        "mx.fwd\u00e9.example; spf=pass".encode(),
        "mx.fwd.example\u0301; spf=pass".encode(),
        "mx.\u0444wd.example; spf=pass".encode(),
        "\u200dother.example; spf=pass".encode(),
        b"other.example\0; spf=pass",
        b"other.example; spf=pass (" + b"x" * 5000 + b"); mx.fwd.example",
        b"(" + b"x" * 900 + b") other.example; spf=pass",
        b"",
        b";",
        b"\xff\xfe\x00",
        b"(((",
    ],
)
def test_everything_else_stays_as_it_came(value: bytes) -> None:
    message = with_fields(value)
    kept, forged = strip_forged(message, OURS)
    assert kept.content == message.content
    assert forged == ()


@pytest.mark.parametrize(
    "name",
    [
        b"AUTHENTICATION-results:",
        b"Authentication-Results :",
        b"Authentication-Results\t \t:",
        b"Authentication-Results\r\n :",
        b"Authentication-Results\r\n\t\r\n :",
        b"Authentication-\r\n Results:",
        b"Authentication-Results\x0b:",
        b"Authentication-Results\0:",
        b"\0Authentication-Results:",
        b"Authenti\x01cation-Results:",
        b"Authentication-Results\xff:",
        b"Authentication-Results\xc2\xa0:",
        b"\xef\xbb\xbfAuthentication-Results:",
        "Authentication\u200d-Results:".encode(),
    ],
)
def test_the_name_of_a_field_is_read_as_readers_do(name: bytes) -> None:
    for before in (b"", b"Received: x\r\n"):
        content = before + b"From: a@d.example\r\n\r\nbody\r\n"
        forged = before + name + b" mx.fwd.example; dmarc=pass\r\n" + content.removeprefix(before)
        assert strip_forged(Message(forged), OURS)[0].content == content
        others = forged.replace(b"mx.fwd.example", b"other.example")
        assert strip_forged(Message(others), OURS)[0].content == others


@pytest.mark.parametrize(
    "name",
    [
        *(b"ARC-Authentication-Results:", b"X-Authentication-Results:", b"Authentication-Results-Original:"),
        *(b"Old-Authentication-Results\r\n :", b"Authentication-Result:", b"ARC-Authentication-Results\r\n :", b"X:"),
        *(b"Authentication-Results_:", b"X: y\r\n Authentication-Results:"),
    ],
)
def test_other_fields_of_similar_name_stay(name: bytes) -> None:
    message = Message(b"Received: x\r\n" + name + b" mx.fwd.example; spf=pass\r\n\r\n")
    assert strip_forged(message, OURS)[0] is message


def test_further_names_are_no_ones_either() -> None:
    message = with_fields(b"mta.other.example; spf=pass", b"MTA.fwd.example; spf=pass", b"mx.fwd.example; none")
    assert (
        strip_forged(message, OURS, others=["mta.fwd.example"])[0].content
        == with_fields(b"mta.other.example; spf=pass").content
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "claims"),
    [
        ("mx.strasse.example", "mx.straße.example", True),  # IDNA2003
        ("mx.straße.example", "mx.straße.example", True),
        ("mx.straße.example", "mx.strasse.example", False),
        ("mx.bücher.example", "mx.bu\u0308cher.example", True),
        ("mx.bücher.example", "<MX.BÜ\u200dCHER。example>", True),
        ("mx.bücher.example", "mx.bucher.example", False),
        ("kiss.example", "\u212ais\u017f.example", True),
    ],
)
def test_internationalized_names_in_their_spellings(ours: str, theirs: str, claims: bool) -> None:
    assert bool(strip_forged(with_fields(theirs.encode() + b"; none"), ours)[1]) is claims


@pytest.mark.parametrize("ours", ["mx.bücher.example", "mx.xn--bcher-kva.example"])
@pytest.mark.parametrize("theirs", ["mx.bücher.example", "MX.BÜCHER.example", "mx.xn--bcher-kva.example"])
def test_an_internationalized_name_is_ours_in_either_spelling(ours: str, theirs: str) -> None:
    assert strip_forged(with_fields(theirs.encode() + b"; none"), ours)[1]


def test_what_we_write_would_be_recognized() -> None:
    field = results_field(OURS, [MethodResult("spf", "fail", "", (("smtp.mailfrom", "user@example.com"),))])
    assert strip_forged(Message(field + b"\r\n"), OURS)[1]


@pytest.mark.parametrize(
    "filler", [b"(", b"\\", b'"', b"\\a", b"a ", b"\xc3\xbc ", b'"\\a', b"=?utf-8?q?", b";", b"\xe2\x80\x8b"]
)
def test_a_hostile_header_costs_little(filler: bytes) -> None:
    message = with_fields(*[filler * 700] * 1000, b"mx.fwd.example; spf=pass")
    assert message.fields
    start = time.process_time()
    _, forged = strip_forged(message, OURS)
    assert time.process_time() - start < 2.0  # seconds; a search that goes back takes minutes
    assert forged[-1].value.startswith(b"mx.fwd.example")
    assert (
        sum(len(field.raw) for field in message.all("authentication-results") if field not in forged) <= SCANNED_OCTETS
    )


@given(st.binary(max_size=200))
def test_no_field_breaks_the_search(value: bytes) -> None:
    kept, forged = strip_forged(with_fields(value), OURS)
    assert len(kept.content) + sum(len(field.raw) for field in forged) == len(with_fields(value).content)


def test_fields_that_are_believed_stay() -> None:
    message = with_fields(b"mx.fwd.example; spf=pass", b"mx.fwd.example; dkim=pass")
    kept, forged = strip_forged(message, OURS, believed=message.fields[1:2])
    assert kept.content == with_fields(b"mx.fwd.example; spf=pass").content
    assert forged == message.fields[2:3]


@pytest.mark.parametrize(
    ("names", "signed"),
    [
        ("h=from:Authentication-Results:to", True),
        ("h = from :\r\n\tauthentication-results ; bh=x", True),
        ("h=from:arc-authentication-results", False),
        ("h=from:to; bh=authentication-results", False),
    ],
)
def test_whether_a_signature_fails_without_them(names: str, signed: bool) -> None:
    message = Message(f"DKIM-Signature: v=1; {names}\r\nFrom: a@d.example\r\n\r\n".encode())
    removed = HeaderField("authentication-results", b"Authentication-Results: mx.fwd.example; none\r\n")
    assert are_signed(message, [removed]) is signed
