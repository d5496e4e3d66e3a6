"""The fields for programs (RFC 3464), as a bounce reader finds them."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace

import pytest
from flufl.bounce import all_failures, scan_message

from relay.bounce.delivery_status import names_a_mailbox, original_recipient
from relay.bounce.dsn import build
from relay.bounce.report import RecipientReport
from relay.mail.message import Message
from tests.bounce.notifications import FAILED, fields, letter_of, raw_part, report


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


@pytest.mark.parametrize(
    ("orcpt", "named"),
    [
        ("rfc822;alice@fwd.example", True),
        ("utf-8;älice@fwd.example", True),
        ("rfc822;alice", False),
        ("x-other;ticket 7", False),
        ("", False),
    ],
)
def test_an_original_recipient_that_is_no_address_names_no_mailbox(orcpt: str, named: bool) -> None:
    assert names_a_mailbox(orcpt) is named
