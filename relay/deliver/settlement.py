"""What an attempt's outcomes do to the queue: one change that finishes, defers, buries and reports, or none of it.

A delivery leaves the queue in the same transaction in which the notification about it enters, so that a failure is
never forgotten and never reported twice. Pure, but for the dice and the clock that are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from relay.bounce.dsn import Action
from relay.bounce.notifier import Happening, Notifier
from relay.mail.outcome import Outcome
from relay.mail.queue_id import given_at, id_text
from relay.queue.retry_schedule import Patience
from relay.queue.store import Change, Delivery, Key, StoredMessage
from relay.route.router import Target


@dataclass(frozen=True, slots=True)
class Attempt:
    """One delivery and how it went."""

    delivery: Delivery
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Event:
    """What the log says of one delivery: `delivered`, `deferred`, `bounced`, `dropped` or `dead`."""

    name: str
    attempt: Attempt
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settlement:
    """The change to carry out, and what to log once it is."""

    change: Change
    events: tuple[Event, ...]


class _Ledger:
    """Collects the parts of one settlement."""

    def __init__(self, stored: StoredMessage, notifier: Notifier, home: Sequence[Target], now: float) -> None:
        self._stored, self._notifier, self._home, self._now = stored, notifier, home, now
        self.arrived: list[StoredMessage] = []
        self.deliveries: list[Delivery] = []
        self.finished: list[Key] = []
        self.updated: list[tuple[Key, dict[str, Any]]] = []
        self.events: list[Event] = []

    def delivered(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            self.finished.append(attempt.delivery.key)
            self.events.append(Event("delivered", attempt, {}))
        # A next hop that knows DSN has taken NOTIFY=SUCCESS over; for one that does not, and behind an alias, we tell
        # (RFC 3461 sections 5.2.2 and 5.2.7).
        self._tell("relayed", [a for a in attempts if "SUCCESS" in a.delivery.notify and not _taken_over(a)])

    def deferred(self, attempts: Sequence[Attempt], dice: Callable[[], float]) -> None:
        patience = self._notifier.patience
        for attempt in attempts:
            update, event = _deferral(attempt, patience, dice, self._now)
            self.updated.append(update)
            self.events.append(event)
        self._tell("delayed", [a for a in attempts if _is_late(a.delivery, patience, self._now)])

    def failed(self, attempts: Sequence[Attempt]) -> None:
        happenings = {id(a): _happening(a, self._now) for a in attempts}
        notice = self._notifier.notice("failed", self._stored, list(happenings.values()), self._home, self._now)
        if notice.report is not None:
            self.arrived.append(notice.report)
            self.deliveries += notice.deliveries
        for attempt in attempts:
            one = attempt.delivery
            if happenings[id(attempt)] in notice.dead:
                last = recorded(attempt.outcome, self._now)
                values = {"attempts": one.attempts + 1, "state": "dead", "next_attempt": self._now, "last": last}
                self.updated.append((one.key, values))
                self.events.append(Event("dead", attempt, {}))
            else:
                self.finished.append(one.key)
                told = notice.report is not None and "NEVER" not in one.notify
                extra = {"report": id_text(notice.report.id)} if told and notice.report is not None else {}
                self.events.append(Event("bounced" if told else "dropped", attempt, extra))

    def _tell(self, action: Action, attempts: Sequence[Attempt]) -> None:
        if not attempts:
            return
        happenings = [_happening(a, self._now) for a in attempts]
        notice = self._notifier.notice(action, self._stored, happenings, self._home, self._now)
        if notice.report is not None:
            self.arrived.append(notice.report)
            self.deliveries += notice.deliveries


def settle(
    stored: StoredMessage,
    attempts: Sequence[Attempt],
    notifier: Notifier,
    home: Sequence[Target],
    dice: Callable[[], float],
    now: float,
) -> Settlement:
    """Decide on every delivery of one attempt at the time `now` (seconds since 1970).

    Args:
        home: where mail for the sender goes; empty where it would be refused, or where everything was delivered.
        dice: gives 0 … 1, for the jitter of retries.
    """
    ledger = _Ledger(stored, notifier, home, now)
    by_fate: dict[str, list[Attempt]] = {"delivered": [], "deferred": [], "failed": []}
    for attempt in attempts:
        by_fate["failed" if _has_failed(attempt, now) else attempt.outcome.status].append(attempt)
    if by_fate["delivered"]:
        ledger.delivered(by_fate["delivered"])
    if by_fate["deferred"]:
        ledger.deferred(by_fate["deferred"], dice)
    if by_fate["failed"]:
        ledger.failed(by_fate["failed"])
    change = Change(ledger.arrived, ledger.deliveries, ledger.finished, ledger.updated, durable=bool(ledger.arrived))
    return Settlement(change, tuple(ledger.events))


def suspend(
    deliveries: Sequence[Delivery], outcome: Outcome, patience: Patience, dice: Callable[[], float], now: float
) -> Settlement:
    """Put off deliveries that share the outcome of another's attempt, and of which nobody needs to be told: that takes
    no look at their messages."""
    updated, events = [], []
    for one in deliveries:
        update, event = _deferral(Attempt(one, outcome), patience, dice, now)
        updated.append(update)
        events.append(event)
    return Settlement(Change(updated=updated, durable=False), tuple(events))


def shared_fate(outcome: Outcome) -> Outcome:
    """The outcome of another's attempt, for one that was not tried itself."""
    return replace(outcome, text=f"delivery temporarily suspended: {outcome.text}")


def concerns_sender(attempt: Attempt, patience: Patience, now: float) -> bool:
    """Whether an attempt ends a delivery without success, or makes it worth a warning: the sender may have to be told,
    of all such recipients at once."""
    return _has_failed(attempt, now) or (
        attempt.outcome.status == "deferred" and _is_late(attempt.delivery, patience, now)
    )


def needs_letter(attempt: Attempt, patience: Patience, now: float) -> bool:
    """Whether the sender may have to be told of an attempt, be it of success."""
    return concerns_sender(attempt, patience, now) or "SUCCESS" in attempt.delivery.notify


def damaged(deliveries: Sequence[Delivery], problem: str, now: float) -> Change:
    """Bury what can never be delivered because its message is not whole; the queue commands show the problem."""
    outcome = Outcome("failed", 0, "5.3.0", f"message damaged: {problem}")
    values = {"state": "dead", "next_attempt": now, "last": recorded(outcome, now)}
    return Change(updated=[(one.key, values) for one in deliveries])


def _has_failed(attempt: Attempt, now: float) -> bool:
    status = attempt.outcome.status
    return status == "failed" or (status == "deferred" and now >= attempt.delivery.expires)


def _is_late(one: Delivery, patience: Patience, now: float) -> bool:
    """Whether it is time for the one warning of a delay."""
    return not one.warned and now >= given_at(one.message_id) + patience.warn_after


def _deferral(
    attempt: Attempt, patience: Patience, dice: Callable[[], float], now: float
) -> tuple[tuple[Key, dict[str, Any]], Event]:
    one = attempt.delivery
    again = patience.again(now, one.attempts + 1, given_at(one.message_id), one.expires, dice)
    values = {
        "attempts": one.attempts + 1,
        "next_attempt": again,
        "last": recorded(attempt.outcome, now),
        "warned": one.warned or _is_late(one, patience, now),
    }
    return (one.key, values), Event("deferred", attempt, {"retry": round(again - now)})


def _taken_over(attempt: Attempt) -> bool:
    return attempt.outcome.dsn and attempt.delivery.recipient == attempt.delivery.original


def needs_sender(stored: StoredMessage, attempts: Sequence[Attempt]) -> bool:
    """Whether the sender may have to be told, so that it has to be known where its mail goes."""
    return bool(stored.sender) and any(
        a.outcome.status != "delivered" or "SUCCESS" in a.delivery.notify for a in attempts
    )


def _happening(attempt: Attempt, now: float) -> Happening:
    one, outcome = attempt.delivery, attempt.outcome
    expired = outcome.status == "deferred" and now >= one.expires
    return Happening(one, outcome.code if outcome.remote else 0, outcome.enhanced, expired)


def recorded(outcome: Outcome, now: float) -> dict[str, Any]:
    """What a delivery keeps of its last attempt (`Delivery.last`)."""
    return {
        "at": now,
        "code": outcome.code,
        "status": outcome.enhanced,
        "text": outcome.text,
        "host": outcome.host,
        "address": outcome.address,
        "tls": outcome.tls,
    }
