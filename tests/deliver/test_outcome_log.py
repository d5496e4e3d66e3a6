"""The log lines and the metrics of deliveries: monitoring is built on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.deliver.outcome_log import log_outcome, log_queued
from relay.deliver.settlement import Event, Result
from relay.mail.message import Message
from relay.mail.outcome import Outcome
from relay.mail.queue_id import QueueIds, id_text
from relay.metrics import Metrics
from relay.queue.store import Delivery, StoredMessage
from relay.queue.stored_verdict import StoredVerdict

ARRIVED = 1_790_000_000.0
NUMBER = QueueIds(lambda: ARRIVED).new()
TAKEN = Outcome("delivered", 250, "2.0.0", "Ok", "mx.d.test", "192.0.2.1", "TLSv1.3", policy="sts", remote=True)
DELIVERY = Delivery(NUMBER, 0, recipient="carol@d.test", original="alias@fwd.test")


def logged(event: Event, metrics: Metrics, now: float = ARRIVED + 1.5) -> dict[str, Any]:
    with capture_logs() as lines:
        log_outcome(event, metrics, now)
    (line,) = lines
    return dict(line)


def count(metrics: Metrics, line: str) -> float:
    found = [text.rpartition(" ")[2] for text in metrics.render().decode().splitlines() if text.startswith(line + " ")]
    return float(found[0])


def test_the_line_that_says_delivered() -> None:
    assert logged(Event("delivered", Result(DELIVERY, TAKEN)), Metrics()) == {
        "event": "delivered",
        "log_level": "info",
        "id": id_text(NUMBER),
        "to": "carol@d.test",
        "code": 250,
        "status": "2.0.0",
        "text": "Ok",
        "host": "mx.d.test",
        "address": "192.0.2.1",
        "tls": "TLSv1.3",
        "policy": "sts",
        "signed_by": None,
        "delay": 1.5,
        "report": None,
        "retry": None,
    }


def test_a_line_has_the_fields_of_its_event_and_says_nothing_of_tls_where_there_was_none() -> None:
    outcome = replace(TAKEN, status="failed", tls="")
    line = logged(Event("bounced", Result(DELIVERY, outcome), report="330RQ1AAAAAA"), Metrics())
    assert (line["event"], line["report"], line["tls"]) == ("bounced", "330RQ1AAAAAA", None)


@pytest.mark.parametrize(
    ("name", "status", "sent", "dead", "transits"),
    [
        ("delivered", "delivered", 0, 0, 1),
        ("deferred", "deferred", 0, 0, 0),
        ("bounced", "failed", 1, 0, 0),
        ("bounced", "deferred", 1, 0, 0),
        ("dropped", "failed", 0, 0, 0),
        ("dead", "failed", 0, 1, 0),
    ],
)
def test_each_end_of_a_delivery_is_counted(name: Any, status: Any, sent: int, dead: int, transits: int) -> None:
    metrics = Metrics()
    logged(Event(name, Result(DELIVERY, replace(TAKEN, status=status))), metrics)
    assert count(metrics, f'srs_relay_deliveries_total{{outcome="{status}"}}') == 1
    assert count(metrics, 'srs_relay_bounces_total{fate="sent"}') == sent
    assert count(metrics, 'srs_relay_bounces_total{fate="dead"}') == dead
    assert count(metrics, "srs_relay_transit_seconds_count") == transits


def test_the_transit_is_counted_from_the_arrival() -> None:
    metrics = Metrics()
    logged(Event("delivered", Result(DELIVERY, TAKEN)), metrics, ARRIVED + 3)
    assert count(metrics, "srs_relay_transit_seconds_sum") == pytest.approx(3)


def test_the_line_that_says_queued_names_the_deliveries_of_this_message_only() -> None:
    content = b"Subject: hello\r\nMessage-ID: <one@origin.test>\r\n\r\nHi.\r\n"
    stored = StoredMessage(
        NUMBER, ARRIVED, "joe@origin.test", b"Received: x\r\n", Message(content), StoredVerdict(), tls="require"
    )
    others = replace(DELIVERY, message_id=NUMBER + 1, recipient="else@d.test")
    with capture_logs() as lines:
        log_queued(stored, [DELIVERY, others, replace(DELIVERY, n=1, recipient="dan@d.test")])
    assert lines == [
        {
            "event": "queued",
            "log_level": "info",
            "id": id_text(NUMBER),
            "sender": "joe@origin.test",
            "to": ["carol@d.test", "dan@d.test"],
            "size": len(content),
            "message_id": "<one@origin.test>",
            "tls_wish": "require",
        }
    ]
