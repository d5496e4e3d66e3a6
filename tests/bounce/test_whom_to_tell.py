"""Who gets a notification: the table of the rule against backscatter, and the allowance behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relay.bounce.whom_to_tell import whom_to_tell
from relay.queue.stored_verdict import StoredVerdict

JOE = "joe@origin.example"


def _yes(domain: str) -> bool:
    return True


def _no(domain: str) -> bool:
    return False


def _unasked(domain: str) -> bool:
    raise AssertionError("the allowance was drawn from without need")


def told(
    action: Any = "failed",
    *,
    verdict: StoredVerdict,
    sender: str = JOE,
    notify: str = "",
    to: Any = "verified",
    allowance: Callable[[str], bool] = _unasked,
) -> str:
    return whom_to_tell(action, sender=sender, notify=notify, verdict=verdict, to=to, allowance=allowance)


@pytest.mark.parametrize(
    ("action", "sender", "notify", "trusted", "spf", "allowance", "expected"),
    [
        ("failed", "", "", True, "", _unasked, "dead"),
        ("failed", "", "NEVER", False, "pass", _unasked, "dead"),
        ("delayed", "", "DELAY", True, "", _unasked, "none"),
        ("failed", JOE, "", True, "", _unasked, "send"),
        ("failed", JOE, "", False, "pass", _unasked, "send"),
        ("failed", JOE, "", False, "none", _yes, "send"),
        ("failed", JOE, "", False, "none", _no, "dead"),
        *(
            ("failed", JOE, "", False, spf, _unasked, "dead")
            for spf in ("fail", "softfail", "neutral", "temperror", "permerror", "")
        ),
        ("failed", JOE, "NEVER", True, "pass", _unasked, "none"),
        ("failed", JOE, "NEVER", False, "fail", _unasked, "none"),
        ("failed", JOE, "SUCCESS", False, "pass", _unasked, "none"),
        ("failed", JOE, "SUCCESS,FAILURE", False, "pass", _unasked, "send"),
        ("failed", JOE, "failure", False, "fail", _unasked, "dead"),
        ("delayed", JOE, "", True, "", _unasked, "send"),
        ("delayed", JOE, "", False, "pass", _unasked, "none"),
        ("delayed", JOE, "FAILURE", True, "", _unasked, "none"),
        ("delayed", JOE, "FAILURE,DELAY", False, "pass", _unasked, "send"),
        ("delayed", JOE, "DELAY", False, "softfail", _unasked, "none"),
        ("delivered", JOE, "", True, "pass", _unasked, "none"),
        ("delivered", JOE, "SUCCESS", False, "pass", _unasked, "send"),
        ("relayed", JOE, "SUCCESS", False, "none", _no, "none"),
        ("expanded", JOE, "SUCCESS", True, "", _unasked, "send"),
    ],
)
def test_fate(action: Any, sender: str, notify: str, trusted: bool, spf: str, allowance: Any, expected: str) -> None:
    verdict = StoredVerdict(trusted=trusted, spf=spf)
    assert told(action, sender=sender, notify=notify, verdict=verdict, allowance=allowance) == expected


def test_the_allowance_is_asked_for_the_domain_in_its_normal_form() -> None:
    asked: list[str] = []

    def allowance(domain: str) -> bool:
        asked.append(domain)
        return True

    told(sender="joe@Origin.EXAMPLE", verdict=StoredVerdict(spf="none"), allowance=allowance)
    assert asked == ["origin.example"]


@pytest.mark.parametrize("spf", ["fail", "softfail", "none", "temperror"])
def test_a_signature_that_speaks_for_the_sender_is_as_good_as_spf(spf: str) -> None:
    assert told(verdict=StoredVerdict(spf=spf, sender_signed=True)) == "send"


def test_the_authors_own_proof_says_nothing_of_a_forged_sender() -> None:
    """A spammer with a domain, a key and a DMARC record of his own writes anyone he likes into MAIL FROM."""
    verdict = StoredVerdict(spf="fail", dmarc="pass", aligned=("dkim",))
    assert told(verdict=verdict) == "dead"


@pytest.mark.parametrize("verdict", [{}, {"trusted": False}, {"spf": ""}])
def test_an_older_queues_entry_that_says_nothing_proves_nothing(verdict: dict[str, Any]) -> None:
    assert told(verdict=StoredVerdict.from_json(verdict)) == "dead"


@pytest.mark.parametrize("spf", ["fail", "softfail", "none", ""])
def test_all_is_everyone_but_the_null_sender(spf: str) -> None:
    assert told(verdict=StoredVerdict(spf=spf), to="all") == "send"
    assert told(verdict=StoredVerdict(spf=spf), to="all", sender="") == "dead"


def test_all_leaves_to_the_sender_what_was_asked_for() -> None:
    assert told(verdict=StoredVerdict(spf="fail"), to="all", notify="NEVER") == "none"
    assert told("delayed", verdict=StoredVerdict(spf="fail"), to="all") == "none"
    assert told("delayed", verdict=StoredVerdict(spf="fail"), to="all", notify="DELAY") == "send"
