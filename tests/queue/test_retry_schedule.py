from __future__ import annotations

from itertools import repeat

import pytest

from relay.queue.retry_schedule import RetrySchedule


@pytest.mark.parametrize(("attempts", "minutes"), [(1, 5), (2, 10), (3, 20), (4, 40), (5, 68), (6, 68), (1000, 68)])
def test_waits_double_up_to_the_longest(attempts: int, minutes: int) -> None:
    assert RetrySchedule().wait(attempts, lambda: 0.5) == pytest.approx(minutes * 60)
    assert RetrySchedule().wait(attempts, lambda: 0.0) == pytest.approx(minutes * 60 * 0.8)
    assert RetrySchedule().wait(attempts, lambda: 1.0) == pytest.approx(minutes * 60 * 1.2)


def test_bounces_are_given_up_earlier() -> None:
    assert RetrySchedule().expires(100.0, "a@b.example") == 100.0 + 5 * 86400
    assert RetrySchedule().expires(100.0, "") == 100.0 + 86400


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (0.0, 68 * 60),
        (3 * 3600.0, 4 * 3600),  # the delay that may be worth a warning
        (4 * 3600.0, 4 * 3600 + 68 * 60),
        (5 * 86400 - 60.0, 5 * 86400),  # the end
        (5 * 86400 + 60.0, 5 * 86400 + 60 + 68 * 60),
    ],
)
def test_the_moments_to_tell_the_sender_are_never_passed_over(now: float, expected: float) -> None:
    patience = RetrySchedule()
    for dice in (repeat(0.4), repeat(0.5), repeat(0.6)):
        again = patience.again(now, 10, 0.0, patience.expires(0.0, "a@b.example"), dice.__next__)
        assert again == pytest.approx(expected, rel=0.04)
