"""dkimpy's opinion: what it says of honest and of odd messages, and that nothing of it ends in an exception."""

from __future__ import annotations

import asyncio
import base64
import math
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.cli.dkimpy_opinion import (
    KEY_OCTETS,
    LOOKUPS,
    NAME,
    SIGNATURES,
    SQUARES,
    DkimpyOpinion,
    SignatureOpinion,
    ask_dkimpy,
)
from relay.dns import DnsFailure, StaticResolver
from relay.mail.message import Message
from relay.sign.arc_seal import seal
from relay.sign.dkim_signature import sign
from relay.sign.keys import SigningKey, generate, parse
from tests.corpus import RSA_PEM

NOW = int(time.time())
RSA = SigningKey("shop.example", "s1", parse(RSA_PEM))
ED = SigningKey("shop.example", "ed1", parse(generate("ed25519")))
PLAIN = b"From: news@shop.example\r\nSubject: hello\r\n\r\nHi.\r\n"
SIGNED = sign(Message(PLAIN), RSA, NOW) + PLAIN
ZONE: dict[tuple[str, str], Any] = {(key.record_name, "TXT"): [(key.public_record().encode(),)] for key in (RSA, ED)}


async def ask(content: bytes, zone: Mapping[tuple[str, str], Any] = ZONE) -> DkimpyOpinion:
    return await ask_dkimpy(StaticResolver(zone), content)


def test_the_name_has_the_version() -> None:
    assert NAME.startswith("dkimpy 1.")


async def test_our_signatures_pass() -> None:
    content = sign(Message(SIGNED), ED, NOW) + SIGNED
    assert (await ask(content)).signatures == (
        SignatureOpinion("pass", "shop.example", "ed1", "ed25519-sha256"),
        SignatureOpinion("pass", "shop.example", "s1", "rsa-sha256"),
    )


async def test_without_signatures_there_is_nothing_to_say() -> None:
    assert await ask(PLAIN) == DkimpyOpinion()


async def test_a_changed_body_is_named() -> None:
    (opinion,) = (await ask(SIGNED + b"more\r\n")).signatures
    assert opinion.result == "fail" and "body hash mismatch" in opinion.problem


@pytest.mark.parametrize(
    ("records", "result", "said"),
    [
        (None, "fail", "missing public key"),
        ([(b"v=DKIM1; p=",)], "fail", "p"),
        ([(b"v=DKIM1; k=ed25519",)], "fail", "incomplete RSA public key"),
        ([(b"v=DKIM1; p=!!!!",)], "fail", "could not parse RSA public key"),
        ([(b"v=DKIM1; p=" + b"A" * KEY_OCTETS,)], "fail", "a key record of 2511 octets"),
        ([(b"nonsense",)], "fail", "nonsense"),
        (DnsFailure("s1._domainkey.shop.example TXT: no answer"), "temperror", "no answer"),
        ([(b"v=DKIM1; ", RSA.public_record().removeprefix("v=DKIM1; ").encode()), (b"other",)], "pass", ""),
    ],
)
async def test_a_key_that_is_no_good_is_a_reason(records: Any, result: str, said: str) -> None:
    zone = {} if records is None else {(RSA.record_name, "TXT"): records}
    (opinion,) = (await ask(SIGNED, zone)).signatures
    assert opinion.result == result and said in opinion.problem
    assert (opinion.domain, opinion.selector) == ("shop.example", "s1")


async def test_a_sealed_message_has_an_arc_result() -> None:
    sealed = seal(Message(SIGNED), b"", b"mx.shop.example; spf=pass", "none", 1, RSA, NOW) + SIGNED
    assert (await ask(sealed)).arc == "pass"
    changed = await ask(sealed.replace(b"Hi.", b"Ho."))
    assert changed.arc == "fail" and "did not validate" in changed.arc_problem
    failure: dict[tuple[str, str], Any] = {(RSA.record_name, "TXT"): DnsFailure("timeout")}
    assert (await ask(sealed, failure)).arc == "temperror"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"this is no field\r\n" + SIGNED, "dkimpy cannot read this header: 'this is no field'"),
        (b"Subject : x\r\n" + SIGNED, "dkimpy cannot read this header: 'Subject : x'"),
        (b" begins with a space\r\n" + SIGNED, "dkimpy cannot read the message: IndexError"),
    ],
)
async def test_a_header_that_it_cannot_read_is_an_opinion(content: bytes, said: str) -> None:
    opinion = await ask(content)
    assert opinion.problem.startswith(said) and opinion.signatures == ()


@pytest.mark.parametrize(
    ("content", "excess"),
    [
        (SIGNED + b" " * 100_000 + b"x\r\n", "white space"),
        (b"DKIM-Signature: v=1; b=" + b"\r\n " * 40_000 + b"\r\n" + PLAIN, "white space"),
        (
            b"DKIM-Signature: h=" + b":".join(b"%x" % n for n in range(9000)) + b"\r\n" + b"X:\r\n" * 9000 + PLAIN,
            "header",
        ),
        (b"ARC-Seal: i=1\r\n" * 60 + PLAIN, "50 ARC sets"),
    ],
)
async def test_it_is_not_asked_where_it_would_not_end(content: bytes, excess: str) -> None:
    began = time.perf_counter()
    opinion = await ask(content)
    assert opinion.problem.startswith("dkimpy was not asked: it would take too long for") and excess in opinion.problem
    assert time.perf_counter() - began < 2


async def test_what_is_just_within_the_limits_takes_seconds_at_most() -> None:
    count = math.isqrt(LOOKUPS // 2) - 20
    content = b"X:\r\n" * count + PLAIN + b" " * math.isqrt(SQUARES - 10**6) + b"x\r\n"
    tags = b"v=1; a=rsa-sha256; c=relaxed/relaxed; d=shop.example; s=s1; b=AAAA; bh=%b; h=%b" % (
        base64.b64encode(Message(content).relaxed_body_hash),
        b":".join(b"n%x" % n for n in range(count)),
    )
    opinion = await asyncio.wait_for(ask(b"DKIM-Signature: " + tags + b"\r\n" + content), 30)
    (signature,) = opinion.signatures
    assert (signature.result, signature.problem) == ("fail", "the signature does not verify")


async def test_what_honest_messages_have_of_white_space_is_no_hindrance() -> None:
    body = (b" " * 200 + b"x" + b" " * 50 + b"\r\n") * 2000 + b"\r\n" * 500
    assert (await ask(sign(Message(PLAIN + body), RSA, NOW) + PLAIN + body)).signatures[0].result == "pass"


async def test_it_looks_at_as_many_signatures_as_we_do() -> None:
    field = SIGNED.removesuffix(PLAIN)
    opinion = await ask(field * (SIGNATURES + 3) + PLAIN)
    assert len(opinion.signatures) == SIGNATURES


TAG = st.sampled_from(
    ["v=1", "a=rsa-sha256", "a=x", "b=AAAA", "b=", "bh=AAAA", "d=shop.example", "d=é", "h=from", "s=s1"]
)
FIELD = st.tuples(
    st.sampled_from(["DKIM-Signature", "ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results", "X"]),
    st.one_of(st.lists(TAG | st.just("i=1") | st.just("l=99") | st.just("i=99999")).map("; ".join), st.text()),
)


@given(st.lists(FIELD), st.binary())
@settings(deadline=None, max_examples=200)
async def test_whatever_is_in_a_message_there_is_an_opinion(fields: list[tuple[str, str]], body: bytes) -> None:
    header = "".join(f"{name}: {value}\r\n" for name, value in fields).encode("utf-8", "surrogatepass")
    opinion = await ask(header + b"\r\n" + body)
    assert opinion.arc in ("none", "pass", "fail")
    for text in (opinion.problem, opinion.arc_problem, *(one.problem for one in opinion.signatures)):
        assert text.isprintable() and text.isascii() and len(text) <= 400
