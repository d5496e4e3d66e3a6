"""What `explain` prints for a person: the session, the checks, each delivery, and nothing that a terminal obeys."""

from __future__ import annotations

import io

from rich.console import Console

from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict
from relay.cli.dry_run import DryRun, OurSignature, SessionStep, Way
from relay.cli.explain_view import show
from relay.cli.noting_resolver import Asked
from relay.mail.envelope import Client
from relay.mail.message import Message

CLIENT = Client("192.0.2.1", 25, helo="mx.shop.example")
VERDICT = Verdict(
    trusted=False,
    spf=SpfVerdict("pass", "mailfrom", "shop.example"),
    dkim=(DkimVerdict("fail", domain="shop.example", selector="s1", problem="the body was changed"),),
    dmarc=DmarcVerdict("pass", "shop.example", policy="reject", aligned=("spf",)),
)
WAY = Way(
    recipient="alice@mailbox.example",
    original="alice@fwd.example",
    hop="mailbox.example",
    destination="",
    sender="SRS0=x@fwd.example",
    sender_reason="srs",
    from_rewritten=True,
    on_top=b"Received: from mx\x1b[2J\r\n\tby mx.fwd.example\r\n",
    message=Message(b"From: reply=x@fwd.example\r\n\r\nHi.\r\n"),
    signatures=(OurSignature("DKIM-Signature", "fwd.example", "s1", "rsa-sha256"),),
)


def printed(result: DryRun, *, headers: bool = False, dns: bool = False) -> str:
    console = Console(file=io.StringIO(), width=200, markup=False, emoji=False, highlight=False)
    show(result, console, headers=headers, dns=dns)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_message_that_would_leave_is_told_from_session_to_delivery() -> None:
    text = printed(
        DryRun(
            CLIENT,
            steps=[SessionStep("DATA", "250 2.0.0 Ok")],
            verdict=VERDICT,
            unforwardable="DMARC passes by SPF alone",
            forged=2,
            asked=(Asked("shop.example", "TXT", ("v=spf1 -all",)), Asked("gone.example", "A", problem="no such name")),
            ways=[WAY],
        ),
        headers=True,
        dns=True,
    )
    flat = " ".join(text.split())
    for part in (
        "The session of 192.0.2.1, EHLO mx.shop.example",
        "250 2.0.0 Ok",
        "the body was changed",
        "v=spf1 -all",
        "no such name",
        "Forwarding would break it: DMARC passes by SPF alone.",
        "Removed: 2 Authentication-Results that claimed to be ours.",
        "To alice@mailbox.example, behind alice@fwd.example",
        "<SRS0=x@fwd.example> (srs: SPF will be asked for our domain)",
        "signed DKIM fwd.example (s1)",
        "reply=x@fwd.example (rewritten)",
    ):
        assert part in flat
    assert text.startswith("Accepted, and would leave for 1 address.\n")
    assert "\x1b" not in text and "Nothing would leave." not in text


def test_a_refused_message_goes_nowhere() -> None:
    text = printed(DryRun(CLIENT, steps=[SessionStep("RCPT TO:<a@b.example>", "550 5.7.1 relaying denied")]))
    assert "550 5.7.1 relaying denied" in text and "Nothing would leave." in text
    assert text.startswith("Refused: 550 5.7.1 relaying denied\n") and "What was checked" not in text


def test_a_message_that_is_taken_and_goes_nowhere_was_discarded() -> None:
    text = printed(DryRun(CLIENT, steps=[SessionStep("DATA", "250 2.0.0 Ok")]))
    assert text.startswith("Accepted.\n") and "Discarded: nothing would be delivered." in text


def test_a_deferral_and_a_refused_recipient_are_told_apart() -> None:
    assert printed(DryRun(CLIENT, steps=[SessionStep("DATA", "451 4.3.0 later")])).startswith("Deferred: 451 4.3.0")
    steps = [SessionStep("RCPT TO:<a@b.example>", "550 5.1.1 no"), SessionStep("DATA", "250 2.0.0 Ok")]
    accepted = printed(DryRun(CLIENT, steps=steps, ways=[WAY, WAY]))
    assert accepted.startswith("Accepted, and would leave for 2 addresses; 1 recipient refused.\n")
