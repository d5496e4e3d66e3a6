"""Turns the outcomes of an attempt into one change of the queue, and into the lines that the log says of them.

The change finishes what was delivered, defers what is to be tried again, and stores the bounces and warnings that
follow. A delivery leaves the queue in the same transaction in which the bounce about it enters, so that no failure is
forgotten, and none is reported twice. Everything here is pure: the random numbers and the time are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from relay.bounce.dsn import Action
from relay.bounce.notifier import Happening, Notice, Notifier
from relay.mail.outcome import NO_CONNECTION, Outcome, temporary
from relay.mail.queue_id import given_at, id_text
from relay.queue.change import DeliveryUpdate, LastAttempt
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Change, Delivery, Key, StoredMessage
from relay.route.router import Target


@dataclass(frozen=True, slots=True)
class Result:
    """One delivery and the outcome of its attempt.

    Attributes:
        signed_by: the keys that have signed the message, as `domain:selector`; empty where it was not signed.
        quotable: whether the sender may read the next hop's words. They may name the recipient that they are about, so
            that it must not be behind an alias; where they are about the transaction, none of its recipients may be.
            They must not name another recipient that is.
    """

    delivery: Delivery
    outcome: Outcome
    signed_by: tuple[str, ...] = ()
    quotable: bool = False


EventName = Literal["delivered", "deferred", "bounced", "dropped", "dead"]


@dataclass(frozen=True, slots=True)
class Event:
    """What the log says of one delivery: `delivered`, `deferred`, `bounced`, `dropped` or `dead`.

    Attributes:
        report: the queue id of the bounce; empty where there is none.
        retry: seconds until the next attempt; None where there is none.
    """

    name: EventName
    result: Result
    report: str = ""
    retry: int | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """The change of the queue, and what to log once it is carried out."""

    change: Change
    events: tuple[Event, ...]


class _Settling:
    """Collects the parts of one settlement.

    Args:
        sender_targets: where mail for the sender goes.
    """

    def __init__(
        self,
        stored: StoredMessage,
        notifier: Notifier,
        patience: RetrySchedule,
        sender_targets: Sequence[Target],
        dice: Callable[[], float],
        now: float,
    ) -> None:
        self._stored, self._notifier, self._patience = stored, notifier, patience
        self._sender_targets, self._dice, self._now = sender_targets, dice, now
        self.arrived: list[StoredMessage] = []
        self.deliveries: list[Delivery] = []
        self.finished: list[Key] = []
        self.updated: list[tuple[Key, DeliveryUpdate]] = []
        self.events: list[Event] = []

    def delivered(self, results: Sequence[Result]) -> None:
        for result in results:
            self.finished.append(result.delivery.key)
            self.events.append(Event("delivered", result))
        # A next hop that offers DSN has taken over NOTIFY=SUCCESS. Otherwise, and behind an alias, we tell the sender
        # (RFC 3461 sections 5.2.2 and 5.2.7).
        self._tell("relayed", [r for r in results if "SUCCESS" in r.delivery.notify and not _taken_over(r)])

    def deferred(self, results: Sequence[Result]) -> None:
        for result in results:
            update, event = _deferral(result, self._patience, self._dice, self._now)
            self.updated.append(update)
            self.events.append(event)
        self._tell("delayed", [r for r in results if _warning_is_due(r.delivery, self._patience, self._now)])

    def failed(self, results: Sequence[Result]) -> None:
        happened = [_happening(result, self._now) for result in results]
        notice = self._notify("failed", happened)
        told, dead = set(map(id, notice.told)), set(map(id, notice.dead))  # a message may have thousands of recipients
        for result, happening in zip(results, happened, strict=True):
            delivery = result.delivery
            if id(happening) in dead:
                last = recorded(result.outcome, self._now)
                self.updated.append(
                    (
                        delivery.key,
                        {"attempts": delivery.attempts + 1, "state": "dead", "next_attempt": self._now, "last": last},
                    )
                )
                self.events.append(Event("dead", result))
                continue
            self.finished.append(delivery.key)
            if notice.report is not None and id(happening) in told:
                self.events.append(Event("bounced", result, report=id_text(notice.report.id)))
            else:
                self.events.append(Event("dropped", result))

    def _tell(self, action: Action, results: Sequence[Result]) -> None:
        if results:
            self._notify(action, [_happening(result, self._now) for result in results])

    def _notify(self, action: Action, happened: Sequence[Happening]) -> Notice:
        notice = self._notifier.notice(action, self._stored, happened, self._sender_targets, self._now)
        if notice.report is not None:
            self.arrived.append(notice.report)
            self.deliveries += notice.deliveries
        return notice


def settle(
    stored: StoredMessage,
    results: Sequence[Result],
    notifier: Notifier,
    patience: RetrySchedule,
    sender_targets: Sequence[Target],
    dice: Callable[[], float],
    now: float,
) -> Settlement:
    """Decide what becomes of every delivery of an attempt.

    Args:
        patience: when a deferred delivery is tried again.
        sender_targets: where mail for the sender goes; empty where it would be refused, or where everything was
            delivered.
        dice: gives 0 … 1, for the jitter of retries.
        now: seconds since 1970.
    """
    settling = _Settling(stored, notifier, patience, sender_targets, dice, now)
    by_status: dict[str, list[Result]] = {"delivered": [], "deferred": [], "failed": []}
    for result in results:
        by_status["failed" if _has_failed(result, now) else result.outcome.status].append(result)
    if by_status["delivered"]:
        settling.delivered(by_status["delivered"])
    if by_status["deferred"]:
        settling.deferred(by_status["deferred"])
    if by_status["failed"]:
        settling.failed(by_status["failed"])
    change = Change(
        settling.arrived, settling.deliveries, settling.finished, settling.updated, durable=bool(settling.arrived)
    )
    return Settlement(change, tuple(settling.events))


def defer(
    deliveries: Sequence[Delivery], outcome: Outcome, patience: RetrySchedule, dice: Callable[[], float], now: float
) -> Settlement:
    """Defer deliveries that share the outcome of another's attempt, and of which the sender need not be told. Their
    messages are not read."""
    updated, events = [], []
    for delivery in deliveries:
        update, event = _deferral(Result(delivery, outcome), patience, dice, now)
        updated.append(update)
        events.append(event)
    return Settlement(Change(updated=updated, durable=False), tuple(events))


def shared(outcome: Outcome) -> Outcome:
    """The outcome of another delivery's attempt, for a delivery to the same next hop that was not tried itself."""
    return replace(temporary(outcome), text=f"delivery temporarily suspended: {outcome.text}", words="")


def concerns_sender(result: Result, patience: RetrySchedule, now: float) -> bool:
    """Whether the sender may have to be told of a failure or a delay. All such recipients share one notification."""
    return _has_failed(result, now) or (
        result.outcome.status == "deferred" and _warning_is_due(result.delivery, patience, now)
    )


def may_need_notification(result: Result, patience: RetrySchedule, now: float) -> bool:
    """Whether the sender may have to be told of a failure, a delay or a success."""
    return concerns_sender(result, patience, now) or "SUCCESS" in result.delivery.notify


def damaged(deliveries: Sequence[Delivery], problem: str, now: float) -> Change:
    """Make dead letters of deliveries whose message is not whole; the queue commands show the problem."""
    outcome = Outcome("failed", 0, "5.3.0", f"message damaged: {problem}")
    values: DeliveryUpdate = {"state": "dead", "next_attempt": now, "last": recorded(outcome, now)}
    return Change(updated=[(delivery.key, values) for delivery in deliveries])


def _has_failed(result: Result, now: float) -> bool:
    status = result.outcome.status
    return status == "failed" or (status == "deferred" and now >= result.delivery.expires)


def _warning_is_due(delivery: Delivery, patience: RetrySchedule, now: float) -> bool:
    """Whether it is time for the warning of a delay, which is sent once."""
    began = patience.began(given_at(delivery.message_id), delivery.expires)
    return not delivery.warned and now >= began + patience.warn_after


def _deferral(
    result: Result, patience: RetrySchedule, dice: Callable[[], float], now: float
) -> tuple[tuple[Key, DeliveryUpdate], Event]:
    delivery = result.delivery
    counted = delivery.attempts + 1 - delivery.by_hand
    again = patience.again(now, counted, given_at(delivery.message_id), delivery.expires, dice)
    values: DeliveryUpdate = {
        "attempts": delivery.attempts + 1,
        "next_attempt": again,
        "last": recorded(result.outcome, now),
        "warned": delivery.warned or _warning_is_due(delivery, patience, now),
    }
    return (delivery.key, values), Event("deferred", result, retry=round(again - now))


def _taken_over(result: Result) -> bool:
    """Whether the next hop has taken over the DSN parameters of the recipient that the sender gave."""
    return result.outcome.dsn and result.delivery.recipient == result.delivery.original


def needs_sender(stored: StoredMessage, results: Sequence[Result]) -> bool:
    """Whether the sender may have to be told, so that we have to know where its mail goes."""
    return bool(stored.sender) and any(
        result.outcome.status != "delivered" or "SUCCESS" in result.delivery.notify for result in results
    )


def _happening(result: Result, now: float) -> Happening:
    delivery, outcome = result.delivery, result.outcome
    expired = outcome.status == "deferred" and now >= delivery.expires
    words = outcome.words if result.quotable else ""
    return Happening(delivery, outcome.code if outcome.remote else 0, outcome.enhanced, expired, words)


def recorded(outcome: Outcome, now: float) -> LastAttempt:
    """What a delivery keeps of its last attempt (`Delivery.last`)."""
    last: LastAttempt = {
        "at": now,
        "code": outcome.code,
        "status": outcome.enhanced,
        "text": outcome.text,
        "host": outcome.host,
        "address": outcome.address,
        "tls": outcome.tls,
    }
    if outcome.policy:
        last["policy"] = outcome.policy
    if outcome.enhanced == NO_CONNECTION:
        last["connected"] = outcome.remote  # some hosts say that of the next one
    return last
