"""Every chain of ours is validated by programs that share no code with it, over all the messy mail there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import dkim
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.authenticate.results_field import MethodResult, results_field
from relay.mail.message import Message
from relay.sign.arc_seal import seal
from relay.sign.dkim_signature import signature_fields
from relay.sign.keys import SigningKey, generate, parse
from tests import corpus
from tests.judges import MailDkim, dkimpy_arc, mail_dkim_seal
from tests.peers import needs
from tests.sign.test_dkim_judges import ALL, bodies, fields, well_formed

OURS = replace(corpus.RSA, domain="fwd.example", selector="rsa")
LONGER = SigningKey("fwd.example", "longer", parse(generate("rsa2048")))
RECORDS = {**corpus.RECORDS, **{key.record_name: key.public_record() for key in (OURS, LONGER)}}


def leaving(content: bytes, hops: int = 1, key: SigningKey = OURS) -> bytes:
    """The message as it leaves the last of so many relays, each of which signs and seals it."""
    for instance in range(1, hops + 1):
        message = Message(content)
        cv: Literal["none", "pass"] = "none" if instance == 1 else "pass"
        found = [
            MethodResult(
                "spf", "pass", "192.0.2.1 is authorized by author.example", (("smtp.mailfrom", "a@b.example"),)
            ),
            MethodResult("dkim", "fail", "the body was changed \u00fc (after it was signed", (("header.s", "a b;c"),)),
            MethodResult("arc", cv, "", (("header.oldest-pass", "0"),)),
        ]
        results = results_field("mx.fwd.example", found)
        signatures = signature_fields(message, [key], corpus.SIGNED_AT)
        (value,) = (field.value for field in Message(results).fields)
        made = seal(message, signatures, value, cv, instance, key, corpus.SIGNED_AT)
        received = b"Received: from sender.example by mx.fwd.example; Mon, 16 Jun 2025 10:00:00 +0200\r\n"
        content = b"".join(message.wire(made + signatures + results + received))
    return content


def is_sealed(content: bytes) -> bool:
    return content.startswith(b"ARC-Seal: ")


@pytest.fixture(scope="module")
def perl() -> Iterator[MailDkim]:
    with MailDkim(RECORDS) as judge:
        yield judge


SEALED = [name for name, content in ALL.items() if is_sealed(leaving(content))]


def test_all_mail_is_sealed_but_what_has_no_single_from_or_a_broken_chain() -> None:
    left_out = [name for name in ALL if name not in SEALED]
    assert all(len(Message(ALL[name]).all("from")) != 1 or b"\r\nARC-Seal:" in ALL[name] for name in left_out)
    assert len(SEALED) > 100


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("name", SEALED)
def test_mail_dkim_validates_our_chain(name: str, perl: MailDkim) -> None:
    for hops in (1, 3):
        assert perl.arc(leaving(ALL[name], hops)) == "pass"


@pytest.mark.parametrize("name", SEALED)
def test_dkimpy_validates_our_chain(name: str) -> None:
    content = leaving(ALL[name], 3)
    try:
        assert dkimpy_arc(content, RECORDS) == "pass"
    except (dkim.MessageFormatError, IndexError):
        assert not well_formed(ALL[name])  # dkimpy reads nothing of such a message


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("hops", [1, 2, 3])
def test_a_longer_key(hops: int, perl: MailDkim) -> None:
    content = leaving(ALL["plain"], hops, LONGER)
    assert perl.arc(content) == dkimpy_arc(content, RECORDS) == "pass"


@needs("perl:Mail::DKIM")
def test_a_chain_that_others_began_and_go_on_with(perl: MailDkim) -> None:
    before = b"Authentication-Results: other.example; arc=none; spf=pass smtp.mailfrom=a@b.example\r\n" + ALL["plain"]
    first = mail_dkim_seal(before, "none", corpus.DOMAIN, "rsa", "other.example", corpus.RSA_PEM) + before
    message = Message(first)
    ours = seal(message, b"", b"fwd.example; arc=pass", "pass", 2, OURS, corpus.SIGNED_AT) + first
    after = b"Authentication-Results: other.example; arc=pass; spf=fail smtp.mailfrom=a@b.example\r\n" + ours
    third = mail_dkim_seal(after, "pass", corpus.DOMAIN, "rsa", "other.example", corpus.RSA_PEM) + after
    for content in (first, ours, third):
        assert perl.arc(content) == dkimpy_arc(content, RECORDS) == "pass"


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("source", corpus.SOURCES)
def test_mail_that_packages_ship(source: str, perl: MailDkim) -> None:
    sealed = 0
    for name, content in corpus.shipped(source):
        left = leaving(content)
        if is_sealed(left):
            assert perl.arc(left) == "pass", name
            sealed += 1
    assert sealed >= 5


@needs("perl:Mail::DKIM")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(fields, max_size=5), bodies, st.integers(1, 3))
def test_mail_dkim_validates_whatever_the_header_looks_like(
    perl: MailDkim, header: list[bytes], body: bytes, hops: int
) -> None:
    content = leaving(b"".join([*header[:2], b"From: a@b\r\n", *header[2:]]) + b"\r\n" + body + b"\r\n", hops)
    if is_sealed(content):
        assert perl.arc(content) == "pass"
