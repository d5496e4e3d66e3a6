"""What our DKIM-Signature says and covers, and that a change of anything it covers breaks it."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from relay.message import Message
from relay.sign.dkim import SIGNED_NAMES, sign, signature_fields
from tests import corpus, judges

NOW = corpus.SIGNED_AT
OURS = replace(corpus.RSA, domain="fwd.example", selector="relay1")
ALSO_OURS = replace(corpus.ED25519, domain="fwd.example", selector="relay2")
RECORDS = {key.record_name: key.public_record() for key in (OURS, ALSO_OURS)}
MADE = dict(corpus.made())


def tags(field: bytes) -> dict[str, str]:
    name, _, value = field.decode("ascii").partition(":")
    assert name == "DKIM-Signature"
    pairs = (tag.partition("=") for tag in value.replace("\r\n", "").split(";"))
    return {tag.strip(): re.sub(r"\s", "", text) for tag, _, text in pairs}


def signed_names(content: bytes) -> list[str]:
    return tags(sign(Message(content), OURS, NOW))["h"].split(":")


def verdicts(content: bytes) -> list[str]:
    return [verdict.result for verdict in judges.dkimpy(content, RECORDS)]


def test_the_tags() -> None:
    found = tags(sign(Message(MADE["plain"]), OURS, NOW))
    assert list(found) == ["v", "a", "c", "d", "s", "t", "h", "bh", "b"]
    assert found["v"] == "1"
    assert found["a"] == "rsa-sha256"
    assert found["c"] == "relaxed/relaxed"
    assert (found["d"], found["s"], found["t"]) == ("fwd.example", "relay1", str(NOW))


def test_the_header_list_is_that_of_rfc_6376_and_names_from_once_more_than_it_is_there() -> None:
    assert signed_names(MADE["plain"]) == ["from", "from", "subject", "date", "to", "message-id"]
    assert signed_names(MADE["header-mailing-list"]) == [
        *("from", "from", "subject", "date", "to", "list-id", "list-unsubscribe", "list-post", "sender"),
        *("message-id", "list-unsubscribe-post"),
    ]


def test_what_others_may_add_or_change_on_the_way_is_never_signed() -> None:
    never = {"authentication-results", "received", "return-path", "bcc", "dkim-signature", "comments"}
    assert not never.intersection(SIGNED_NAMES)
    assert not any(name.startswith(("arc-", "x-")) for name in SIGNED_NAMES)
    assert signed_names(MADE["header-not-for-us"]) == ["from", "from", "date", "to", "message-id"]


def test_repeated_fields_are_all_signed() -> None:
    names = signed_names(MADE["header-duplicates"])
    assert [names.count(name) for name in ("subject", "to", "cc")] == [3, 2, 2]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Subject: first", b"Subject: other"),
        (b"Subject: first\r\n", b""),
        (b"To: bob@", b"To: eve@"),
        (b"another", b"something else"),
        (b"From: Ann", b"From: Eve <e@evil.example>\r\nFrom: Ann"),
        (b"Subject: first", b"From: Eve <e@evil.example>\r\nSubject: first"),
    ],
)
def test_a_change_of_what_is_signed_breaks_the_signature(before: bytes, after: bytes) -> None:
    content = signature_fields(Message(MADE["header-duplicates"]), [OURS, ALSO_OURS], NOW) + MADE["header-duplicates"]
    assert verdicts(content) == ["pass", "pass"]
    assert before in content
    assert "pass" not in verdicts(content.replace(before, after, 1))


def test_relaying_leaves_the_signature_whole() -> None:
    content = sign(Message(MADE["plain"]), OURS, NOW) + MADE["plain"]
    relayed = b"Received: from us by them\r\nAuthentication-Results: them.example; dkim=pass\r\n" + content
    refolded = relayed.replace(b"Subject: A message", b"SUBJECT:\r\n\tA  message ")
    assert verdicts(refolded + b"\r\n\r\n") == ["pass"]


@pytest.mark.parametrize(
    "name", ["header-no-from", "header-two-from", "no-header", "blank-line-then-fields", "nothing"]
)
def test_a_message_without_exactly_one_from_is_not_signed(name: str) -> None:
    assert sign(Message(MADE[name]), OURS, NOW) == b""


def test_a_second_from_that_only_some_would_see_is_one_too_many() -> None:
    assert sign(Message(b"From\x0b: eve@evil.example\r\n" + MADE["plain"]), OURS, NOW) == b""


def test_a_name_whose_fields_are_read_differently_is_left_out() -> None:
    assert "subject" not in signed_names(MADE["header-folded-before-colon"])
    assert "subject" not in signed_names(MADE["header-control-characters"])
    assert "references" in signed_names(MADE["header-folded-to-nothing"])


def test_lines_are_folded_within_78_columns() -> None:
    many = b"".join(b"%s: x\r\n" % name.encode() for name in SIGNED_NAMES)
    key = replace(OURS, domain="a-long-name.of-several-labels.fwd.example", selector="a-long-selector-2025")
    for signer in (OURS, ALSO_OURS, key):
        field = sign(Message(many), signer, NOW)
        lines = field.removesuffix(b"\r\n").split(b"\r\n")
        assert max(map(len, lines)) <= 78
        assert all(re.match(rb" \S", line) for line in lines[1:])
        assert verdicts(field + many) == (["pass"] if signer.record_name in RECORDS else ["fail"])


def test_a_domain_longer_than_a_line_stays_whole() -> None:
    domain = ".".join(["label-" + "x" * 50] * 4)
    key = replace(OURS, domain=domain)
    field = sign(Message(MADE["plain"]), key, NOW) + MADE["plain"]
    (verdict,) = judges.dkimpy(field, {key.record_name: key.public_record()})
    assert (verdict.domain, verdict.result) == (domain, "pass")


def test_several_keys_sign_in_their_order_and_the_body_is_hashed_once() -> None:
    message = Message(MADE["plain"], body_hash=b"\0" * 32)  # a hash that is wrong shows where it was not computed anew
    fields = signature_fields(message, [OURS, ALSO_OURS], NOW)
    first, second = (tags(b"DKIM-Signature:" + part) for part in fields.split(b"DKIM-Signature:")[1:])
    assert (first["s"], first["a"]) == ("relay1", "rsa-sha256")
    assert (second["s"], second["a"]) == ("relay2", "ed25519-sha256")
    assert first["bh"] == second["bh"] == "A" * 43 + "="


def test_a_signature_costs_little_more_than_its_rsa() -> None:
    body = b"The quick brown fox jumps over the lazy dog, and runs.\r\n" * 180
    content = MADE["header-mailing-list"].partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body

    def cost(run: int) -> float:
        began = time.thread_time()
        sign(Message(content), OURS, NOW + run)
        whole = time.thread_time() - began
        began = time.thread_time()
        OURS.sign(content[:2000])
        return whole - (time.thread_time() - began)

    assert min(cost(run) for run in range(50)) < 0.5e-3  # seconds; 0.1 ms on an idle machine of 2024
