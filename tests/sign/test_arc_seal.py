"""What our ARC set says and covers, and when there is none."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

import pytest

from relay.authenticate.arc import ArcVerdict, verify
from relay.mail.message import Message
from relay.sign.arc_seal import seal, seal_octets
from relay.sign.covered_fields import CLOSED_IN_OURS, covered_fields
from relay.sign.dkim_signature import signature_fields
from relay.sign.keys import generate, parse
from tests import corpus
from tests.authenticate import sealing
from tests.authenticate.signing import MESSAGE, resolver
from tests.sign.test_dkim_signature import signed_names

NOW = corpus.SIGNED_AT
OURS = replace(corpus.RSA, domain="fwd.example", selector="relay1")
RECORDS = {**corpus.RECORDS, OURS.record_name: OURS.public_record()}
MADE = dict(corpus.made())
PLAIN = MADE["plain"]
RESULTS = b"fwd.example;\tspf=pass smtp.mailfrom=ann@author.example;\tdkim=pass header.d=author.example"


def sealed(content: bytes, instance: int = 1, on_top: bytes = b"", results: bytes = RESULTS) -> bytes:
    found: Literal["none", "pass"] = "none" if instance == 1 else "pass"
    return seal(Message(content), on_top, results, found, instance, OURS, NOW) + on_top + content


def the_set(content: bytes) -> list[tuple[str, dict[str, str]]]:
    """The fields of our set on top of a message: name and tags, in their order."""
    fields = [field for field in Message(content).fields if field.name.startswith("arc-")][:3]
    return [(field.raw.partition(b":")[0].decode(), tags(field.raw)) for field in fields]


def tags(field: bytes) -> dict[str, str]:
    pairs = (tag.partition("=") for tag in field.decode().partition(":")[2].replace("\r\n", "").split(";"))
    return {tag.strip(): re.sub(r"\s", "", text) for tag, _, text in pairs}


async def verdict(content: bytes) -> ArcVerdict:
    return await verify(Message(content), resolver(RECORDS), NOW)


def test_the_fields_and_their_tags() -> None:
    (seal_name, seal_tags), (signature_name, signature_tags), (results_name, _) = the_set(sealed(PLAIN))
    assert [seal_name, signature_name, results_name] == [
        "ARC-Seal",
        "ARC-Message-Signature",
        "ARC-Authentication-Results",
    ]
    assert list(seal_tags) == ["i", "a", "t", "cv", "d", "s", "b"]
    assert seal_tags["cv"] == "none"
    assert list(signature_tags) == ["i", "a", "c", "d", "s", "t", "h", "bh", "b"]
    assert signature_tags["c"] == "relaxed/relaxed"
    for found in (seal_tags, signature_tags):
        assert (found["i"], found["a"], found["d"], found["s"]) == ("1", "rsa-sha256", "fwd.example", "relay1")
        assert found["t"] == str(NOW)
    assert the_set(sealed(sealed(PLAIN), 2))[0][1]["cv"] == "pass"


async def test_the_results_are_those_that_were_given() -> None:
    (one,) = (await verdict(sealed(PLAIN))).sets
    assert one.results == RESULTS.decode().replace("\t", " ")


async def test_long_results_are_folded_between_words() -> None:
    long = b"fwd.example; dkim=pass (" + b"word " * 3000 + b") header.d=author.example"
    content = sealed(PLAIN, results=long)
    assert max(len(line) for line in content.partition(b"Date:")[0].split(b"\r\n")) <= 78
    (one,) = (await verdict(content)).sets
    assert one.results == long.decode()


async def test_results_in_utf8_or_worse_are_passed_on() -> None:
    content = sealed(PLAIN, results="fwd.example; spf=pass (\u00fc)".encode() + b" \xff")
    assert b"\xc3\xbc) \xff\r\n" in content
    assert (await verdict(content)).result == "pass"


def test_what_dkim_signs_is_signed_and_every_dkim_signature() -> None:
    on_top = signature_fields(Message(PLAIN), [corpus.RSA, corpus.ED25519], NOW)
    below = sealing.chain(1, corpus.sign_as_author(PLAIN, corpus.RSA, (b"simple", b"simple")) + PLAIN)
    names = the_set(sealed(below, 2, on_top))[1][1]["h"].split(":")
    assert names == [*signed_names(PLAIN), *["dkim-signature"] * 3]
    assert not any(name.startswith(("arc-", "authentication-results", "received")) for name in names)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Subject: A", b"Subject: B"),
        (b"From: Ann", b"From: Eve <eve@evil.example>\r\nFrom: Ann"),
        (b"One line", b"No line"),
        (b"DKIM-Signature: v=1; a=rsa", b"DKIM-Signature: v=2; a=rsa"),
        (b"spf=pass", b"spf=fail"),
        (b"cv=none", b"cv=pass"),
        (b"smtp.mailfrom=ann@", b"smtp.mailfrom=eve@"),
    ],
)
async def test_a_change_of_what_is_covered_breaks_the_chain(before: bytes, after: bytes) -> None:
    content = sealed(sealed(PLAIN), 2, signature_fields(Message(sealed(PLAIN)), [OURS], NOW))
    assert (await verdict(content)).result == "pass"
    assert before in content
    assert (await verdict(content.replace(before, after, 1))).result == "fail"


async def test_what_comes_on_top_later_does_not_matter() -> None:
    on_top = b"Received: from a by b\r\nAuthentication-Results: x; none\r\n"
    assert (await verdict(on_top + sealed(PLAIN))).result == "pass"


async def test_a_chain_of_others_in_any_order_is_extended() -> None:
    lines = re.findall(rb"^ARC-[^\r]*\r\n", sealing.chain(3), re.MULTILINE)
    content = b"".join(sorted(lines)) + MESSAGE
    assert len((await verdict(sealed(content, 4))).sets) == 4


async def test_a_chain_ends_with_its_fiftieth_set() -> None:
    content = sealing.chain(49)
    last = sealed(content, 50)
    assert (await verdict(last)).sets[0].instance == 50
    assert sealed(last, 51) == last


@pytest.mark.parametrize(
    "content", [b"", b"No header.\r\n", b"Subject: x\r\n\r\n", b"From: a@a.example\r\nFrom: b@b.example\r\n\r\n"]
)
def test_a_message_without_exactly_one_from_is_not_sealed(content: bytes) -> None:
    assert sealed(content) == content


def test_a_chain_that_is_not_the_one_that_was_validated_is_not_extended() -> None:
    two = sealing.chain(2)
    assert sealed(two, 2) == two
    assert sealed(two, 4) == two
    assert sealed(PLAIN, 2) == PLAIN
    broken = two.replace(b"ARC-Seal: i=1;", b"X-Seal: i=1;")
    assert sealed(broken, 1) == sealed(broken, 3) == broken


def test_the_body_is_not_hashed_again() -> None:
    message = Message(PLAIN, b"\1" * 32)
    assert b"bh=AQEBAQEB" in seal(message, b"", RESULTS, "none", 1, OURS, NOW)


@pytest.mark.slow
def test_a_size_that_is_announced_has_room_for_the_set() -> None:
    key = replace(OURS, _private=parse(generate("rsa4096")), domain="d" * 60 + ".example", selector="s" * 60)
    content = "".join(f"{name}: x\r\n" for name in CLOSED_IN_OURS).encode() + b"\r\nHi.\r\n"
    for message in (Message(content), Message(b"DKIM-Signature: x\r\nCc: x\r\n" * 500 + content)):
        made = seal(message, b"DKIM-Signature: x\r\n" * 2, RESULTS, "none", 1, key, NOW)
        covered = covered_fields(message.fields)
        assert covered is not None
        assert 0 < len(made) <= seal_octets(message, covered, 2, key) + len(RESULTS)
