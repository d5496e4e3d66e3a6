"""When a next hop counts as one that refuses us, and what ends that. By the replies that a server gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.deliver.classify import Phase, classify, silence
from relay.deliver.next_hop_health import COUNTED, PROBE, NextHopHealth, Resumed, Suspended
from relay.mail.outcome import Outcome, deferral

NOW, PAUSE = 1000.0, 10.0
MAIL_550 = classify("mail", 550, "5.7.1 your network is on our list")
MAIL_450 = classify("mail", 450, "4.7.1 later")
GREETING = replace(classify("greeting", 554, "no mail from you"), unreachable=True)
HELLO = replace(classify("hello", 421, "go away"), unreachable=True)
TAKEN = classify("message", 250, "2.0.0 Ok")
NO_SUCH_USER = classify("rcpt", 550, "5.1.1 no such user")
NO_CONNECTION = replace(silence("connect", "lost", "refused"), unreachable=True)
NO_TLS = replace(deferral("4.7.5", "TLS handshake failed"), unreachable=True)
OURS = deferral("4.3.0", "queue: locked")


class Hop:
    """A next hop to which transactions go one after the other, a second apart."""

    def __init__(self) -> None:
        self.health, self.now = NextHopHealth(), NOW
        self.events: list[Suspended | Resumed] = []

    def tried(self, outcome: Outcome, sender: str = "a.test", times: int = 1) -> Hop:
        for _ in range(times):
            self.now += 1
            _, event = self.health.note(self.now - 0.5, self.now, (outcome,), sender and f"bob@{sender}", PAUSE)
            self.events += [event] if event is not None else []
        return self

    def by_three(self, outcome: Outcome) -> Hop:
        """Five transactions of three sender domains."""
        for sender in ("a.test", "", "b.test", "a.test", ""):
            self.tried(outcome, sender)
        return self


@pytest.mark.parametrize("outcome", [MAIL_550, MAIL_450, GREETING, HELLO, classify("mail", 421, "busy")])
def test_five_refusals_of_three_sender_domains_suspend(outcome: Outcome) -> None:
    hop = Hop().by_three(outcome)
    assert hop.events == [Suspended(outcome, NOW + 1, 5, 3)] and hop.health.is_suspended
    assert hop.health.failure is not None and hop.health.failure.outcome == outcome


def test_neither_fewer_transactions_nor_fewer_senders_do() -> None:
    hop = Hop()
    for sender in ("a.test", "b.test", "c.test", "d.test"):
        hop.tried(MAIL_550, sender)
    assert not hop.events
    assert not Hop().tried(MAIL_550, "spam.test", times=100).tried(MAIL_550, "", times=100).events


@pytest.mark.parametrize(
    "success", [TAKEN, NO_SUCH_USER, classify("message", 554, "5.7.1 spam"), classify("data", 451, "")]
)
def test_a_host_that_takes_mail_between_is_never_suspended(success: Outcome) -> None:
    hop = Hop()
    for n in range(100):
        hop.tried(MAIL_550, f"d{n}.test", times=4).tried(success, "z.test")
    assert not hop.events and not hop.health.is_suspended


@pytest.mark.parametrize(
    "outcome",
    [
        NO_CONNECTION,
        NO_TLS,
        OURS,
        NO_SUCH_USER,
        classify("mail", 552, "5.3.4 too large"),
        classify("mail", 452, "4.3.4 too large now"),
        classify("mail", 550, "5.7.30 REQUIRETLS support required"),
        classify("mail", 553, "5.6.7 SMTPUTF8 needed"),
        classify("mail", 451, "4.1.8 Domain of sender address does not resolve"),
        classify("mail", 553, "this sender is not wanted"),
        replace(classify("starttls", 454, "no TLS now"), unreachable=True),
        replace(classify("auth", 535, "5.7.8 who are you"), unreachable=True),
        silence("mail", "timeout"),
    ],
)
def test_what_is_not_about_us_never_suspends(outcome: Outcome) -> None:
    hop = Hop()
    for n in range(100):
        hop.tried(outcome, f"d{n}.test")
    assert not hop.events


def test_other_failures_between_neither_count_nor_end_the_count() -> None:
    hop = Hop()
    for sender in ("a.test", "b.test", "c.test", "d.test"):
        hop.tried(MAIL_550, sender).tried(NO_CONNECTION, "x.test").tried(OURS, "y.test")
    assert not hop.events
    assert len(hop.tried(MAIL_550, "a.test").events) == 1


def test_an_answer_from_before_the_clock_was_put_back_makes_no_host_busy() -> None:
    health = NextHopHealth()
    assert health.note(NOW - 1, NOW, (TAKEN,), "a.test", PAUSE)[0] == "answers"
    assert health.note(NOW - 2, NOW + 1, (NO_CONNECTION,), "a.test", PAUSE)[0] == "is busy"
    assert health.note(NOW - 3601, NOW - 3600, (NO_CONNECTION,), "a.test", PAUSE)[0] == "fails"


def test_one_try_a_minute_and_not_before_the_last_one_is_over() -> None:
    hop = Hop().by_three(MAIL_550)
    assert hop.health.tries(hop.now) == hop.health.tries(hop.now + PROBE - 1) == 0
    assert hop.health.tries(hop.now + PROBE) == 1
    hop.health.active = 1
    assert hop.health.tries(hop.now + PROBE) == 0
    assert hop.health.tries(hop.now - 86400) == 0, "the clock was put back, and one is under way"
    hop.health.active = 0
    assert hop.health.tries(hop.now - 86400) == 1


@pytest.mark.parametrize("outcome", [MAIL_450, NO_CONNECTION, OURS])
def test_a_try_in_vain_is_followed_by_another_minute(outcome: Outcome) -> None:
    hop = Hop().by_three(MAIL_550)
    before = hop.health.failure
    hop.now += PROBE
    hop.tried(outcome)
    assert len(hop.events) == 1 and hop.health.is_suspended
    assert hop.health.tries(hop.now + PROBE - 1) == 0 and hop.health.tries(hop.now + PROBE) == 1
    assert hop.health.failure is not None
    shared = hop.health.failure.outcome
    assert (shared == outcome) if outcome is not OURS else (hop.health.failure == before), "only what is about it"


@pytest.mark.parametrize("outcome", [TAKEN, NO_SUCH_USER])
def test_the_first_transaction_that_it_takes_ends_it(outcome: Outcome) -> None:
    hop = Hop().by_three(MAIL_550)
    hop.now += PROBE
    hop.tried(outcome)
    assert hop.events[1:] == [Resumed(PROBE + 1)]
    assert hop.health.tries(hop.now) is None and hop.health.failure is None
    assert not hop.tried(MAIL_550, "a.test", times=4).health.is_suspended, "the count begins anew"


def test_what_is_kept_of_the_senders_is_bounded() -> None:
    hop = Hop()
    for n in range(2):
        hop.tried(MAIL_550, f"d{n}.test", times=1000)
    refusals = hop.health._refusals
    assert refusals is not None and len(refusals.senders) == 2
    for n in range(1000):
        hop.tried(MAIL_550, f"e{n}.test")
    assert len(refusals.senders) == COUNTED and len(hop.events) == 1


def test_every_phase_has_its_place() -> None:
    phases: tuple[Phase, ...] = ("greeting", "hello", "starttls", "auth", "mail", "rcpt", "data", "message")
    refusing = [phase for phase in phases if Hop().by_three(classify(phase, 451, "no")).events]
    assert refusing == ["greeting", "hello", "mail"]
