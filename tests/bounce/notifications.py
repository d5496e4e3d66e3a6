"""A notification to build, and its parts as readers see them."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage
from email.message import Message as ParsedMessage
from typing import Any

from relay.bounce.report import RecipientReport, Report
from relay.mail.message import Message

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
