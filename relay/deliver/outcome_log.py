"""The log lines about deliveries, `queued` to `delivered`, `deferred`, `bounced`, `dropped` or `dead`, and about next
hops and providers that refuse us or slow us down, with their metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

import structlog

from relay.deliver.next_hop_health import Resumed, Suspended
from relay.deliver.settlement import Event, Result
from relay.deliver.shaping import Recovered, Shaped
from relay.mail.message_id import shown_message_id
from relay.mail.outcome import Outcome
from relay.mail.queue_id import given_at, id_text
from relay.metrics import OTHER_PROVIDER, PROVIDERS, Metrics
from relay.queue.hop_keys import is_doubtful_hop, shown_hop
from relay.queue.store import Delivery, StoredMessage

log = structlog.get_logger()

_UNBLOCK = "ask the provider to take this host off its list, see the text; one message after each pause finds out"


def log_queued(stored: StoredMessage, deliveries: Iterable[Delivery]) -> None:
    """Log that a message is safe in the queue; `deliveries` may include those of other messages."""
    log.info(
        "queued",
        id=id_text(stored.id),
        sender=stored.sender,
        to=[delivery.recipient for delivery in deliveries if delivery.message_id == stored.id],
        size=len(stored.message.content),
        message_id=shown_message_id(stored.message),
        tls_wish=stored.tls or None,
    )


def log_unstored(stored: StoredMessage, results: Iterable[Result], metrics: Metrics) -> None:
    """Log and count what became of a message that never was in the queue, since its next hop was asked in the session.

    Nothing is said of a deferral: then nobody has the message, and its sender was told so, or has left.
    """
    for result in results:
        if result.outcome.status == "delivered":
            log_outcome(Event("delivered", result), metrics, time.time())
        elif result.outcome.status == "failed":
            metrics.deliveries.add("failed")
            _log_refused(stored, result.delivery, result.outcome)


def _log_refused(stored: StoredMessage, delivery: Delivery, outcome: Outcome) -> None:
    """The sender has heard our words, not these."""
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


def log_health(hop: str, event: Suspended | Resumed, metrics: Metrics) -> None:
    """Log that a next hop is suspended because it refuses us, or takes mail again.

    Args:
        hop: its key.
    """
    about = log.bind(destination=shown_hop(hop), doubtful=is_doubtful_hop(hop) or None)
    if isinstance(event, Resumed):
        about.warning("destination_resumed", after=round(event.seconds))
        return
    metrics.suspensions.add()
    about.warning(
        "destination_suspended",
        code=event.outcome.code,
        status=event.outcome.enhanced,
        text=event.outcome.text,
        host=event.outcome.host,
        address=event.outcome.address,
        since=datetime.fromtimestamp(event.since, UTC).isoformat(timespec="seconds"),
        transactions=event.transactions,
        sender_domains=event.senders,
        mend="find out why it refuses this host; one try a minute goes on, and what waits leaves once it takes mail",
    )


def log_shaping(hop: str, event: Shaped | Recovered, message_id: int, metrics: Metrics) -> None:
    """Log that a reply has slowed or paused mail to a provider or a next hop, or that it has as much as before.

    Args:
        hop: the key of the next hop that has replied.
        message_id: of the message that got the reply.
    """
    destination = event.provider or shown_hop(hop)
    provider = event.provider if event.provider in PROVIDERS else OTHER_PROVIDER
    if isinstance(event, Recovered):
        metrics.shaped.add((provider, "recovered"))
        log.info(
            "destination_recovered",
            destination=destination,
            hop=shown_hop(hop),
            doubtful=is_doubtful_hop(hop) or None,
            after=round(event.seconds),
            id=id_text(message_id),
        )
        return
    metrics.shaped.add((provider, event.rule.action))
    learned = log.bind(
        destination=destination,
        hop=shown_hop(hop),
        doubtful=is_doubtful_hop(hop) or None,
        rule=event.rule.name,
        code=event.outcome.code,
        status=event.outcome.enhanced,
        text=event.outcome.text,
        host=event.outcome.host,
        address=event.outcome.address,
        places=event.places,
        rate=None if event.rate is None else round(event.rate, 1),
        until=None if event.until is None else datetime.fromtimestamp(event.until, UTC).isoformat(timespec="seconds"),
        id=id_text(message_id),
    )
    match event.rule.action:
        case "block":
            learned.error("destination_blocked", mend=_UNBLOCK)
        case "pause":
            learned.warning("destination_paused")
        case _:
            learned.warning("destination_slowed")


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
            metrics.tls_deliveries.add(outcome.policy)
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
        policy=outcome.policy or None,
        signed_by=event.result.signed_by or None,
        delay=round(age, 3),
        report=event.report or None,
        retry=event.retry,
    )
