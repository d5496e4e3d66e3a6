"""Notifications as messages of the queue: one for all that happened, to whom the sender's mail goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from relay.bounce.notifier import Happening, Notice, Notifier, from_domain
from relay.mail.message import Message
from relay.mail.queue_id import QueueIds
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Delivery, StoredMessage
from relay.queue.stored_verdict import OWN_MESSAGE, StoredVerdict
from relay.rate import TokenBuckets
from relay.route.router import Target

NOW = 1_790_000_000.0
JOE = "joe@origin.test"
HOME = (Target(JOE),)
PATIENCE = RetrySchedule(bounce_retry_for=500.0)
CONTENT = b"From: joe@origin.test\r\nSubject: hello\r\n\r\nA secret.\r\n"


def notifier(*, to: Any = "verified", allowance: int = 10) -> Notifier:
    ids = QueueIds(lambda: NOW)
    return Notifier("mx.test", "fwd.test", PATIENCE, ids, lambda r: "!" + r, TokenBuckets(0.01, allowance), to)


def stored(verdict: StoredVerdict | None = None, sender: str = JOE, **more: Any) -> StoredMessage:
    message = Message(CONTENT)
    return StoredMessage(7, NOW - 60, sender, b"", message, verdict or StoredVerdict(spf="pass"), **more)


def happening(n: int = 0, *, original: str = "", code: int = 550, enhanced: str = "5.1.1", **more: Any) -> Happening:
    recipient = f"r{n}@d.test"
    delivery = Delivery(7, n, recipient, original or recipient, expires=NOW + 3600, **more)
    return Happening(delivery, code, enhanced)


def text(notice: Notice) -> bytes:
    assert notice.report is not None
    return notice.report.message.content


def noticed(*happened: Happening, action: Any = "failed", home: Sequence[Target] = HOME, **message: Any) -> Notice:
    return notifier().notice(action, stored(**message), happened, home, NOW)


def test_a_notification_is_a_message_of_ours_from_the_null_sender() -> None:
    notice = noticed(happening())
    assert notice.report is not None
    assert (notice.report.sender, notice.report.verdict, notice.report.trace) == ("", OWN_MESSAGE, b"")
    assert notice.report.received == NOW
    assert text(notice).startswith(b"From: Mail Delivery System <MAILER-DAEMON@fwd.test>\r\nTo: <joe@origin.test>\r\n")
    assert (notice.told, notice.dead) == ((happening(),), ())


def test_it_goes_to_every_place_where_mail_for_the_sender_goes() -> None:
    notice = noticed(happening(), home=(Target("a@home.test", srs=False), Target("b@home.test")))
    assert notice.report is not None
    assert notice.deliveries == tuple(
        Delivery(
            notice.report.id,
            n,
            recipient=recipient,
            original=JOE,
            hop="!" + recipient,
            srs=srs,
            next_attempt=NOW,
            expires=NOW + 500,
        )
        for n, (recipient, srs) in enumerate([("a@home.test", False), ("b@home.test", True)])
    )


def test_an_alias_is_one_recipient_to_the_sender_and_its_mailboxes_stay_hidden() -> None:
    notice = noticed(*(happening(n, original="team@fwd.test") for n in range(3)))
    assert text(notice).count(b"Final-Recipient:") == 1
    assert b"team@fwd.test" in text(notice) and b"@d.test" not in text(notice)


def test_several_recipients_share_one_notification_and_one_allowance() -> None:
    notes, message = notifier(allowance=1), stored(StoredVerdict(spf="none"))
    first = notes.notice("failed", message, [happening(n) for n in range(3)], HOME, NOW)
    assert text(first).count(b"Final-Recipient:") == 3
    second = notes.notice("failed", message, [happening()], HOME, NOW)
    assert second.report is None and second.dead == (happening(),)


def test_those_who_asked_for_nothing_are_not_in_it() -> None:
    never, asked = happening(0, notify="NEVER"), happening(1)
    notice = noticed(never, asked)
    assert (notice.told, notice.dead) == ((asked,), ())
    assert b"r0@d.test" not in text(notice)
    assert noticed(never) == Notice()


@pytest.mark.parametrize(
    ("message", "home"),
    [({"sender": ""}, HOME), ({"verdict": StoredVerdict(spf="fail")}, HOME), ({}, ())],
)
def test_a_failure_that_nobody_may_be_told_of_is_dead(message: dict[str, Any], home: Sequence[Target]) -> None:
    assert noticed(happening(), home=home, **message) == Notice(dead=(happening(),))


@pytest.mark.parametrize("action", ["delayed", "relayed", "expanded"])
def test_only_failures_become_dead_letters(action: str) -> None:
    asks = happening(notify="SUCCESS,DELAY")
    assert noticed(asks, action=action, home=()) == Notice()
    assert noticed(asks, action=action, verdict=StoredVerdict(spf="fail")) == Notice()
    assert noticed(asks, action=action).told == (asks,)


def test_bounces_to_all_reach_senders_whom_nothing_proves() -> None:
    message = stored(StoredVerdict(spf="fail"))
    assert notifier(to="all").notice("failed", message, [happening()], HOME, NOW).report is not None


def test_a_stranger_gets_the_header_back_and_a_trusted_client_what_it_asked_for() -> None:
    stranger = noticed(happening(), verdict=StoredVerdict(spf="pass"), ret="FULL")
    assert b"A secret." not in text(stranger) and b"Subject: hello" in text(stranger)
    known = noticed(happening(), verdict=StoredVerdict(trusted=True), ret="FULL")
    assert b"A secret." in text(known)


def test_what_a_stranger_wrote_into_orcpt_comes_back_only_where_it_is_an_address() -> None:
    odd = happening(orcpt="x-spam;buy+20this")
    assert b"buy" not in text(noticed(odd))
    assert b"buy" in text(noticed(odd, verdict=StoredVerdict(trusted=True)))
    assert b"alias@else.test" in text(noticed(happening(orcpt="rfc822;alias@else.test")))


def test_the_envelope_id_comes_back() -> None:
    assert b"Original-Envelope-Id: QQ314159" in text(noticed(happening(), envid="QQ314159"))


def test_a_delay_says_until_when_attempts_go_on() -> None:
    delayed = happening(code=451, enhanced="4.3.0", notify="DELAY")
    assert b"Will-Retry-Until:" in text(noticed(delayed, action="delayed"))
    assert b"Will-Retry-Until:" not in text(noticed(happening()))


@pytest.mark.parametrize(
    ("signing", "domain"),
    [
        ((), "fwd.test"),
        (("fwd.test",), "fwd.test"),
        (("brand.test", "fwd.test"), "fwd.test"),
        (("Brand.test", "else.test"), "brand.test"),
    ],
)
def test_mailer_daemon_lives_at_a_domain_that_we_sign_for(signing: Sequence[str], domain: str) -> None:
    assert from_domain(signing, "fwd.test") == domain


@pytest.mark.parametrize(
    ("orcpt", "shown"),
    [
        ("", True),
        ("rfc822;r0@d.test", True),
        ("rfc822;R0@D.test", True),
        ("x-id;42", True),
        ("rfc822;alias@before-us.test", False),
    ],
)
def test_words_are_not_quoted_where_a_host_before_us_had_an_alias(orcpt: str, shown: bool) -> None:
    refused = replace(happening(orcpt=orcpt), words="nobody of that name")
    assert (b"nobody of that name" in text(noticed(refused, verdict=StoredVerdict(trusted=True)))) is shown


@pytest.mark.parametrize(("asked", "asks"), [("", ""), ("require", "prefer"), ("prefer", "prefer"), ("no", "no")])
def test_a_notification_asks_of_tls_what_its_message_asked(asked: str, asks: str) -> None:
    notice = noticed(happening(), verdict=StoredVerdict(trusted=True), ret="FULL", tls=asked)
    assert notice.report is not None
    assert notice.report.tls == asks
    assert (b"\r\nTLS-Required: No\r\n" in text(notice)) == (asks == "no")
    assert (b"A secret." in text(notice)) == (asks != "prefer")  # RFC 8689 section 5: as if RET=HDRS
