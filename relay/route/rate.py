"""How often somebody may do something: token buckets, one for each name that is met.

A burst is let through at once and a steady rate for ever, so that an honest peak is only slowed down, while what never
stops is held to the rate. Each process counts for itself.
"""

from __future__ import annotations

from collections import OrderedDict

TRACKED = 10_000  # names followed at once, by each set of buckets


class TokenBuckets:
    """A bucket for each name: full at first with `burst` tokens, refilled with `per_minute`.

    Bounded: past `TRACKED` names the one that took a token longest ago is forgotten, which fills its bucket. Times are
    in seconds and may jump back, which only delays the refill.
    """

    def __init__(self, per_minute: float, burst: float) -> None:
        self._per_second = per_minute / 60
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what was left, and when

    def has(self, name: str, now: float) -> bool:
        """Whether there is a token to take."""
        return name not in self._buckets or self._refilled(name, now) >= 1

    def take(self, name: str, now: float) -> bool:
        """Take a token; False where there is none."""
        left = self._refilled(name, now)
        taken = left >= 1
        self._buckets[name] = (left - taken, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > TRACKED:
            self._buckets.popitem(last=False)
        return taken

    def _refilled(self, name: str, now: float) -> float:
        left, since = self._buckets.get(name, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - since) * self._per_second)
        self._buckets[name] = (left, now)
        return left
