"""Refusals of real servers, and what they mean."""

from __future__ import annotations

from typing import Literal

import pytest

from relay.check.refusals import denies_relaying, is_about_the_client, refuses_strangers, wants_login
from relay.check.smtp_probe import Reply
from relay.deliver.classify import classify

OWN = "203.0.113.5"


def reply(text: str, command: Literal["MAIL", "RCPT"] = "RCPT") -> Reply:
    code, _, words = text.partition(" ")
    detail = classify("rcpt", int(code), words).enhanced.partition(".")[2]
    return Reply(command, int(code), detail, text)


@pytest.mark.parametrize(
    "text",
    [
        "554 5.7.1 <joe@example.com>: Relay access denied",
        "454 4.7.1 <joe@example.com>: Relay access denied",
        "550 relay not permitted",
        "550 5.7.1 <joe@example.com>... Relaying denied. IP name lookup failed [203.0.113.5]",
        "550 5.1.2 Relay not allowed.",
        "503 5.7.1 Relay not allowed",
        "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
        "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
        "530 5.7.0 Authentication required",
    ],
)
def test_a_host_that_does_not_relay(text: str) -> None:
    assert denies_relaying(reply(text)) and refuses_strangers(reply(text))
    assert not denies_relaying(reply(text, "MAIL"))


@pytest.mark.parametrize(
    ("text", "strangers"),
    [
        ("550 5.1.1 <SRS0=h=t=relay.example=x@relay.example>: User unknown in relay recipient table", True),
        ("550 5.1.1 relay.isp.example: no such user", True),
        ("550 I cannot deliver mail for <joe@example.com>", True),
        ("550 5.7.1 203.0.113.5 is an open relay", True),
        ("550 5.1.2 Domain not found", False),
        ("556 5.1.10 Recipient address has null MX", False),
        ("451 4.3.0 relay is not up", False),
    ],
)
def test_a_host_that_says_nothing_of_relaying(text: str, strangers: bool) -> None:
    assert not denies_relaying(reply(text)) and refuses_strangers(reply(text)) == strangers


@pytest.mark.parametrize(
    "text",
    [
        "550 5.7.23 SPF fails for mx.fwd.example",
        "554 5.7.1 Service unavailable; Client host [203.0.113.5] blocked using dnsbl.example",
        "554 5.7.1 <unknown[203.0.113.5]>: Client host rejected: Access denied",
        "550 5.7.1 <mx.fwd.example>: Helo command rejected: Host not found",
        "530 5.7.0 Must issue a STARTTLS command first",
        "550 your host 203.0.113.5.",
        "554 5.7.1 Service unavailable; Client host [198.51.100.9] blocked using dnsbl.example",  # behind a NAT
    ],
)
def test_a_refusal_of_the_client(text: str) -> None:
    assert is_about_the_client(reply(text), OWN)


@pytest.mark.parametrize(
    "text",
    [
        "550 5.1.1 User unknown",
        "550 5.1.1 <SRS0=h=t=thelodge.example=x@fwd.example>: who?",
        "550 5.1.1 who? says 203.0.113.50",
        "550 5.1.1 undeliverable address: host mx.fwd.example[203.0.113.5] said: 550 5.1.1 who?",
        "550 5.1.1 undeliverable address: host mx.fwd.example[203.0.113.5]:10025 said: 550 5.1.1 who?",
    ],
)
def test_a_refusal_of_the_recipient(text: str) -> None:
    assert not is_about_the_client(reply(text), OWN)


def test_who_wants_a_login() -> None:
    assert wants_login(reply("503 This mail server requires authentication", "MAIL"))
    assert not wants_login(reply("450 4.7.0 authentication required"))
    assert not wants_login(reply("550 5.7.26 unauthenticated mail"))
