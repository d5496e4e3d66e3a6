"""Notifications as their readers see them: a mail program, a bounce reader, a person, and a curious sender."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage
from email.message import Message as ParsedMessage
from typing import Any

import pytest
from flufl.bounce import all_failures, scan_message
from hypothesis import given
from hypothesis import strategies as st

from relay.bounce.dsn import RecipientReport, Report, build, original_recipient
from relay.mail.message import Message

HIDDEN = "carol.private@mailbox.hidden.example"
ORIGINAL = (
    b"From: Joe <joe@origin.example>\r\nTo: alice@fwd.example\r\nSubject: hello\r\n"
    b"Message-ID: <one@origin.example>\r\n\r\nHello Alice.\r\n..\r\n-- \r\nJoe\r\n"
)
FAILED = RecipientReport("alice@fwd.example", "failed", 550, "5.1.1", last_attempt=1700000060)


def report(*recipients: RecipientReport, **changes: Any) -> Report:
    plain = Report(
        hostname="mx.fwd.example",
        from_domain="fwd.example",
        to="joe@origin.example",
        queue_id="4F7K2Q",
        arrived=1700000000,
        now=1700432000,
        original=Message(ORIGINAL),
        unique="4F7K2R.1",
        recipients=recipients or (FAILED,),
    )
    return replace(plain, **changes)


def parsed(data: bytes) -> EmailMessage:
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    for part in message.walk():
        assert not part.defects
    return message


def fields(data: bytes) -> list[ParsedMessage]:
    """The groups of message/delivery-status: the one of the message, then one a recipient."""
    status = list(parsed(data).iter_parts())[1]
    assert status.get_content_type() == "message/delivery-status"
    return list(status.get_payload())


def letter_of(data: bytes) -> str:
    return str(next(parsed(data).iter_parts()).get_content()).replace("\r\n", "\n")


def raw_part(data: bytes, number: int) -> tuple[bytes, bytes]:
    """Header and body of a part as they stand between the boundaries."""
    head, _, body = data.split(b'boundary="')[1].partition(b'"')
    return body.split(b"\r\n--" + head)[1 + number].removeprefix(b"\r\n").split(b"\r\n\r\n", 1)  # type: ignore[return-value]


def test_structure_and_header() -> None:
    message = parsed(build(report()))
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "message/rfc822",
    ]
    assert message["from"].addresses[0].addr_spec == "MAILER-DAEMON@fwd.example"
    assert message["to"].addresses[0].addr_spec == "joe@origin.example"
    assert message["auto-submitted"] == "auto-replied"
    assert message["message-id"] == "<4F7K2R.1@mx.fwd.example>"
    assert message["references"] == message["in-reply-to"] == "<one@origin.example>"
    assert message["date"] == "Sun, 19 Nov 2023 22:13:20 +0000"
    assert message["subject"] == "Your message could not be delivered"
    assert message["return-path"] is None


def test_the_fields_of_a_failure() -> None:
    data = build(report(replace(FAILED, orcpt="rfc822;Alice+2Bnews@fwd.example"), envid="QQ+2B17"))
    whole, recipient = fields(data)
    assert dict(whole.items()) == {
        "Original-Envelope-Id": "QQ+17",
        "Reporting-MTA": "dns; mx.fwd.example",
        "Arrival-Date": "Tue, 14 Nov 2023 22:13:20 +0000",
    }
    assert dict(recipient.items()) == {
        "Original-Recipient": "rfc822; Alice+news@fwd.example",
        "Final-Recipient": "rfc822; alice@fwd.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Diagnostic-Code": "smtp; 550 5.1.1",
        "Last-Attempt-Date": "Tue, 14 Nov 2023 22:14:20 +0000",
    }


def test_a_bounce_reader_finds_every_failed_recipient_and_nobody_else() -> None:
    data = build(
        report(
            FAILED,
            RecipientReport("bob@fwd.example", "failed", 451, "4.2.2", expired=True),
            RecipientReport("late@fwd.example", "delayed", 451, "4.3.0", retry_until=1700500000),
            RecipientReport("fine@fwd.example", "relayed", 250, "2.0.0"),
        )
    )
    message = email.message_from_bytes(data)
    assert scan_message(message) == {b"alice@fwd.example", b"bob@fwd.example"}
    assert all_failures(message)[0] == {b"late@fwd.example"}


def test_the_message_comes_back_octet_for_octet() -> None:
    head, body = raw_part(build(report()), 2)
    assert b"7bit" in head
    assert body == ORIGINAL


def test_an_original_that_contains_the_boundary_does_not_break_the_report() -> None:
    original = ORIGINAL + b"--=_4F7K2R.1\r\n\r\nforged part\r\n--=_4F7K2R.1--\r\n"
    message = parsed(build(report(original=Message(original))))
    assert len(list(message.iter_parts())) == 3


@pytest.mark.parametrize(
    ("recipient", "status"),
    [
        (RecipientReport("a@b", "failed", 550, "5.7.1"), "5.7.1"),
        (RecipientReport("a@b", "failed", 554), "5.0.0"),
        (RecipientReport("a@b", "failed", 550, "2.0.0"), "5.0.0"),
        (RecipientReport("a@b", "failed", 0, "", expired=True), "4.4.7"),
        (RecipientReport("a@b", "failed", 452, "4.2.2", expired=True), "4.2.2"),
        (RecipientReport("a@b", "delayed", 0, "4.4.1"), "4.4.1"),
        (RecipientReport("a@b", "delayed", 550, "5.1.1"), "4.0.0"),
        (RecipientReport("a@b", "delivered", 250, "2.1.5"), "2.1.5"),
        (RecipientReport("a@b", "expanded"), "2.0.0"),
    ],
)
def test_status(recipient: RecipientReport, status: str) -> None:
    assert fields(build(report(recipient)))[1]["Status"] == status


def test_no_diagnostic_code_without_a_reply() -> None:
    [_, recipient] = fields(build(report(RecipientReport("a@b.example", "failed", 0, "4.4.1", expired=True))))
    assert recipient["Diagnostic-Code"] is None


def test_the_diagnostic_code_holds_only_codes_of_the_reply_itself() -> None:
    [_, recipient] = fields(build(report(RecipientReport("a@b.example", "failed", 550, "4.3.2", expired=True))))
    assert recipient["Diagnostic-Code"] == "smtp; 550"


@pytest.mark.parametrize(
    ("orcpt", "shown"),
    [
        ("rfc822;alice@fwd.example", "rfc822; alice@fwd.example"),
        ("RFC822;a+2Bb+3Dc@fwd.example", "rfc822; a+b=c@fwd.example"),
        ("rfc822;+22two+20words+22@fwd.example", 'rfc822; "two words"@fwd.example'),
        (r"utf-8;\x{E4}lice@fwd.example", "utf-8; älice@fwd.example"),
        ("utf-8;älice@fwd.example", "utf-8; älice@fwd.example"),
        ("", ""),
        ("alice@fwd.example", ""),
        ("rfc822;broken+2", ""),
        ("rfc822;evil+0D+0AX-Injected:+20yes", ""),
        (r"utf-8;evil\x{0D}\x{0A}X", ""),
        (r"utf-8;\x{FFFFFF}", ""),
        (r"utf-8;\x{D800}", ""),
        ("rfc822;" + "a" * 500, ""),
        ("bad type;alice@fwd.example", ""),
    ],
)
def test_original_recipient(orcpt: str, shown: str) -> None:
    assert original_recipient(orcpt) == shown


def test_the_letter_names_the_address_the_reason_and_the_number_to_quote() -> None:
    letter = letter_of(build(report()))
    assert "could not be delivered to:\n\n    alice@fwd.example\n" in letter
    assert "The address does not exist, or no longer does (550 5.1.1)." in letter
    assert "check its spelling" in letter
    unwrapped = " ".join(letter.split())
    assert "Write to postmaster@fwd.example, and quote 4F7K2Q at mx.fwd.example." in unwrapped
    assert max(map(len, letter.splitlines())) <= 84


def test_the_letter_says_how_long_was_tried_and_how_long_it_goes_on() -> None:
    gone = RecipientReport("a@fwd.example", "failed", 452, "4.2.2", expired=True)
    late = RecipientReport("b@fwd.example", "delayed", 0, "4.4.1", retry_until=1700518400)
    letter = " ".join(letter_of(build(report(gone, late))).split())
    assert "The mailbox is full (452 4.2.2)." in letter
    assert "again and again for 5 days, and is now given up." in letter
    assert "Attempts go on until Mon, 20 Nov 2023 22:13:20 +0000; you need not send it again." in letter


@pytest.mark.parametrize(
    ("action", "subject"),
    [
        ("delayed", "Your message is delayed"),
        ("delivered", "Your message was delivered"),
        ("relayed", "Your message was passed on"),
        ("expanded", "Your message was passed on"),
    ],
)
def test_what_did_not_fail_returns_the_header_only(action: Any, subject: str) -> None:
    data = build(report(RecipientReport("alice@fwd.example", action)))
    assert parsed(data)["subject"] == subject
    assert fields(data)[1]["Action"] == action
    head, body = raw_part(data, 2)
    assert b"text/rfc822-headers" in head
    assert body == ORIGINAL[: ORIGINAL.index(b"\r\n\r\n") + 2]


@pytest.mark.parametrize(
    ("ret", "body", "kind"),
    [
        ("", b"short\r\n", "message/rfc822"),
        ("FULL", b"short\r\n", "message/rfc822"),
        ("HDRS", b"short\r\n", "text/rfc822-headers"),
        ("FULL", b"0123456789\r\n" * 5000, "text/rfc822-headers"),
        ("FULL", b"x" * 999 + b"\r\n", "text/rfc822-headers"),
        ("FULL", b"nul \0\r\n", "text/rfc822-headers"),
        ("", "grüße\r\n".encode("latin-1"), "message/rfc822"),
    ],
)
def test_how_much_comes_back(ret: str, body: bytes, kind: str) -> None:
    data = build(report(ret=ret, original=Message(b"Subject: x\r\n\r\n" + body)))
    returned = list(parsed(data).iter_parts())[2]
    assert returned.get_content_type() == kind
    assert len(data) < 60_000


def test_a_huge_header_is_cut_between_fields() -> None:
    original = b"Subject: first\r\n" + b"X-Filler: 0123456789\r\n folded\r\n" * 4000 + b"\r\nbody\r\n"
    data = build(report(original=Message(original)))
    _, body = raw_part(data, 2)
    assert len(body) <= 50_000
    assert body.startswith(b"Subject: first\r\n")
    assert body.endswith(b"X-Filler: 0123456789\r\n folded\r\n")


def test_a_message_without_a_header_is_not_mistaken_for_one() -> None:
    data = build(report(original=Message(b"just text\r\n\r\nmore: of it\r\n")))
    returned = list(parsed(data).iter_parts())[2]
    assert not returned.get_payload(0).keys()  # type: ignore[union-attr]


def test_eight_bit_content_is_labelled() -> None:
    original = b"Subject: x\r\n\r\n" + "grüße\r\n".encode()
    data = build(report(original=Message(original)))
    assert parsed(data)["content-transfer-encoding"] == "8bit"
    head, body = raw_part(data, 2)
    assert b"Content-Transfer-Encoding: 8bit" in head
    assert body == original


def test_a_utf8_header_comes_back_as_message_global() -> None:
    original = "Subject: grüße\r\n\r\nbody\r\n".encode()
    head, body = raw_part(build(report(original=Message(original))), 2)
    assert b"Content-Type: message/global\r\n" in head
    assert body == original
    head, body = raw_part(build(report(original=Message(original), ret="HDRS")), 2)
    assert b"Content-Type: message/global-headers\r\n" in head
    assert body == "Subject: grüße\r\n".encode()


def test_a_header_in_an_unknown_charset_is_encoded() -> None:
    original = "Subject: grüße\r\n".encode("latin-1") + b"X-Long: " + b"y" * 1200 + b"\r\n\r\nbody\r\n"
    data = build(report(original=Message(original), ret="HDRS"))
    assert data.isascii()
    returned = list(parsed(data).iter_parts())[2]
    assert returned.get_content_type() == "text/rfc822-headers"
    assert returned.get_payload(decode=True) == original[: original.index(b"\r\n\r\n") + 2]


def test_a_non_ascii_recipient_makes_a_global_report() -> None:
    recipient = replace(FAILED, address="älice@fwd.example", orcpt=r"utf-8;\x{E4}lice@fwd.example")
    data = build(report(recipient))
    head, body = raw_part(data, 1)
    assert b"Content-Type: message/global-delivery-status" in head
    assert b"Content-Transfer-Encoding: 8bit" in head
    assert "Original-Recipient: utf-8; älice@fwd.example\r\n".encode() in body
    assert "Final-Recipient: utf-8; älice@fwd.example\r\n".encode() in body
    assert Message(data).has_utf8_header is False  # the sender's own system need not offer SMTPUTF8
    assert "älice@fwd.example" in letter_of(data)


def test_a_non_ascii_sender_is_addressed_as_it_is() -> None:
    data = build(report(to="jörg@origin.example"))
    assert "To: <jörg@origin.example>\r\n".encode() in data
    assert raw_part(data, 1)[0].startswith(b"Content-Type: message/delivery-status")


_text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=40)
_recipients = st.builds(
    RecipientReport,
    address=st.sampled_from(["alice@fwd.example", '"a b"@fwd.example', "älice@fwd.example"]),
    action=st.sampled_from(["failed", "delayed", "delivered", "relayed", "expanded"]),
    code=st.sampled_from([0, 250, 421, 550]),
    enhanced=st.sampled_from(["", "5.1.1", "4.4.1", "5.7.1 <" + HIDDEN + "> is full", HIDDEN]) | _text,
    expired=st.booleans(),
    orcpt=st.just("rfc822;alice@fwd.example") | _text.map("rfc822;".__add__) | _text.map("utf-8;".__add__),
    last_attempt=st.none() | st.floats(0, 4e9),
    retry_until=st.none() | st.floats(0, 4e9),
)


@given(
    recipients=st.lists(_recipients, min_size=1, max_size=4),
    original=st.binary(max_size=300).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b"\r\n")),
    header=st.booleans(),
    ret=st.sampled_from(["", "FULL", "HDRS"]),
    envid=_text,
)
def test_whatever_happened_the_report_is_well_formed_and_tells_nothing_hidden(
    recipients: list[RecipientReport], original: bytes, header: bool, ret: str, envid: str
) -> None:
    message = Message(b"Subject: x\r\n\r\n" + original if header else original)
    data = build(report(*recipients, original=message, ret=ret, envid=envid))
    assert HIDDEN.encode() not in data
    assert b"mailbox.hidden" not in data
    assert all(len(line) <= 998 for line in data.split(b"\r\n"))
    assert b"\n" not in data.replace(b"\r\n", b"")
    parts = list(email.message_from_bytes(data).get_payload())
    assert len(parts) == 3 or (len(parts) == 2 and not message.fields)
    assert len(raw_part(data, 1)[1].strip().split(b"\r\n\r\n")) == 1 + len(recipients)
