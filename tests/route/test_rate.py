"""Token buckets: a burst, then a steady rate, for each name, in bounded memory."""

from __future__ import annotations

import pytest

from relay.route import rate
from relay.route.rate import TokenBuckets

NOW = 1577836860.0


def taken(buckets: TokenBuckets, name: str, now: float, tries: int = 100) -> int:
    return sum(buckets.take(name, now) for _ in range(tries))


def test_a_burst_then_the_rate() -> None:
    buckets = TokenBuckets(per_minute=6, burst=10)
    assert taken(buckets, "joe", NOW) == 10
    assert taken(buckets, "joe", NOW + 9) == 0
    assert taken(buckets, "joe", NOW + 10) == 1
    assert taken(buckets, "ann", NOW + 10) == 10
    assert taken(buckets, "joe", NOW + 70) == 6
    assert taken(buckets, "joe", NOW + 1000) == 10


def test_looking_takes_nothing() -> None:
    buckets = TokenBuckets(per_minute=6, burst=1)
    assert all(buckets.has("joe", NOW) for _ in range(3))
    assert taken(buckets, "joe", NOW) == 1
    assert not buckets.has("joe", NOW + 9)
    assert buckets.has("joe", NOW + 10)


def test_a_clock_that_jumps_back_gives_nothing_away_and_locks_nobody_out() -> None:
    buckets = TokenBuckets(per_minute=6, burst=6)
    assert taken(buckets, "joe", NOW) == 6
    assert not buckets.has("joe", NOW - 3600)
    assert taken(buckets, "joe", NOW - 3600 + 10) == 1


def test_who_took_longest_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "TRACKED", 2)
    buckets = TokenBuckets(per_minute=1, burst=1)
    for name in ("a", "b", "a", "c"):
        buckets.take(name, NOW)
    assert not buckets.has("a", NOW)
    assert buckets.has("b", NOW)


def test_looking_is_not_remembered() -> None:
    buckets = TokenBuckets(per_minute=1, burst=1)
    for number in range(100):
        buckets.has(str(number), NOW)
    assert not buckets._buckets
