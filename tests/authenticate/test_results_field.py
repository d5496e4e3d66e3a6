"""Authentication-Results: well-formed whatever a client sent, and no field from outside passes for ours."""

from __future__ import annotations

import email
import email.policy
import time

import authres
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.authenticate.forged import SCANNED_OCTETS, strip_forged
from relay.authenticate.results import spf_result
from relay.authenticate.results_field import MethodResult, results_field
from relay.authenticate.spf import Result, SpfVerdict
from relay.message import Message

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
        ('"a b"@d.example', rb'smtp.mailfrom="\"a b\"@d.example"'),
        ("jürgen@bücher.example", b"smtp.mailfrom=xn--bcher-kva.example"),
        ("x\r\nBcc: everyone@d.example", b'smtp.mailfrom="x??Bcc: everyone@d.example"'),
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
        b'"mx.fwd.example "; spf=pass',
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


def test_other_fields_of_similar_name_stay() -> None:
    message = Message(b"ARC-Authentication-Results: i=1; mx.fwd.example; spf=pass\r\nX: mx.fwd.example\r\n\r\n")
    assert strip_forged(message, OURS)[0] is message


@pytest.mark.parametrize("ours", ["mx.bücher.example", "mx.xn--bcher-kva.example"])
@pytest.mark.parametrize("theirs", ["mx.bücher.example", "MX.BÜCHER.example", "mx.xn--bcher-kva.example"])
def test_an_internationalized_name_is_ours_in_either_spelling(ours: str, theirs: str) -> None:
    assert strip_forged(with_fields(theirs.encode() + b"; none"), ours)[1]


def test_what_we_write_would_be_recognized() -> None:
    field = results_field(OURS, [fail("user@example.com")])
    assert strip_forged(Message(field + b"\r\n"), OURS)[1]


@pytest.mark.parametrize("filler", [b"(", b"\\", b'"', b"\\a", b"a ", b"\xc3\xbc ", b'"\\a'])
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
