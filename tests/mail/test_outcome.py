"""Outcomes that we decide ourselves, and failures that are tried again."""

from __future__ import annotations

from relay.mail.outcome import Outcome, deferral, failure, temporary


def test_what_we_decide_is_not_said_by_a_server() -> None:
    assert deferral("4.4.1", "no answer") == Outcome("deferred", 451, "4.4.1", "no answer")
    assert failure(556, "5.1.10", "null MX\r\n") == Outcome("failed", 556, "5.1.10", "null MX??")


def test_a_failure_becomes_a_deferral_of_the_same_reply() -> None:
    refused = Outcome("failed", 550, "5.7.1", "go away", host="mx.example", address="192.0.2.1", remote=True)
    later = temporary(refused)
    assert (later.status, later.enhanced) == ("deferred", "4.7.1")
    assert (later.code, later.text, later.host, later.remote) == (550, "go away", "mx.example", True)


def test_other_outcomes_stay() -> None:
    for outcome in (Outcome("delivered", 250, "2.0.0", "Ok"), Outcome("deferred", 450, "4.2.0", "later")):
        assert temporary(outcome) is outcome
