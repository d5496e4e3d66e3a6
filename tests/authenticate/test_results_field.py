"""Authentication-Results: well-formed whatever a client sent, and read alike by all readers."""

from __future__ import annotations

import email
import email.policy

import authres
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert said == tuple(one._replace(comment="") for one in whole)
    assert (field.count(b"("), field.count(b")")) == (bool(three) + bool(two), bool(three) + bool(two))
