"""From recipients to deliveries."""

from __future__ import annotations

from typing import Any

import pytest

from relay.intake.fan_out import FORGED, fan_out
from relay.mail.envelope import RcptTo
from relay.mail.message import Message
from relay.queue.store import Delivery, StoredMessage
from relay.queue.stored_verdict import StoredVerdict
from relay.route.router import Routed, Target
from relay.route.srs_reverse import Returned

RECEIVED, EXPIRES = 1_790_000_000.0, 1_790_400_000.0
STORED = StoredMessage(7, RECEIVED, "joe@origin.test", b"", Message(b"Subject: x\r\n\r\n"), StoredVerdict())


def deliveries(*routes: tuple[RcptTo, Routed]) -> list[Delivery]:
    return fan_out(STORED, routes, lambda recipient: "hop of " + recipient, EXPIRES)


def alias(recipient: str, *targets: str, **rcpt: Any) -> tuple[RcptTo, Routed]:
    return RcptTo(recipient, **rcpt), Routed("alias", tuple(Target(target) for target in targets))


def test_a_delivery_has_all_that_an_attempt_and_a_report_need() -> None:
    rcpt = RcptTo("alice@fwd.test", "SUCCESS,FAILURE", "rfc822;alice@fwd.test")
    assert deliveries((rcpt, Routed("alias", (Target("carol@d.test", srs=False),)))) == [
        Delivery(
            7,
            0,
            recipient="carol@d.test",
            original="alice@fwd.test",
            hop="hop of carol@d.test",
            srs=False,
            notify="SUCCESS,FAILURE",
            orcpt="rfc822;alice@fwd.test",
            next_attempt=RECEIVED,
            expires=EXPIRES,
        )
    ]


def test_each_address_gets_the_message_once_and_the_first_recipient_has_it() -> None:
    found = deliveries(
        alias("team@fwd.test", "carol@d.test", "dan@d.test"), alias("carol@fwd.test", "carol@D.test", "eve@d.test")
    )
    assert [(d.n, d.recipient, d.original) for d in found] == [
        (0, "carol@d.test", "team@fwd.test"),
        (1, "dan@d.test", "team@fwd.test"),
        (2, "eve@d.test", "carol@fwd.test"),
    ]


@pytest.mark.parametrize(
    ("notify", "behind_list"),
    [
        ("", ""),
        ("NEVER", "NEVER"),
        ("SUCCESS", "NEVER"),
        ("FAILURE", "FAILURE"),
        ("SUCCESS,FAILURE,DELAY", "FAILURE,DELAY"),
    ],
)
def test_the_success_of_a_lists_members_is_not_reported(notify: str, behind_list: str) -> None:
    found = deliveries(alias("team@fwd.test", "carol@d.test", "dan@d.test", notify=notify))
    assert [delivery.notify for delivery in found] == [behind_list, behind_list]
    (only,) = deliveries(alias("one@fwd.test", "carol@d.test", notify=notify))
    assert only.notify == notify


def test_mail_to_a_forged_address_is_dead_from_the_start_and_reaches_nobody() -> None:
    forged = "SRS0=AAAA=AA=victim.test=joe@fwd.test"
    routed = Routed(
        "srs", (Target("joe@victim.test"),), persons=(Returned("joe@victim.test", hidden=True, forged=True),)
    )
    (dead,) = deliveries((RcptTo(forged, "SUCCESS"), routed))
    assert (dead.recipient, dead.original, dead.hop, dead.state) == (forged, forged, "hop of " + forged, "dead")
    assert (dead.next_attempt, dead.expires, dead.notify) == (RECEIVED, EXPIRES, "")
    assert dead.last is not None
    assert (dead.last["at"], dead.last["code"], dead.last["status"], dead.last["text"]) == (
        RECEIVED,
        550,
        "5.1.1",
        FORGED,
    )


def test_a_forged_address_does_not_keep_the_mail_of_the_others_back() -> None:
    routed = Routed("srs", (Target("joe@victim.test"),), persons=(Returned("joe@victim.test", forged=True),))
    found = deliveries((RcptTo("SRS0=x@fwd.test"), routed), alias("alice@fwd.test", "joe@victim.test"))
    assert [(d.n, d.recipient, d.state) for d in found] == [
        (0, "SRS0=x@fwd.test", "dead"),
        (1, "joe@victim.test", "queued"),
    ]


def test_an_address_behind_a_good_return_address_is_delivered() -> None:
    routed = Routed("srs", (Target("joe@origin.test"),), persons=(Returned("joe@origin.test", hidden=True),))
    (delivery,) = deliveries((RcptTo("SRS0=x@fwd.test"), routed))
    assert (delivery.recipient, delivery.original, delivery.state) == ("joe@origin.test", "SRS0=x@fwd.test", "queued")
