"""The paired difference and its interval."""

from __future__ import annotations

import random

import pytest

from bench.paired import _signed_rank_cut, difference


@pytest.mark.parametrize(("pairs", "critical"), [(6, 0), (8, 3), (10, 8), (12, 13), (15, 25), (20, 52), (25, 89)])
def test_the_cut_is_that_of_the_printed_tables(pairs: int, critical: int) -> None:
    """Wilcoxon's critical values at 5 %, two-sided."""
    assert _signed_rank_cut(pairs) == critical


def test_six_pairs_are_bounded_by_the_smallest_and_the_largest_ratio() -> None:
    found = difference([100.0] * 6, [100.0, 110.0, 120.0, 130.0, 140.0, 150.0])
    assert (found.low, found.high) == pytest.approx((0.0, 50.0))
    assert 20 < found.percent < 30 and (found.a, found.b, found.pairs) == (100.0, 125.0, 6)


def test_a_machine_that_becomes_slower_changes_nothing() -> None:
    speeds = [2.0 + 0.3 * n for n in range(15)]
    found = difference(speeds, [speed * 0.7 for speed in speeds])
    assert (found.percent, found.low, found.high) == pytest.approx((-30.0, -30.0, -30.0))


def test_one_spoiled_burst_does_not_decide() -> None:
    before = [2.0] * 15
    after = [1.98 if n % 2 else 2.02 for n in range(15)]
    spoiled = [*after[:-1], 20.0]
    assert difference(before, spoiled).percent == pytest.approx(difference(before, after).percent, abs=1.1)
    assert difference(before, spoiled).low < 0 < difference(before, spoiled).high


def test_turning_the_sides_around_turns_the_sign() -> None:
    a, b = [3.0, 3.1, 2.9, 3.3, 3.0, 3.2, 2.8], [2.0, 2.2, 1.9, 2.1, 2.3, 2.0, 2.1]
    there, back = difference(a, b), difference(b, a)
    assert (1 + there.percent / 100) * (1 + back.percent / 100) == pytest.approx(1)
    assert (1 + there.low / 100) * (1 + back.high / 100) == pytest.approx(1)


def test_the_interval_holds_what_is_true_in_about_95_of_100_runs() -> None:
    """With noise of 10 % that both sides share, and 3 % of each side's own."""
    noise = random.Random(1)
    covered = 0
    for _ in range(400):
        machine = [noise.lognormvariate(0, 0.1) for _ in range(15)]
        a = [speed * noise.lognormvariate(0, 0.03) for speed in machine]
        b = [0.95 * speed * noise.lognormvariate(0, 0.03) for speed in machine]
        found = difference(a, b)
        covered += found.low <= -5.0 <= found.high
    assert 368 <= covered <= 392


@pytest.mark.parametrize(("a", "b"), [([1.0] * 5, [1.0] * 5), ([1.0] * 7, [1.0] * 6)])
def test_too_few_pairs_and_odd_ones_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError):
        difference(a, b)


def test_it_is_printed_with_its_interval_and_the_number_of_pairs() -> None:
    assert str(difference([2.0] * 8, [1.5] * 8)) == "-25.0 % (-25.0 to -25.0, 8 pairs)"
