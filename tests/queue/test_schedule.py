from __future__ import annotations

import pytest

from relay.queue.schedule import Patience


@pytest.mark.parametrize(("attempts", "minutes"), [(1, 5), (2, 10), (3, 20), (4, 40), (5, 68), (6, 68), (1000, 68)])
def test_waits_double_up_to_the_longest(attempts: int, minutes: int) -> None:
    assert Patience().wait(attempts, lambda: 0.5) == pytest.approx(minutes * 60)
    assert Patience().wait(attempts, lambda: 0.0) == pytest.approx(minutes * 60 * 0.8)
    assert Patience().wait(attempts, lambda: 1.0) == pytest.approx(minutes * 60 * 1.2)


def test_bounces_are_given_up_earlier() -> None:
    assert Patience().expires(100.0, "a@b.example") == 100.0 + 5 * 86400
    assert Patience().expires(100.0, "") == 100.0 + 86400
