"""Who gets a notification: the table of DESIGN's rule against backscatter, and the allowance behind it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.report.policy import DomainAllowance, fate

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


def test_a_domain_gets_its_burst_then_one_an_interval() -> None:
    allowance = DomainAllowance(burst=3, per_hour=60)
    assert [allowance.take("a.example", 1000) for _ in range(4)] == [True, True, True, False]
    assert allowance.take("b.example", 1000)
    assert not allowance.take("a.example", 1030)
    assert allowance.take("a.example", 1060)
    assert not allowance.take("a.example", 1061)
    assert [allowance.take("a.example", 9000) for _ in range(4)] == [True, True, True, False]


def test_a_full_table_forgets_rested_domains_and_refuses_new_ones_otherwise() -> None:
    allowance = DomainAllowance(burst=1, per_hour=60, domains=2)
    assert allowance.take("a.example", 0)
    assert allowance.take("b.example", 30)
    assert not allowance.take("c.example", 31)
    assert allowance.take("c.example", 61)
    assert not allowance.take("b.example", 62)


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 600)), max_size=200))
def test_no_domain_ever_gets_more_than_burst_and_rate(draws: list[tuple[int, float]]) -> None:
    allowance = DomainAllowance(burst=2, per_hour=36, domains=8)
    now, given_out = 0.0, dict[int, int]()
    for domain, pause in draws:
        now += pause
        if allowance.take(f"d{domain}.example", now):
            given_out[domain] = given_out.get(domain, 0) + 1
    assert all(count <= 2 + now / 100 + 1e-6 for count in given_out.values())
