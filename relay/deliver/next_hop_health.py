"""What is known of a next hop as a whole: whether it can be reached, and whether it takes mail from us.

A next hop that cannot be reached is tried once after each pause. One that refuses us, not a sender, a recipient or a
message, is suspended: it is tried once a minute, until it takes mail again. It refuses us where the greeting, EHLO or
MAIL was answered with 4xx or 5xx in `TRANSACTIONS` transactions of `SENDERS` sender domains, without one between them
that came as far as RCPT: a reply to that or to a later command shows that it takes mail from us.
Pure: the clock is passed in, in seconds since 1970.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from relay.mail.address import domain_of
from relay.mail.outcome import Outcome

TRANSACTIONS = 5  # refused, with no other between them
SENDERS = 3  # sender domains of these; the null sender counts as one
COUNTED = 10  # sender domains at most
PROBE = 60.0  # seconds between two tries of a suspended next hop
LATELY = 600.0  # seconds since the last answer of a next hop that new messages wait for, in memory or in the session

_BEFORE_RCPT = ("greeting", "hello", "mail")
_BEHIND_MAIL = ("rcpt", "data", "message")
# What a reply to MAIL can say of this sender (RFC 3463 section 3.2) or this message alone: its size (RFC 1870 section
# 6.1), that it needs SMTPUTF8 (RFC 6531 section 3.5), or REQUIRETLS (RFC 8689 section 4.2.1).
_OF_MESSAGE = ("1.7", "1.8", "3.4", "6.7", "6.9", "7.30")
_TOO_LARGE = 552


@dataclass(frozen=True, slots=True)
class Failure:
    """The last try that failed a next hop as a whole: when it began, and its outcome."""

    began: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Suspended:
    """A next hop refuses us.

    Attributes:
        since: when the first of the refused transactions ended.
        transactions, senders: how many were refused, and sender domains of theirs.
    """

    outcome: Outcome
    since: float
    transactions: int
    senders: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """It takes mail again, `seconds` after it was suspended."""

    seconds: float


@dataclass(slots=True)
class _Refusals:
    since: float
    transactions: int = 0
    senders: set[str] = field(default_factory=set)  # `COUNTED` at most


Verdict = Literal["answers", "refuses", "is busy", "fails", ""]
"""What a transaction says of its next hop: `is busy` where it reached no host, but another one was answered after it
began, `fails` where it reached none at all, nothing where it is about us, or was given up."""


@dataclass(slots=True)
class NextHopHealth:
    """The health of one next hop, which own messages and others share.

    Attributes:
        active: transactions under way.
        failure: the try that found it out of reach, or that it refused while suspended; None while it is well.
        keys: how many keys of the queue share it.
    """

    active: int = 0
    failure: Failure | None = None
    keys: int = 0
    _next_try: float = 0.0
    _pause: float = 0.0
    _answered: float = -math.inf
    _refusals: _Refusals | None = None
    _suspended: float | None = None  # since when

    @property
    def is_suspended(self) -> bool:
        """Whether it refuses us."""
        return self._suspended is not None

    def answered_since(self, moment: float) -> bool:
        """Whether it has answered at or after a moment, and is well."""
        return self.failure is None and self._answered >= moment

    def tries(self, now: float) -> int | None:
        """How many transactions may begin now; None while it is well, and places alone decide."""
        if self.failure is None:
            return None
        is_paused = 0 < self._next_try - now <= self._pause  # else it is over, or the clock was put back
        return 0 if is_paused or self.active else 1

    def note(
        self, began: float, now: float, outcomes: Sequence[Outcome], sender: str, pause: float
    ) -> tuple[Verdict, Suspended | Resumed | None]:
        """Note a transaction that is over. Returns what it says, and whether the next hop is suspended or resumed by
        it.

        Args:
            sender: empty for the null sender.
            pause: seconds until the next try, where it was out of reach.
        """
        event: Suspended | Resumed | None = None
        refusal: Outcome | None = None
        verdict: Verdict = "answers"
        if any(map(takes_mail, outcomes)):
            event = self._takes_mail(now)
        else:
            verdict = self._verdict(began, now, outcomes)
            refusal = next(filter(refuses_us, outcomes), None)
            if refusal is not None:
                event = self._refuses(refusal, now, domain_of(sender))
                verdict = "refuses" if verdict == "answers" else verdict
        if self.is_suspended:
            self._try_again_after(PROBE, now)
            if refusal is not None or verdict == "fails":
                self._failed(began, refusal or outcomes[0])
        elif verdict == "fails":
            self._try_again_after(pause, now)
            self._failed(began, outcomes[0])
        elif verdict in ("answers", "refuses"):
            self.failure = None
        if verdict in ("answers", "refuses"):
            self._answered = now
        return verdict, event

    def _verdict(self, began: float, now: float, outcomes: Sequence[Outcome]) -> Verdict:
        if any(outcome.remote or outcome.status != "deferred" for outcome in outcomes if not outcome.unreachable):
            return "answers"
        if outcomes and outcomes[0].unreachable:
            return "is busy" if began < self._answered <= now else "fails"  # not ahead: the clock was put back
        return ""

    def _takes_mail(self, now: float) -> Resumed | None:
        since, self._suspended = self._suspended, None
        self._refusals = None
        return None if since is None else Resumed(max(0.0, now - since))

    def _refuses(self, refusal: Outcome, now: float, sender: str) -> Suspended | None:
        known = self._refusals = self._refusals or _Refusals(now)
        known.transactions += 1
        if len(known.senders) < COUNTED:
            known.senders.add(sender)
        if self.is_suspended or known.transactions < TRANSACTIONS or len(known.senders) < SENDERS:
            return None
        self._suspended = now
        return Suspended(refusal, known.since, known.transactions, len(known.senders))

    def _failed(self, began: float, outcome: Outcome) -> None:
        if self.failure is None or self.failure.began < began:
            self.failure = Failure(began, outcome)

    def _try_again_after(self, pause: float, now: float) -> None:
        self._next_try, self._pause = now + pause, pause


def refuses_us(outcome: Outcome) -> bool:
    """Whether a server has refused a transaction before RCPT, and for more than its sender or message."""
    if not outcome.remote or outcome.phase not in _BEFORE_RCPT or outcome.status == "delivered":
        return False
    is_of_message = outcome.code == _TOO_LARGE or outcome.enhanced[2:] in _OF_MESSAGE
    return not (outcome.phase == "mail" and is_of_message)


def takes_mail(outcome: Outcome) -> bool:
    """Whether a server has accepted MAIL: its reply is about a recipient or the message."""
    return outcome.status == "delivered" or (outcome.remote and outcome.phase in _BEHIND_MAIL)
