"""What DKIM-Signature and ARC-Message-Signature have in common: their tags, the header and the body that they sign."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pytest

from relay.authenticate.signature import (
    NAMES,
    Header,
    check_body,
    relaxed_field,
    require_algorithm,
    require_one_author,
    require_usable,
    signed_content,
    without_signature,
)
from relay.mail.message import HeaderField, Message
from relay.mail.tag_list import Unverified

NOW = 1_750_000_000.0
HASH = base64.b64encode(b"hash").decode()


def problem_of(unverified: pytest.ExceptionInfo[Unverified]) -> tuple[str, str]:
    return unverified.value.result, str(unverified.value)


@pytest.mark.parametrize(
    ("algorithm", "result"), [("rsa-sha1", "policy"), ("rsa-sha512", "permerror"), ("RSA-SHA256", "permerror")]
)
def test_algorithms_that_prove_nothing(algorithm: str, result: str) -> None:
    with pytest.raises(Unverified) as unverified:
        require_algorithm(algorithm)
    assert unverified.value.result == result


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "ed25519-sha256"])
def test_algorithms_of_today(algorithm: str) -> None:
    require_algorithm(algorithm)


@pytest.mark.parametrize(
    "tags", [{}, {"x": str(int(NOW))}, {"t": str(int(NOW) + 999)}, {"q": "other : dns/txt"}, {"t": "1", "x": "9" * 40}]
)
def test_a_signature_in_time(tags: Mapping[str, str]) -> None:
    require_usable(tags, NOW)


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ({"x": str(int(NOW) - 120)}, "it expired 2 min ago"),
        ({"x": str(int(NOW) - 2 * 86400)}, "it expired 2 d ago"),
        ({"t": "1000", "x": "1000"}, "it expires (x=) before it was made (t=)"),
        ({"q": "dns/other"}, "its key is not in DNS (q=)"),
        ({"x": "tomorrow"}, "x= is no number"),
    ],
)
def test_a_signature_out_of_time_or_without_a_key(tags: Mapping[str, str], problem: str) -> None:
    with pytest.raises(Unverified) as unverified:
        require_usable(tags, NOW)
    assert problem_of(unverified) == ("permerror", problem)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"To: t@t.example\r\n", "the message has no From field"),
        (b"From: a@a.example\r\nFrom: b@b.example\r\n", "the message has 2 From fields"),
        (b"From: a@a.example\r\nFrom\0: b@b.example\r\n", "the message has 2 From fields"),
    ],
)
def test_a_message_without_exactly_one_author_field(header: bytes, problem: str) -> None:
    with pytest.raises(Unverified) as unverified:
        require_one_author(Message(header + b"\r\n"))
    assert problem_of(unverified) == ("policy", problem)


@pytest.mark.parametrize(
    ("written", "canonicalizations"),
    [
        (None, ("simple", "simple")),
        ("relaxed", ("relaxed", "simple")),
        ("simple/relaxed", ("simple", "relaxed")),
        ("relaxed/relaxed", ("relaxed", "relaxed")),
    ],
)
def test_what_a_signature_says_that_it_signs(written: str | None, canonicalizations: tuple[str, str]) -> None:
    tags = {"h": "From : To:from", "bh": HASH, "l": "12"} | ({"c": written} if written else {})
    content = signed_content(tags)
    assert (content.header, content.body) == canonicalizations
    assert (content.names, content.body_hash, content.length) == (("from", "to", "from"), b"hash", 12)


@pytest.mark.parametrize(
    ("tags", "result", "problem"),
    [
        ({"h": "from"}, "permerror", "bh= is missing"),
        ({"bh": HASH}, "permerror", "h= is missing"),
        ({"h": "from", "bh": "?"}, "permerror", "bh= is no base64"),
        ({"h": "from", "bh": HASH, "c": "loose"}, "permerror", "unknown canonicalization: 'loose'"),
        ({"h": "x:" * NAMES, "bh": HASH}, "policy", f"more than {NAMES} fields are signed (h=)"),
    ],
)
def test_tags_that_do_not_say_what_is_signed(tags: Mapping[str, str], result: str, problem: str) -> None:
    with pytest.raises(Unverified) as unverified:
        signed_content(tags)
    assert problem_of(unverified) == (result, problem)


async def test_a_body_that_is_signed_to_its_end_and_unchanged() -> None:
    message = Message(b"From: a@a.example\r\n\r\nbody\r\n")
    digest = base64.b64encode(message.relaxed_body_hash).decode()
    tags = {"h": "from", "bh": digest, "c": "relaxed/relaxed"}
    await check_body(message, signed_content(tags))
    await check_body(message, signed_content(tags | {"l": "6"}))


@pytest.mark.parametrize(("length", "result"), [("5", "policy"), ("7", "permerror"), (None, "fail")])
async def test_a_body_that_is_signed_in_part_or_is_another(length: str | None, result: str) -> None:
    tags = {"h": "from", "bh": HASH} | ({"l": length} if length else {})
    with pytest.raises(Unverified) as unverified:
        await check_body(Message(b"From: a@a.example\r\n\r\nbody\r\n"), signed_content(tags))
    assert unverified.value.result == result


def test_the_signed_header_takes_repeated_fields_from_the_bottom() -> None:
    message = Message(b"S: v=1; b=x\r\nSubject: 1\r\nSubject:  2\r\nTo: t@t.example\r\n\r\n")
    signature = message.fields[0]
    simple = signed_content({"h": "subject:subject:subject:cc:s", "bh": HASH})
    assert Header(message).signed(simple, signature) == b"Subject:  2\r\nSubject: 1\r\nS: v=1; b="
    relaxed = signed_content({"h": "subject:to", "bh": HASH, "c": "relaxed"})
    assert Header(message).signed(relaxed, signature) == b"subject:2\r\nto:t@t.example\r\ns:v=1; b="


@pytest.mark.parametrize(
    ("raw", "without"),
    [
        (b"S: a=1; b=abc\r\n", b"S: a=1; b="),
        (b"S: b=abc; bh=def\r\n", b"S: b=; bh=def"),
        (b"S: bh=b; \r\n\tb =a\r\n b\r\n", b"S: bh=b; \r\n\tb ="),
    ],
)
def test_a_signature_signs_itself_without_its_octets(raw: bytes, without: bytes) -> None:
    assert without_signature(HeaderField("s", raw)) == without


def test_a_field_in_relaxed_form() -> None:
    assert relaxed_field(b"SUBject \t:  a\r\n\t b  c \r\n") == b"subject:a b c"
