"""A bounce that comes home is ours: the same outcome, the alias for the mailbox, and nothing from behind us."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import pytest
from flufl.bounce import all_failures, scan_message
from hypothesis import given
from hypothesis import strategies as st

from relay.bounce.multipart import Unreadable
from relay.bounce.rebuild import ReportingMta, rebuilt
from relay.mail.envelope import Client
from relay.mail.message import Message
from relay.rewrite.received_field import received_field
from relay.route.loops import mark_fields
from tests.bounce.samples import (
    ALIAS,
    BEHIND_US,
    HEADER,
    HOST,
    ID,
    MAILBOX,
    ON_TOP,
    READABLE,
    RECEIVED,
    SENT,
    failed,
    headers,
    letter,
    postfix,
    qmail,
    report,
    status,
    whole,
)

JOE = "joe@origin.example"
NOW = 1700000100.0
MTA = ReportingMta(HOST, "fwd.example", (b"secret", b"old"))
UNKNOWN = "unknown-recipient@fwd.example"


def ours(content: bytes, mta: ReportingMta = MTA) -> bytes:
    return rebuilt(Message(content), mta, to=JOE, unique="330RQ1AAAAAA", now=NOW)


def parsed(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def groups(content: bytes) -> list[Any]:
    [_, group, *_] = parsed(content).iter_parts()
    return list(group.get_payload())


def returned(content: bytes) -> bytes:
    part = list(parsed(content).iter_parts())[2]
    return bytes(part.get_payload(decode=True))


@pytest.mark.parametrize("host", READABLE)
def test_each_host_s_bounce_becomes_ours(host: str) -> None:
    theirs = READABLE[host]()
    content = ours(theirs)
    assert b"hidden" not in content.lower() and b"carol" not in content.lower()
    message = parsed(content)
    assert message["from"] == "Mail Delivery System <MAILER-DAEMON@fwd.example>"
    assert (message["to"], message["auto-submitted"]) == (JOE, "auto-replied")
    assert message["in-reply-to"] == "<one@origin.example>"
    [about, recipient] = groups(content)
    assert about["reporting-mta"] == f"dns; {HOST}"
    assert about["arrival-date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert (recipient["final-recipient"], recipient["action"]) == (f"rfc822; {ALIAS}", "failed")
    [_, theirs_to] = groups(theirs)
    assert recipient["status"] == theirs_to["status"]
    assert recipient["diagnostic-code"].startswith("smtp; 550")
    assert returned(content).startswith(b"Received: from mx.origin.example (mx.origin.example [192.0.2.7])")
    assert returned(content).endswith(SENT.encode())
    assert b"Hello Alice" not in content
    text = " ".join(str(next(message.iter_parts()).get_content()).split())
    assert f"quote {ID} at {HOST}" in text and f"delivered to: {ALIAS} " in text


@pytest.mark.parametrize("host", READABLE)
def test_a_bounce_reader_finds_the_alias(host: str) -> None:
    assert scan_message(email.message_from_bytes(READABLE[host]())) == {MAILBOX.encode()}
    assert scan_message(email.message_from_bytes(ours(READABLE[host]()))) == {ALIAS.encode()}


# who is named


def test_an_alias_with_two_mailboxes_is_one_recipient() -> None:
    two = report(letter(), status(failed(), failed("551 5.7.1 no", final="dave@hidden.example")), whole())
    [_, recipient] = groups(ours(two))
    assert (recipient["final-recipient"], recipient["diagnostic-code"]) == (f"rfc822; {ALIAS}", "smtp; 550 5.1.1")


SEVERAL = RECEIVED.replace(f"\r\n\tfor <{ALIAS}>", "")


def test_without_for_an_address_that_the_sender_wrote_is_named() -> None:
    header = SEVERAL + SENT.replace(f"To: {ALIAS}", "To: Bob <bob@far.example>,\r\n Eve <eve@far.example>")
    both = status(
        failed(final="BOB@far.example", original="x"), failed(final="zoe@far.example", original="eve@far.example")
    )
    content = ours(report(letter(), both, whole(header)))
    assert [group["final-recipient"] for group in groups(content)[1:]] == [
        "rfc822; bob@far.example",
        "rfc822; eve@far.example",
    ]


@pytest.mark.parametrize("header", [BEHIND_US + SEVERAL + SENT, BEHIND_US + SENT, ""])
def test_where_nobody_knows_the_alias_nobody_is_shown(header: str) -> None:
    content = ours(report(letter(), status(failed()), headers(header)))
    assert b"hidden" not in content
    assert groups(content)[1]["final-recipient"] == f"rfc822; {UNKNOWN}"
    assert scan_message(email.message_from_bytes(content)) == {UNKNOWN.encode()}


def test_an_original_recipient_is_not_believed_to_be_an_alias() -> None:
    """Postfix writes one that nobody gave, and behind a second forwarder it is the mailbox that we sent to."""
    moved = failed(original=MAILBOX, final="carol@inner.hidden.example")
    content = ours(report(letter(), status(moved), whole(BEHIND_US + SEVERAL + SENT)))
    assert b"hidden" not in content


@pytest.mark.parametrize("alias", ["not an address", "a@b@c", "x" * 700 + "@fwd.example", "é@fwd.example\x85"])
def test_what_is_no_address_is_not_named(alias: str) -> None:
    content = ours(report(letter(), status(failed()), whole(RECEIVED.replace(ALIAS, alias) + SENT)))
    assert groups(content)[1]["final-recipient"] == f"rfc822; {UNKNOWN}"


# what is shown of the message


def test_our_own_fields_and_those_of_behind_us_do_not_come_back() -> None:
    assert returned(ours(report(letter(), status(failed()), whole()))) == (RECEIVED + SENT).encode()


WITHOUT_TLS = RECEIVED.partition("\t(using")[0] + RECEIVED.partition("bits))\r\n")[2]


@pytest.mark.parametrize(
    "field",
    [
        WITHOUT_TLS,
        WITHOUT_TLS.replace(ID, f"{ID}\r\n\t(TLSv1.3 TLS_AES_256_GCM_SHA384)"),
        received_field(Client("192.0.2.7", 1, user="joe"), HOST, ID, ALIAS, False, NOW - 9, hidden=True).decode(),
        received_field(
            Client("2001:db8::7", 1, "h", tls="TLSv1.2 X", cipher_bits=(1, 2)), HOST, ID, ALIAS, True, NOW - 9
        ).decode(),
    ],
    ids=["without TLS", "as 0.2.0 wrote it", "of a hidden client", "of SMTPUTF8"],
)
def test_our_received_is_known_in_each_of_its_forms(field: str) -> None:
    content = ours(report(letter(), status(failed()), whole(BEHIND_US + ON_TOP + field + SENT)))
    assert returned(content) == (field + SENT).encode()


@pytest.mark.parametrize(
    "field", [f"X-Envelope-To: {MAILBOX}", f"X-Scanned: for\r\n\t<{MAILBOX.upper()}>", "Delivered-To: x"]
)
def test_what_hosts_behind_us_put_at_the_end_does_not_either(field: str) -> None:
    content = ours(report(letter(), status(failed()), headers(HEADER + field + "\r\n")))
    assert returned(content) == (RECEIVED + SENT).encode()


@pytest.mark.parametrize("name", ["To", "Cc"])
def test_a_field_that_names_the_mailbox_is_not_shown_though_the_sender_may_have_written_it(name: str) -> None:
    sent = SENT.replace(f"To: {ALIAS}", f"{name}: {MAILBOX}")
    content = ours(report(letter(), status(failed()), whole(BEHIND_US + RECEIVED + sent)))
    assert returned(content) == (RECEIVED + SENT.replace(f"To: {ALIAS}\r\n", "")).encode()


def test_without_our_received_only_what_the_sender_wrote_comes_back() -> None:
    content = ours(report(letter(), status(failed()), headers(BEHIND_US + ON_TOP + SENT)))
    assert returned(content) == SENT.partition("+0000\r\n")[2].encode()


def test_without_any_header_nothing_comes_back() -> None:
    content = ours(report(letter(), status(failed())))
    assert len(list(parsed(content).iter_parts())) == 2
    assert "details follow" in " ".join(content.decode().split())


def test_a_message_that_came_by_twice_is_shown_as_it_was_the_first_time() -> None:
    again = RECEIVED.replace(ALIAS, "second@fwd.example").replace(ID, "330RQ2ZZZZZZ")
    content = ours(report(letter(), status(failed()), whole(BEHIND_US + again + BEHIND_US + RECEIVED + SENT)))
    assert returned(content) == (RECEIVED + SENT).encode() and b"second@" not in content


@pytest.mark.parametrize("encoding", ["base64", "7bit", "8BIT"])
def test_the_header_may_be_encoded(encoding: str) -> None:
    content = ours(report(letter(), status(failed()), headers(encoding=encoding)))
    assert returned(content) == (RECEIVED + SENT).encode()


def test_a_message_that_another_host_of_ours_took_is_known_by_the_mark_of_its_alias() -> None:
    there = RECEIVED.replace(f"by {HOST}", "by mx2.fwd.example")
    unmarked = ours(report(letter(), status(failed()), whole(BEHIND_US + there + SENT)))
    assert groups(unmarked)[1]["final-recipient"] == f"rfc822; {UNKNOWN}"
    marks = mark_fields([[ALIAS]], [b"old"]).decode()
    marked = ours(report(letter(), status(failed()), whole(BEHIND_US + marks + there + SENT)))
    assert groups(marked)[1]["final-recipient"] == f"rfc822; {ALIAS}"
    assert returned(marked) == (there + SENT).encode()


# the outcome


@pytest.mark.parametrize(
    ("action", "enhanced", "diagnostic", "said"),
    [
        ("failed", "5.2.2", "552 5.2.2 full", ("failed", "5.2.2", "smtp; 552 5.2.2")),
        ("Failed (really)", "5.2.2 (full)", "552", ("failed", "5.2.2", "smtp; 552 5.2.2")),
        ("failed", "4.4.7", "timed out", ("failed", "4.4.7", None)),
        ("failed", "nonsense", "554 no", ("failed", "5.0.0", "smtp; 554")),
        ("delayed", "4.2.2", "452 4.2.2 full", ("delayed", "4.2.2", "smtp; 452 4.2.2")),
        ("delivered", "2.0.0", "250 Ok", ("delivered", "2.0.0", "smtp; 250 2.0.0")),
        ("relayed", "2.0.0", "250 Ok", ("relayed", "2.0.0", "smtp; 250 2.0.0")),
        ("expanded", "2.0.0", "250 Ok", ("expanded", "2.0.0", "smtp; 250 2.0.0")),
        ("failed", "5.0.0", "5501 no code", ("failed", "5.0.0", None)),
    ],
)
def test_the_outcome_stays(action: str, enhanced: str, diagnostic: str, said: tuple[str, str, str | None]) -> None:
    fields = failed(diagnostic, enhanced=enhanced, action=action)
    [_, recipient] = groups(ours(report(letter(), status(fields), whole())))
    assert (recipient["action"], recipient["status"], recipient["diagnostic-code"]) == said


def test_a_warning_stays_a_warning() -> None:
    late = failed("452 4.2.2 full", enhanced="4.2.2", action="delayed")
    late += "Will-Retry-Until: Sun, 19 Nov 2023 22:13:20 +0000\r\n"
    content = ours(report(letter(), status(late), whole()))
    assert parsed(content)["subject"] == "Your message is delayed"
    assert all_failures(email.message_from_bytes(content))[0] == {ALIAS.encode()}
    assert groups(content)[1]["will-retry-until"] == "Sun, 19 Nov 2023 22:13:20 +0000"


@pytest.mark.parametrize(("envid", "shown"), [("QQ+17 x=y", "QQ+17 x=y"), ("", None), ("é", None), ("x" * 200, None)])
def test_the_sender_s_envelope_id_comes_back(envid: str, shown: str | None) -> None:
    about = f"Original-Envelope-Id: {envid}\r\nReporting-MTA: dns; hidden.example\r\n"
    [whole_message, _] = groups(ours(report(letter(), status(failed(), whole=about), whole())))
    assert whole_message["original-envelope-id"] == shown


@pytest.mark.parametrize(
    "date", ["Tue, 99 Nov 2023", "never", "Mon, 01 Jan 0001 00:00:00 +2359", "1 Jan 2199 00:00 +0000"]
)
def test_a_date_that_is_none_is_left_out(date: str) -> None:
    fields = failed() + f"Last-Attempt-Date: {date}\r\n"
    content = ours(report(letter(), status(fields, whole=f"Arrival-Date: {date}\r\n"), headers(SENT)))
    assert groups(content)[0]["arrival-date"] == "Tue, 14 Nov 2023 22:15:00 +0000"
    assert groups(content)[1]["last-attempt-date"] is None


# what is no report


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (qmail(), "text/plain, no multipart/report"),
        (b"", "text/plain, no multipart/report"),
        (b"just text\r\n", "text/plain, no multipart/report"),
        (report(letter(), kind="multipart/mixed"), "multipart/mixed, no multipart/report"),
        (report(letter(), kind="multipart/report; report-type=disposition-notification"), "of something else"),
        (report(letter(), whole()), "no delivery-status"),
        (report(letter(), status(), whole()), "no recipient"),
        (report(letter(), status(failed(action="")), whole()), "an action"),
        (report(letter(), status(failed(action="forgotten")), whole()), "an action"),
        (report(letter(), status(*[failed()] * 101), whole()), "more than 100 recipients"),
        (report(letter(), status(failed() + f"X: {'y' * 200_000}\r\n"), whole()), "octets of fields"),
        (report(letter(), status(failed()), whole(f"X: {'y' * 200_000}\r\n")), "octets of fields"),
        (report(letter(), status(failed()), whole("X: y\r\n" * 1001)), "more than 1000 fields"),
        (report(*[letter()] * 21), "more than 20 parts"),
        (report(letter(), status(failed()), whole()).removesuffix(b"--\r\n"), "no end"),
        (report(letter(), boundary=""), "no boundary"),
        (report(letter(), boundary="b" * 300), "no boundary"),
        (report(), "no parts"),
        (report(letter(), status(failed()), headers(encoding="x-uuencode")), "unknown transfer encoding"),
        (report(letter(), status(failed()), headers("A", encoding="base64").replace("QQ==", "Q")), "base64"),
    ],
)
def test_what_cannot_be_read_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        ours(content)


@given(st.data())
def test_whatever_comes_is_rebuilt_without_the_mailbox_or_unreadable(data: st.DataObject) -> None:
    octets = bytearray(postfix())
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(octets) - 1))
        octets[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=6) | st.just(b"\r\n"))
    try:
        content = ours(bytes(octets).replace(b"\r", b"").replace(b"\n", b"\r\n"))
    except Unreadable:
        return
    assert b"carol.private" not in content
    assert content.startswith(b"From: Mail Delivery System <MAILER-DAEMON@fwd.example>\r\n")
    assert email.message_from_bytes(content).get_content_type() == "multipart/report"
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))
