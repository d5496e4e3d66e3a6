"""What our DKIM-Signature says and covers, and that a change of anything it covers breaks it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace

import dkim
import pytest

from relay.mail.message import Message
from relay.sign.covered_fields import CLOSED_IN_OURS
from relay.sign.dkim_signature import sign, signature_fields
from tests import corpus, judges
from tests.peers import needs

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


ALWAYS = ["from", "reply-to", "subject", "to", "cc", "mime-version", "content-type", "content-transfer-encoding"]


def times(content: bytes) -> dict[str, int]:
    """How often `h=` has each name."""
    names = signed_names(content)
    return {name: names.count(name) for name in dict.fromkeys(names)}


def test_what_people_see_and_how_the_body_is_read_is_named_once_more_than_it_occurs() -> None:
    found = times(MADE["plain"])
    assert found == dict.fromkeys(ALWAYS, 1) | dict.fromkeys(["from", "subject", "to", "date", "message-id"], 2)
    assert list(found)[:8] == ALWAYS


def test_other_names_are_closed_only_where_they_occur() -> None:
    names = [b"Sender", b"In-Reply-To", b"References", b"Content-Language", b"CONTENT-Whatever"]
    content = b"".join(b"%s: x\r\n" % name for name in names) + MADE["plain"]
    assert [times(content)[name.decode().lower()] for name in names] == [2] * 5
    assert not {"sender", "in-reply-to", "references", "content-language"} & set(signed_names(MADE["plain"]))


def test_what_lists_and_people_add_is_signed_as_often_as_it_occurs() -> None:
    names = [b"List-Id", b"List-Unsubscribe", b"List-Unsubscribe-Post", b"List-Anything", b"Resent-From", b"Resent-To"]
    content = b"".join(b"%s: x\r\n" % name for name in [*names, b"Resent-To"]) + MADE["plain"]
    assert [times(content)[name.decode().lower()] for name in names] == [1, 1, 1, 1, 1, 2]


def test_what_others_may_add_or_change_on_the_way_is_never_signed() -> None:
    names = ["Authentication-Results", "Received", "Return-Path", "Bcc", "DKIM-Signature", "Comments", "X-Spam-Flag"]
    fields = b"".join(b"%s: x\r\n" % name.encode() for name in [*names, "ARC-Seal", "Delivered-To", "Precedence"])
    assert signed_names(fields + MADE["plain"]) == signed_names(MADE["plain"])
    assert not {"subject", "cc"} & {name for name, count in times(MADE["header-not-for-us"]).items() if count > 1}


def test_repeated_fields_are_all_signed() -> None:
    names = signed_names(MADE["header-duplicates"])
    assert [names.count(name) for name in ("subject", "to", "cc")] == [4, 3, 3]


def test_a_name_that_fills_more_than_a_line_is_not_signed() -> None:
    assert signed_names(b"Content-%s: x\r\n" % (b"x" * 3000) + MADE["plain"]) == signed_names(MADE["plain"])


# Fields that somebody puts on top of a message of ours, and what a reader then shows.
DECEPTIONS = [
    b"Subject: Your account is closed\r\n",
    b"To: victim@bank.example\r\n",
    b"Cc: victim@bank.example\r\n",
    b"Reply-To: eve@evil.example\r\n",
    b"From: ceo@fwd.example\r\n",
    b'Content-Type: multipart/mixed; boundary="other"\r\n',
    b"Content-Transfer-Encoding: base64\r\n",
    b"MIME-Version: 1.0\r\n",
    b"subject : Your account is closed\r\n",
    b"SUBJECT:\r\n Your account\r\n is closed\r\n",
]
HONEST = [
    b"Received: from a by b; Mon, 16 Jun 2025 10:00:00 +0200\r\n",
    b"Return-Path: <bounces@list.example>\r\n",
    b"Authentication-Results: mx.example; dkim=pass\r\n",
    b"ARC-Seal: i=1; cv=none\r\nARC-Message-Signature: i=1\r\nARC-Authentication-Results: i=1; none\r\n",
    b"X-Spam-Status: No\r\nX-Original-To: x@y.example\r\nDelivered-To: x@y.example\r\n",
    b"Precedence: list\r\nErrors-To: <bounces@list.example>\r\n",
    b"DKIM-Signature: v=1; a=rsa-sha256; d=list.example; s=x; h=from; bh=x; b=x\r\n",
]
BY_LISTS_AND_PEOPLE = [
    b"Sender: bounces@list.example\r\nList-Id: <list.example>\r\nList-Unsubscribe: <mailto:u@list.example>\r\n",
    b"Resent-From: bob@bob.example\r\nResent-To: carol@c.example\r\nResent-Date: Mon, 16 Jun 2025 10:00:00 +0200\r\n",
    b"Content-Language: en\r\n",
]


def judged(signature: bytes, content: bytes, perl: judges.MailDkim) -> set[str]:
    """Of our RSA signature, by both judges; one that cannot read a message at all finds it no good either."""
    message = signature + content
    found = [verdict.result for verdict in perl.verify(message) if verdict.selector == "relay1"]
    try:
        found += [verdict.result for verdict in judges.dkimpy(message, RECORDS) if verdict.selector == "relay1"]
    except dkim.MessageFormatError:
        found.append("fail")
    return {"pass" if result == "pass" else "fail" for result in found}


@pytest.fixture(scope="module")
def perl() -> Iterator[judges.MailDkim]:
    with judges.MailDkim(RECORDS) as judge:
        yield judge


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("name", ["plain", "header-mailing-list", "header-duplicates", "mime-nested"])
def test_nothing_that_people_see_can_be_added_to_what_we_sign(name: str, perl: judges.MailDkim) -> None:
    content = MADE.get(name, MADE["plain"])
    signature = signature_fields(Message(content), [OURS], NOW)
    assert judged(signature, content, perl) == {"pass"}
    for field in DECEPTIONS:
        assert judged(signature, field + content, perl) == {"fail"}, field
        assert judged(field + signature, content, perl) == {"fail"}, field
        below = content.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n", 1)
        assert judged(signature, below, perl) == {"fail"}, field
    for field in [*HONEST, *(BY_LISTS_AND_PEOPLE if name == "plain" else [])]:
        assert judged(field + signature, content, perl) == {"pass"}, field


@needs("perl:Mail::DKIM")
def test_nothing_at_all_can_be_added_to_what_we_write(perl: judges.MailDkim) -> None:
    content = MADE["plain"]
    signature = signature_fields(Message(content), [OURS], NOW, ours=True)
    assert judged(signature, content, perl) == {"pass"}
    added = [b"%s: x\r\n" % name.title().encode() for name in CLOSED_IN_OURS]
    for field in [*added, *DECEPTIONS, *BY_LISTS_AND_PEOPLE, b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n"]:
        assert judged(field + signature, content, perl) == {"fail"}, field
    for field in HONEST[:5]:
        assert judged(field + signature, content, perl) == {"pass"}, field


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


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("name", [b"Subject", b"Reply-To", b"Content-Type", b"List-Id", b"Content-Language"])
@pytest.mark.parametrize("colon", [b"\x0b:", b"\r\n :", b" \x0c :", b"\r\n\t\r\n :"])
def test_white_space_before_a_colon_opens_nothing(name: bytes, colon: bytes, perl: judges.MailDkim) -> None:
    content = name + colon + b" x\r\n" + MADE["header-not-for-us"]
    signature = signature_fields(Message(content), [OURS], NOW)
    assert perl.verify(signature + content)[0].result == "pass"
    for field in DECEPTIONS:
        assert judged(signature, field + content, perl) == {"fail"}, field


def test_odd_names_of_what_is_not_signed_do_not_matter() -> None:
    for field in (b"X-Name\r\n : x\r\n", b"Received\x0b: x\r\n", b"no field\r\n", b"\x0bSubject\r\n"):
        assert signed_names(field + MADE["plain"]) == signed_names(MADE["plain"])


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("value", [b"\x0bx", b"x\x0c", b" \x0c x \x0b ", b"\x0b", b"\r\n \x0c\r\n x\r\n \x0b"])
@pytest.mark.parametrize("name", [b"Subject", b"Cc", b"Content-Type", b"List-Id"])
def test_white_space_that_verifiers_strip_differently_is_signed_as_it_stands(
    name: bytes, value: bytes, perl: judges.MailDkim
) -> None:
    content = name + b":" + value + b"\r\n" + MADE["header-not-for-us"]
    signature = signature_fields(Message(content), [OURS], NOW)
    assert tags(signature)["c"] == "simple/relaxed"
    assert judged(b"Received: x\r\n" + signature, content, perl) == {"pass"}
    for field in DECEPTIONS:
        assert judged(signature, field + content, perl) == {"fail"}, field


def test_lines_are_folded_within_78_columns() -> None:
    many = b"".join(b"%s: x\r\n" % name.encode() for name in CLOSED_IN_OURS)
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
