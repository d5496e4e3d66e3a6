"""How much of the message comes back, and in which form."""

from __future__ import annotations

from typing import Any

import pytest

from relay.bounce.dsn import build
from relay.bounce.report import RecipientReport
from relay.mail.message import Message
from tests.bounce.notifications import ORIGINAL, fields, parsed, raw_part, report


def test_the_message_comes_back_octet_for_octet() -> None:
    head, body = raw_part(build(report()), 2)
    assert b"7bit" in head
    assert body == ORIGINAL


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
