"""What becomes of each delivery of an attempt: the change of the queue, the notification, and the lines of the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from relay.bounce.notifier import Notifier
from relay.deliver.settlement import (
    Result,
    Settlement,
    concerns_sender,
    damaged,
    defer,
    may_need_notification,
    needs_sender,
    recorded,
    settle,
    shared,
)
from relay.mail.message import Message
from relay.mail.outcome import Outcome
from relay.mail.queue_id import QueueIds, id_text
from relay.queue.change import DeliveryUpdate
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Delivery, Key, StoredMessage
from relay.queue.stored_verdict import StoredVerdict
from relay.rate import TokenBuckets
from relay.route.router import Target

ARRIVED = 1_790_000_000.0
PATIENCE = RetrySchedule(first=100.0, longest=1000.0, retry_for=5000.0, bounce_retry_for=300.0, warn_after=1000.0)
EXPIRES = ARRIVED + PATIENCE.retry_for
JOE = "joe@origin.test"
HOME = (Target(JOE),)
DELIVERED = Outcome("delivered", 250, "2.0.0", "Ok", "mx.d.test", "192.0.2.1", "TLSv1.3", remote=True)
DEFERRED = Outcome("deferred", 451, "4.3.0", "later", "mx.d.test", remote=True)
FAILED = Outcome("failed", 550, "5.1.1", "no such user", "mx.d.test", remote=True)
NUMBER = QueueIds(lambda: ARRIVED).new()


def middle() -> float:
    return 0.5


def message(verdict: StoredVerdict | None = None, sender: str = JOE) -> StoredMessage:
    content = b"From: joe@origin.test\r\nSubject: hello\r\n\r\nHi.\r\n"
    return StoredMessage(NUMBER, ARRIVED, sender, b"", Message(content), verdict or StoredVerdict(spf="pass"))


def delivery(n: int = 0, *, notify: str = "", warned: bool = False, attempts: int = 0, original: str = "") -> Delivery:
    recipient = f"r{n}@d.test"
    return Delivery(
        NUMBER,
        n,
        recipient=recipient,
        original=original or recipient,
        notify=notify,
        warned=warned,
        attempts=attempts,
        expires=EXPIRES,
        lease_token=7 + n,
    )


def settled(
    *results: Result,
    now: float = ARRIVED + 60,
    stored: StoredMessage | None = None,
    home: Sequence[Target] = HOME,
    patience: RetrySchedule = PATIENCE,
    dice: Callable[[], float] = middle,
) -> Settlement:
    ids = QueueIds(lambda: now)
    notifier = Notifier("mx.test", "fwd.test", patience, ids, lambda recipient: "!" + recipient, TokenBuckets(1, 10))
    return settle(stored or message(), results, notifier, patience, home, dice, now)


def names(settlement: Settlement) -> list[str]:
    return [event.name for event in settlement.events]


def updates(settlement: Settlement) -> dict[Key, DeliveryUpdate]:
    return dict(settlement.change.updated)


def report(settlement: Settlement) -> bytes:
    (only,) = settlement.change.arrived
    return only.message.content


def test_what_was_delivered_leaves_the_queue_and_nobody_is_told() -> None:
    settlement = settled(Result(delivery(), DELIVERED))
    assert (names(settlement), settlement.change.finished) == (["delivered"], [delivery().key])
    assert not settlement.change.arrived and not settlement.change.updated
    assert (settlement.events[0].report, settlement.events[0].retry) == ("", None)


def test_only_a_notification_has_to_be_safe_on_the_disk() -> None:
    assert not settled(Result(delivery(), DELIVERED)).change.durable
    assert not settled(Result(delivery(), DEFERRED)).change.durable
    assert settled(Result(delivery(), FAILED)).change.durable


# success


@pytest.mark.parametrize(
    ("dsn", "original", "told"),
    [(False, "", True), (True, "", False), (True, "alias@fwd.test", True), (False, "alias@fwd.test", True)],
)
def test_success_is_told_by_us_unless_the_next_hop_took_that_over(dsn: bool, original: str, told: bool) -> None:
    result = Result(delivery(notify="SUCCESS,FAILURE", original=original), replace(DELIVERED, dsn=dsn))
    settlement = settled(result)
    assert names(settlement) == ["delivered"]
    assert bool(settlement.change.arrived) is told
    if told:
        assert b"Action: relayed" in report(settlement)
        assert original.encode() in report(settlement)
        assert not original or b"r0@d.test" not in report(settlement)


def test_success_that_nobody_asked_for_is_not_told() -> None:
    assert not settled(Result(delivery(notify="FAILURE"), DELIVERED)).change.arrived


# failure


def test_a_failure_is_a_bounce_in_the_transaction_in_which_the_delivery_leaves() -> None:
    settlement = settled(Result(delivery(), FAILED))
    (bounce,) = settlement.change.arrived
    (event,) = settlement.events
    assert event.name == "bounced" and event.report == id_text(bounce.id)
    assert settlement.change.finished == [delivery().key]
    (home,) = settlement.change.deliveries
    assert (home.message_id, home.recipient, home.hop) == (bounce.id, JOE, "!" + JOE)
    assert b"Action: failed" in bounce.message.content and bounce.sender == "" and bounce.is_own
    assert b"550 5.1.1" in bounce.message.content


def test_never_drops_the_failure_and_the_log_does_not_speak_of_a_bounce() -> None:
    settlement = settled(Result(delivery(notify="NEVER"), FAILED))
    assert (names(settlement), settlement.change.finished) == (["dropped"], [delivery().key])
    assert settlement.events[0].report == "" and not settlement.change.arrived


@pytest.mark.parametrize("notify", ["NEVER", "SUCCESS", "DELAY", "SUCCESS,DELAY"])
def test_a_failure_that_nobody_wants_to_hear_of_is_no_bounce_in_the_log(notify: str) -> None:
    alone = settled(Result(delivery(0, notify=notify), FAILED))
    assert names(alone) == ["dropped"]
    beside_another = settled(Result(delivery(0, notify=notify), FAILED), Result(delivery(1), FAILED))
    assert names(beside_another) == ["dropped", "bounced"]
    assert b"r1@d.test" in report(beside_another) and b"r0@d.test" not in report(beside_another)


def test_two_failures_share_one_bounce() -> None:
    settlement = settled(Result(delivery(0), FAILED), Result(delivery(1), FAILED))
    assert names(settlement) == ["bounced", "bounced"]
    assert report(settlement).count(b"Final-Recipient:") == 2
    assert {event.report for event in settlement.events} == {id_text(settlement.change.arrived[0].id)}


@pytest.mark.parametrize(
    ("verdict", "sender", "home"),
    [
        (StoredVerdict(spf="fail"), JOE, HOME),
        (StoredVerdict(spf="pass"), "", HOME),
        (StoredVerdict(spf="pass"), JOE, ()),
    ],
)
def test_what_nobody_may_be_told_of_is_kept_as_a_dead_letter(
    verdict: StoredVerdict, sender: str, home: Sequence[Target]
) -> None:
    now = ARRIVED + 60
    stored = message(verdict, sender)
    settlement = settled(Result(delivery(attempts=3), FAILED), now=now, stored=stored, home=home)
    assert names(settlement) == ["dead"] and not settlement.change.finished and not settlement.change.arrived
    assert updates(settlement) == {
        delivery().key: {"attempts": 4, "state": "dead", "next_attempt": now, "last": recorded(FAILED, now)}
    }


# delay


def test_a_deferral_is_tried_again_after_the_patience_that_was_handed_in() -> None:
    now = ARRIVED + 60
    for patience, dice, wait in (
        (PATIENCE, lambda: 0.5, 100),
        (PATIENCE, lambda: 0.0, 80),
        (PATIENCE, lambda: 1.0, 120),
        (RetrySchedule(first=20.0), lambda: 0.5, 20),
    ):
        settlement = settled(Result(delivery(), DEFERRED), now=now, patience=patience, dice=dice)
        (values,) = updates(settlement).values()
        assert values["next_attempt"] == pytest.approx(now + wait)
        assert settlement.events[0].name == "deferred" and settlement.events[0].retry == wait


def test_a_deferral_counts_and_the_wait_doubles() -> None:
    now = ARRIVED + 60
    settlement = settled(Result(delivery(attempts=2), DEFERRED), now=now)
    assert updates(settlement) == {
        delivery().key: {
            "attempts": 3,
            "next_attempt": now + 400,
            "last": recorded(DEFERRED, now),
            "warned": False,
        }
    }


@pytest.mark.parametrize(("attempts", "moment"), [(4, ARRIVED + 1000), (5, EXPIRES)])
def test_an_attempt_is_made_right_when_the_sender_has_to_be_told(attempts: int, moment: float) -> None:
    settlement = settled(Result(delivery(attempts=attempts), DEFERRED), now=moment - 10)
    (values,) = updates(settlement).values()
    assert values["next_attempt"] == moment


def test_the_warning_of_a_delay_is_due_on_the_moment_and_not_before() -> None:
    result = Result(delivery(notify="DELAY"), DEFERRED)
    early = settled(result, now=ARRIVED + 999)
    assert not early.change.arrived and not updates(early)[delivery().key]["warned"]
    due = settled(result, now=ARRIVED + 1001)
    assert b"Action: delayed" in report(due) and updates(due)[delivery().key]["warned"]
    assert names(due) == ["deferred"]


def test_the_warning_of_a_message_that_was_held_is_due_some_time_after_its_release() -> None:
    """`queue release` makes it expire as if it had come then."""
    released = ARRIVED + 86400
    result = Result(replace(delivery(notify="DELAY"), expires=released + PATIENCE.retry_for), DEFERRED)
    early = settled(result, now=released + 950)
    (values,) = updates(early).values()
    assert not early.change.arrived and not values["warned"] and values["next_attempt"] == released + 1000
    assert b"Action: delayed" in report(settled(result, now=released + 1001))


def test_a_delivery_is_warned_of_once() -> None:
    again = settled(Result(delivery(notify="DELAY", warned=True), DEFERRED), now=ARRIVED + 2000)
    assert not again.change.arrived
    assert updates(again)[delivery().key]["warned"]


def test_of_two_deliveries_only_the_one_not_yet_warned_of_is_in_the_warning() -> None:
    results = [
        Result(delivery(0, notify="DELAY", warned=True), DEFERRED),
        Result(delivery(1, notify="DELAY"), DEFERRED),
    ]
    settlement = settled(*results, now=ARRIVED + 2000)
    assert b"r1@d.test" in report(settlement) and b"r0@d.test" not in report(settlement)


def test_who_did_not_ask_is_not_told_of_a_delay_and_is_not_asked_about_again() -> None:
    settlement = settled(Result(delivery(), DEFERRED), now=ARRIVED + 2000)
    assert not settlement.change.arrived and updates(settlement)[delivery().key]["warned"]


def test_a_trusted_client_is_told_of_a_delay_unasked() -> None:
    settlement = settled(Result(delivery(), DEFERRED), now=ARRIVED + 2000, stored=message(StoredVerdict(trusted=True)))
    assert b"Action: delayed" in report(settlement)


# expiry


def test_trying_ends_on_the_moment_and_is_a_bounce() -> None:
    before = settled(Result(delivery(), DEFERRED), now=EXPIRES - 0.5)
    assert names(before) == ["deferred"] and not before.change.finished
    at = settled(Result(delivery(), DEFERRED), now=EXPIRES)
    assert names(at) == ["bounced"] and at.change.finished == [delivery().key] and not at.change.updated
    assert b"Action: failed" in report(at)


def test_the_bounce_at_the_end_says_that_time_ran_out() -> None:
    silent = Outcome("deferred", 451, "4.4.1", "no answer")
    expired, refused = (settled(Result(delivery(), outcome), now=EXPIRES) for outcome in (silent, FAILED))
    assert b"is now given up" in report(expired) and b"is now given up" not in report(refused)


def test_a_reply_of_ours_is_not_shown_as_one_of_the_next_hop() -> None:
    ours = replace(FAILED, remote=False)
    assert b"Diagnostic-Code" in report(settled(Result(delivery(), FAILED)))
    assert b"Diagnostic-Code" not in report(settled(Result(delivery(), ours)))


def test_the_next_hops_words_are_for_a_trusted_client_where_they_cannot_name_a_mailbox() -> None:
    refused = replace(FAILED, words="nobody of that name")
    ours = message(StoredVerdict(trusted=True))
    shown = settled(Result(delivery(), refused, quotable=True), stored=ours)
    assert b"Diagnostic-Code: smtp; 550 5.1.1 nobody of that name\r\n" in report(shown)
    for hidden in (
        settled(Result(delivery(), refused), stored=ours),
        settled(Result(delivery(), refused, quotable=True)),
        settled(Result(delivery(original="team@fwd.test"), refused, quotable=True), stored=ours),
    ):
        assert b"Diagnostic-Code: smtp; 550 5.1.1\r\n" in report(hidden) and b"nobody" not in report(hidden)


# several outcomes


def test_each_outcome_of_an_attempt_has_its_own_end() -> None:
    outcomes = [DELIVERED, DEFERRED, FAILED]
    settlement = settled(*(Result(delivery(n), outcome) for n, outcome in enumerate(outcomes)))
    assert sorted((e.name, e.result.delivery.n) for e in settlement.events) == [
        ("bounced", 2),
        ("deferred", 1),
        ("delivered", 0),
    ]
    assert set(settlement.change.finished) == {delivery(0).key, delivery(2).key}
    assert set(updates(settlement)) == {delivery(1).key}
    assert b"r2@d.test" in report(settlement) and b"r0@d.test" not in report(settlement)


# what is asked beforehand


@pytest.mark.parametrize(
    ("result", "now", "concerns", "may_need"),
    [
        (Result(delivery(), DELIVERED), 60, False, False),
        (Result(delivery(notify="SUCCESS"), DELIVERED), 60, False, True),
        (Result(delivery(), DEFERRED), 60, False, False),
        (Result(delivery(), DEFERRED), 1001, True, True),
        (Result(delivery(warned=True), DEFERRED), 1001, False, False),
        (Result(delivery(warned=True), DEFERRED), 5000, True, True),
        (Result(delivery(), FAILED), 60, True, True),
        (Result(delivery(), DELIVERED), 1001, False, False),
    ],
)
def test_what_concerns_the_sender(result: Result, now: float, concerns: bool, may_need: bool) -> None:
    assert concerns_sender(result, PATIENCE, ARRIVED + now) is concerns
    assert may_need_notification(result, PATIENCE, ARRIVED + now) is may_need


@pytest.mark.parametrize(
    ("sender", "result", "needed"),
    [
        (JOE, Result(delivery(), DELIVERED), False),
        (JOE, Result(delivery(notify="SUCCESS"), DELIVERED), True),
        (JOE, Result(delivery(), DEFERRED), True),
        (JOE, Result(delivery(), FAILED), True),
        ("", Result(delivery(), FAILED), False),
        ("", Result(delivery(notify="SUCCESS"), DELIVERED), False),
    ],
)
def test_where_the_senders_mail_goes_is_asked_only_where_somebody_may_be_told(
    sender: str, result: Result, needed: bool
) -> None:
    assert needs_sender(message(sender=sender), [result]) is needed


# without reading the message


def test_suspended_deliveries_are_deferred_with_the_words_of_the_one_that_was_tried() -> None:
    now = ARRIVED + 60
    outcome = shared(replace(DEFERRED, unreachable=True, words="later"))
    assert (outcome.text, outcome.words) == ("delivery temporarily suspended: later", "")
    settlement = defer([delivery(0), delivery(1, attempts=1)], outcome, PATIENCE, lambda: 0.5, now)
    found = updates(settlement)
    assert [found[delivery(n).key]["next_attempt"] for n in (0, 1)] == [now + 100, now + 200]
    assert [found[delivery(n).key]["attempts"] for n in (0, 1)] == [1, 2]
    assert found[delivery(0).key]["last"]["text"] == outcome.text
    assert names(settlement) == ["deferred", "deferred"]
    assert not settlement.change.durable and not settlement.change.arrived


def test_deliveries_of_a_damaged_message_become_dead_letters_that_say_what_is_wrong() -> None:
    change = damaged([delivery(0), delivery(1)], "its hash is wrong", 1234.5)
    assert [key for key, _ in change.updated] == [delivery(0).key, delivery(1).key]
    for _, values in change.updated:
        assert (values["state"], values["next_attempt"]) == ("dead", 1234.5)
        assert (values["last"]["status"], values["last"]["text"]) == ("5.3.0", "message damaged: its hash is wrong")


def test_an_attempt_by_hand_leaves_the_next_pause_as_it_was() -> None:
    now = ARRIVED + 60

    def next_attempt(attempts: int, by_hand: int) -> float:
        one = replace(delivery(attempts=attempts), by_hand=by_hand)
        ((_, update),) = settled(Result(one, DEFERRED), now=now).change.updated
        assert update["attempts"] == attempts + 1
        return update["next_attempt"]

    assert next_attempt(3, 1) == next_attempt(2, 0) == now + 400.0
    assert next_attempt(3, 3) == next_attempt(0, 0) == now + 100.0


@pytest.mark.parametrize("remote", [True, False])
def test_of_a_host_that_did_not_answer_it_is_recorded_who_says_so(remote: bool) -> None:
    outcome = Outcome("deferred", 451, "4.4.1", "no answer", "mx.d.test", "192.0.2.1", remote=remote)
    assert recorded(outcome, 12.5)["connected"] is remote


def test_the_last_outcome_is_recorded_as_the_queue_commands_show_it() -> None:
    assert recorded(DELIVERED, 12.5) == {
        "at": 12.5,
        "code": 250,
        "status": "2.0.0",
        "text": "Ok",
        "host": "mx.d.test",
        "address": "192.0.2.1",
        "tls": "TLSv1.3",
    }
