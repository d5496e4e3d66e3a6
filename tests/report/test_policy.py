"""Who gets a notification: the table of DESIGN's rule against backscatter, and the allowance behind it."""

from __future__ import annotations

from typing import Any

import pytest

from relay.report.policy import fate

JOE = "joe@origin.example"


def _yes(domain: str) -> bool:
    return True


def _no(domain: str) -> bool:
    return False


def _unasked(domain: str) -> bool:
    raise AssertionError("the allowance was drawn from without need")


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
    assert fate(action, sender=sender, notify=notify, trusted=trusted, spf=spf, allowance=allowance) == expected


def test_the_allowance_is_asked_for_the_domain_in_its_normal_form() -> None:
    asked: list[str] = []

    def allowance(domain: str) -> bool:
        asked.append(domain)
        return True

    fate("failed", sender="joe@Origin.EXAMPLE", notify="", trusted=False, spf="none", allowance=allowance)
    assert asked == ["origin.example"]
