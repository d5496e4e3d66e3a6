"""Settlements at their edges: the very second of the warning, recipients treated differently, and damaged messages."""

from __future__ import annotations

from relay.bounce.notifier import Notifier
from relay.deliver.settlement import Result, Settlement, concerns_sender, damaged, settle
from relay.mail.message import Message
from relay.mail.outcome import Outcome
from relay.mail.queue_id import QueueIds
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Delivery, StoredMessage
from relay.queue.stored_verdict import StoredVerdict
from relay.rate import TokenBuckets
from relay.route.router import Target

ARRIVED = 1_790_000_000.0
PATIENCE = RetrySchedule(first=100.0, longest=1000.0, retry_for=5000.0, bounce_retry_for=300.0, warn_after=1000.0)
JOE = "joe@origin.test"
DEFERRED = Outcome("deferred", 451, "4.3.0", "later", "mx.d.test", remote=True)
FAILED = Outcome("failed", 550, "5.1.1", "no such user", "mx.d.test", remote=True)
NUMBER = QueueIds(lambda: ARRIVED).new()


def delivery(n: int = 0, notify: str = "") -> Delivery:
    return Delivery(
        NUMBER,
        n,
        recipient=f"r{n}@d.test",
        original=f"r{n}@d.test",
        notify=notify,
        expires=ARRIVED + PATIENCE.retry_for,
        lease_token=7 + n,
    )


def settled(*results: Result, now: float, spf: str = "pass") -> Settlement:
    content = b"From: joe@origin.test\r\nSubject: hello\r\n\r\nHi.\r\n"
    stored = StoredMessage(NUMBER, ARRIVED, JOE, b"", Message(content), StoredVerdict(spf=spf))
    ids = QueueIds(lambda: now)
    notifier = Notifier("mx.test", "fwd.test", PATIENCE, ids, lambda recipient: "!" + recipient, TokenBuckets(1, 10))
    return settle(stored, results, notifier, PATIENCE, (Target(JOE),), lambda: 0.5, now)


def test_the_warning_is_due_at_the_very_attempt_that_is_planned_for_it() -> None:
    """`RetrySchedule.again` plans an attempt for exactly this time, so that the warning is not late by a whole wait."""
    attempt = Result(delivery(notify="DELAY"), DEFERRED)
    (_, planned) = settled(attempt, now=ARRIVED + 990).change.updated[0]
    assert planned["next_attempt"] == ARRIVED + PATIENCE.warn_after
    settlement = settled(attempt, now=planned["next_attempt"])
    assert b"Action: delayed" in settlement.change.arrived[0].message.content
    assert settlement.change.updated[0][1]["warned"]
    assert concerns_sender(attempt, PATIENCE, planned["next_attempt"])


def test_a_dead_letter_does_not_keep_the_other_failures_of_the_attempt_in_the_queue() -> None:
    """Nobody may be told of the first, and nobody wants to hear of the second."""
    results = [Result(delivery(0), FAILED), Result(delivery(1, notify="NEVER"), FAILED)]
    settlement = settled(*results, now=ARRIVED + 60, spf="fail")
    assert [event.name for event in settlement.events] == ["dead", "dropped"]
    assert settlement.change.finished == [results[1].delivery.key]
    ((key, values),) = settlement.change.updated
    assert key == results[0].delivery.key and values["state"] == "dead"


def test_a_damaged_message_is_dead_with_a_failure_of_our_own() -> None:
    change = damaged([delivery(0), delivery(1)], "2 octets missing", ARRIVED)
    assert [key for key, _ in change.updated] == [delivery(0).key, delivery(1).key]
    for _, values in change.updated:
        assert (values["state"], values["next_attempt"]) == ("dead", ARRIVED)
        assert (values["last"]["code"], values["last"]["status"]) == (0, "5.3.0")
        assert values["last"]["text"] == "message damaged: 2 octets missing"
