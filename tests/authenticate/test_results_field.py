"""Authentication-Results: well-formed whatever a client sent, and no field from outside passes for ours."""

from __future__ import annotations

import email
import email.policy
import time
from dataclasses import replace

import authres
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.authenticate.forged_results import SCANNED_OCTETS, strip_forged
from relay.authenticate.results import spf_result
from relay.authenticate.results_field import MethodResult, read_results, results_field, without_comments
from relay.authenticate.spf import Result, SpfVerdict
from relay.mail.message import Message

OURS = "mx.fwd.example"


def iprev(result: str, comment: str, ip: str) -> MethodResult:
    return MethodResult("iprev", result, comment, (("policy.iprev", ip),))


def fail(sender: str, domain: str = "example.com") -> MethodResult:
    return spf_result(SpfVerdict("fail", "mailfrom", domain), ip="192.0.2.1", sender=sender)


def read(field: bytes) -> authres.AuthenticationResultsHeader:
    """As a reader that is not ours understands it."""
    return authres.AuthenticationResultsHeader.parse(field.decode("ascii").replace("\r\n", ""))


def test_a_field_as_it_leaves() -> None:
    assert results_field(
        OURS,
        [
            fail("user@example.com"),
            iprev("pass", "mail.example.com", "2001:db8::1"),
        ],
    ) == (
        b"Authentication-Results: mx.fwd.example;\r\n"
        b"\tspf=fail (192.0.2.1 is not authorized by example.com)\r\n"
        b"\tsmtp.mailfrom=user@example.com;\r\n"
        b'\tiprev=pass (mail.example.com) policy.iprev="2001:db8::1"\r\n'
    )


def test_without_results_it_says_none() -> None:
    assert results_field("MX.Bücher.Example", []) == b"Authentication-Results: mx.xn--bcher-kva.example; none\r\n"


@pytest.mark.parametrize("result", ["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"])
def test_every_spf_result_says_why(result: Result) -> None:
    problem = "Unknown mechanism found: moo" if result.endswith("error") else ""
    method = spf_result(
        SpfVerdict(result, "mailfrom", "d.example", problem=problem), ip="192.0.2.1", sender="u@d.example"
    )
    assert problem or "d.example" in method.comment
    (found,) = read(results_field(OURS, [method])).results
    assert (found.method, found.result, found.smtp_mailfrom) == ("spf", result, "u@d.example")


def test_a_null_sender_is_judged_by_its_helo() -> None:
    method = spf_result(SpfVerdict("pass", "helo", "mx.d.example"), ip="192.0.2.1", sender="")
    assert read(results_field(OURS, [method])).results[0].smtp_helo == "mx.d.example"


@pytest.mark.parametrize(
    ("sender", "written"),
    [
        ("SRS0=HHH=TT=d.example=u@fwd.example", b"smtp.mailfrom=SRS0=HHH=TT=d.example=u@fwd.example"),
        ('"a b"@d.example', b"smtp.mailfrom=d.example\r\n"),
        ('"a\\"; dmarc=pass"@d.example', b"smtp.mailfrom=d.example\r\n"),
        ("?utf-8?q?=3B_dmarc=3Dpass?=@d.example", b"smtp.mailfrom=d.example\r\n"),
        ("=?utf-8?q?=3B_dmarc=3Dpass?=@d.example", b"smtp.mailfrom=d.example\r\n"),
        ('"taro..y."@d.example', b'smtp.mailfrom="taro..y."@d.example\r\n'),
        ("jürgen@bücher.example", b"smtp.mailfrom=xn--bcher-kva.example"),
        ("x\r\nBcc: everyone@d.example", b"smtp.mailfrom=d.example\r\n"),
        ("u" * 320 + "@d.example", b"smtp.mailfrom=xn--bcher-kva.example"),
    ],
)
def test_senders_of_every_kind_are_written_safely(sender: str, written: bytes) -> None:
    field = results_field(OURS, [fail(sender, "xn--bcher-kva.example")])
    assert written in field
    assert field.count(b"\r\n") == field.count(b"\r\n\t") + 1


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=400)


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_no_text_breaks_out_of_the_field(comment: str, first: str, second: str) -> None:
    properties = (("smtp.mailfrom", first), ("smtp.helo", second))
    field = results_field(
        OURS,
        [
            MethodResult("spf", "fail", comment, properties),
            iprev("fail", "no confirmed name", "192.0.2.1"),
        ],
    )
    assert field.isascii()
    lines = field.split(b"\r\n")
    assert lines.pop() == b""
    assert all(line.startswith(b"\t") for line in lines[1:])
    assert all(len(line) <= 998 and line.decode().replace("\t", "").isprintable() for line in lines)
    assert max(len(line) for line in lines) <= 78 or max(len(word) for word in field.split()) > 60
    parsed = read(field)
    assert [(found.method, found.result) for found in parsed.results] == [("spf", "fail"), ("iprev", "fail")]
    message = email.message_from_bytes(field + b"\r\n", policy=email.policy.SMTP)
    assert message.keys() == ["Authentication-Results"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a; dmarc=pass", b"(a, dmarc=pass)"),
        ("one (two (three)) four", b"(one [two [three]] four)"),
        ("a) ; dmarc=pass (b", b"(a] , dmarc=pass [b)"),
        (r"C:\path\)", b"(C:/path/])"),
        ('an "unclosed quote', b"(an 'unclosed quote)"),
        ("=?utf-8?q?=29=3B_dmarc=3Dpass?=", b"(= ?utf-8?q?=29=3B_dmarc=3Dpass?=)"),
    ],
)
def test_nothing_in_a_comment_looks_like_its_end(text: str, written: bytes) -> None:
    field = results_field(OURS, [MethodResult("dkim", "fail", text, (("header.d", "d.example"),))])
    assert b"dkim=fail " + written + b" header.d=d.example\r\n" in b" ".join(field.split()) + b"\r\n"


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_readers_that_know_neither_comments_nor_quotes_see_the_same_results(one: str, two: str, three: str) -> None:
    properties = (("smtp.mailfrom", one), ("header.i", f"{two}@d.example"), ("policy.x", three))
    field = results_field(OURS, [MethodResult("spf", "fail", three, properties), iprev("pass", two, "2001:db8::1")])
    assert b"\\" not in field and b"=?" not in field
    _, first, second = field.split(b";")
    assert first.split()[0] == b"spf=fail" and second.split()[0] == b"iprev=pass"
    bare = without_comments(Message(field + b"\r\n").fields[0].value).decode()
    assert "(" not in bare
    said, whole = (read_results(text)[1] for text in (bare, Message(field + b"\r\n").fields[0].value.decode()))
    assert said == tuple(replace(one, comment="") for one in whole)
    assert (field.count(b"("), field.count(b")")) == (bool(three) + bool(two), bool(three) + bool(two))


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
    field = results_field(OURS, [fail("user@example.com")])
    assert strip_forged(Message(field + b"\r\n"), OURS)[1]


@pytest.mark.parametrize(
    "filler", [b"(", b"\\", b'"', b"\\a", b"a ", b"\xc3\xbc ", b'"\\a', b"=?utf-8?q?", b";", b"\xe2\x80\x8b"]
)
def test_a_hostile_header_costs_little(filler: bytes) -> None:
    message = with_fields(*[filler * 700] * 1000, b"mx.fwd.example; spf=pass")
    assert message.fields
    start = time.process_time()
    _, forged = strip_forged(message, OURS)
    assert time.process_time() - start < 0.5
    assert forged[-1].value.startswith(b"mx.fwd.example")
    assert (
        sum(len(field.raw) for field in message.all("authentication-results") if field not in forged) <= SCANNED_OCTETS
    )


@given(st.binary(max_size=200))
def test_no_field_breaks_the_search(value: bytes) -> None:
    kept, forged = strip_forged(with_fields(value), OURS)
    assert len(kept.content) + sum(len(field.raw) for field in forged) == len(with_fields(value).content)
