"""The log lines about deliveries, `queued` to `delivered`, `deferred`, `bounced`, `dropped` or `dead`, with their
metrics."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from relay.deliver.settlement import Event
from relay.mail.message_id import shown_message_id
from relay.mail.outcome import Outcome
from relay.mail.queue_id import given_at, id_text
from relay.metrics import Metrics
from relay.queue.store import Delivery, StoredMessage

log = structlog.get_logger()


def log_queued(stored: StoredMessage, deliveries: Iterable[Delivery]) -> None:
    """Log that a message is safe in the queue; `deliveries` may include those of other messages."""
    log.info(
        "queued",
        id=id_text(stored.id),
        sender=stored.sender,
        to=[delivery.recipient for delivery in deliveries if delivery.message_id == stored.id],
        size=len(stored.message.content),
        message_id=shown_message_id(stored.message),
    )


def log_refused(stored: StoredMessage, delivery: Delivery, outcome: Outcome) -> None:
    """Log that the next hop refuses a message in the session of its sender, who hears our words and not these."""
    log.info(
        "refused_by_next_hop",
        id=id_text(stored.id),
        to=delivery.recipient,
        code=outcome.code,
        status=outcome.enhanced,
        text=outcome.text,
        host=outcome.host,
        address=outcome.address,
        tls=outcome.tls or None,
    )


def log_outcome(event: Event, metrics: Metrics, now: float) -> None:
    """Log and count what became of a delivery.

    Args:
        now: seconds since 1970; the delay in the log counts from the arrival of the message.
    """
    delivery, outcome = event.result.delivery, event.result.outcome
    age = now - given_at(delivery.message_id)
    metrics.deliveries.add(outcome.status)
    match event.name:
        case "delivered":
            metrics.transit.observe(age)
        case "bounced":
            metrics.bounces.add("sent")
        case "dead":
            metrics.bounces.add("dead")
    log.info(
        event.name,
        id=id_text(delivery.message_id),
        to=delivery.recipient,
        code=outcome.code,
        status=outcome.enhanced,
        text=outcome.text,
        host=outcome.host,
        address=outcome.address,
        tls=outcome.tls or None,
        signed_by=event.result.signed_by or None,
        delay=round(age, 3),
        report=event.report or None,
        retry=event.retry,
    )
