"""The difference of two things that were measured in turns, with its interval: pure arithmetic.

A machine is now faster, now slower, by more than the differences that matter. Two bursts one right after the other see
the same machine, so each pair of bursts gives one ratio, and the ratios are evaluated.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEAST = 6  # pairs; with fewer no interval reaches 95 %


def pairs(text: str) -> int:
    """A number of pairs on the command line. Raises argparse.ArgumentTypeError: it is none, or too small."""
    if not text.isdecimal() or int(text) < LEAST:
        raise argparse.ArgumentTypeError(f"at least {LEAST} are needed for an interval")
    return int(text)


@dataclass(frozen=True, slots=True)
class Difference:
    """How B differs from A, in percent of A, with the 95 % interval.

    Attributes:
        a, b: the medians of what was measured.
    """

    a: float
    b: float
    percent: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.percent:+.1f} % ({self.low:+.1f} to {self.high:+.1f}, {self.pairs} pairs)"


def difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Compare positive figures, of which those at the same place were measured one right after the other.

    The estimate is that of Hodges and Lehmann: the median of the means of all pairs of logarithms of the ratio b/a. Its
    interval is that of Wilcoxon's signed-rank test. A single burst that the machine spoiled changes either little.

    Raises:
        ValueError: there are fewer than six pairs, or the numbers of figures differ.
    """
    logs = [math.log(after / before) for before, after in zip(a, b, strict=True)]
    if len(logs) < LEAST:
        raise ValueError(f"at least {LEAST} pairs are needed")
    means = sorted((x + y) / 2 for place, x in enumerate(logs) for y in logs[place:])
    cut = _signed_rank_cut(len(logs))
    return Difference(
        statistics.median(a),
        statistics.median(b),
        _percent(statistics.median(means)),
        _percent(means[cut]),
        _percent(means[-1 - cut]),
        len(logs),
    )


def _percent(log_ratio: float) -> float:
    return math.expm1(log_ratio) * 100


def _signed_rank_cut(pairs: int) -> int:
    """Wilcoxon's critical value: the largest sum of ranks that chance stays within in at most 2.5 % of cases."""
    ways = [1]  # by sum: in how many ways some of the ranks 1, 2, … have it
    for rank in range(1, pairs + 1):
        without, with_it = ways + [0] * rank, [0] * rank + ways
        ways = [x + y for x, y in zip(without, with_it, strict=True)]
    below, cut = 0, -1
    while (below + ways[cut + 1]) * 40 <= 2**pairs:
        cut += 1
        below += ways[cut]
    return cut
