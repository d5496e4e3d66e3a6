"""When a deferred delivery is tried again, and when it expires. Pure: time and randomness are arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

JITTER = 0.2  # how much of a wait is random, to both sides: deliveries deferred together are not retried together


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The times between attempts, and how long they go on; all in seconds.

    Attributes:
        first: from the first attempt to the second; every further wait is twice the one before.
        longest: the longest wait between two attempts.
        retry_for: from arrival until a message expires; `bounce_retry_for` if it has the null sender.
        warn_after: from arrival to the delay warning, if the sender gets one; from `queue release` where that began the
            time anew.
    """

    first: float = 300.0
    longest: float = 68 * 60.0
    retry_for: float = 5 * 86400.0
    bounce_retry_for: float = 86400.0
    warn_after: float = 4 * 3600.0

    def wait(self, attempts: int, dice: Callable[[], float]) -> float:
        """Seconds to wait after `attempts` deferred attempts; `dice` returns a random number from 0 to 1."""
        base = min(self.first * 2.0 ** min(attempts - 1, 32), self.longest)
        return base * (1 - JITTER + 2 * JITTER * dice())

    def again(self, now: float, attempts: int, received: float, expires: float, dice: Callable[[], float]) -> float:
        """When to try next after `attempts` deferred attempts, the last one at `now`.

        No wait goes past the times of the delay warning and of the expiry: all deliveries of a message are tried at
        these times, so that they share one notification.
        """
        moments = (self.began(received, expires) + self.warn_after, expires)
        return min([now + self.wait(attempts, dice), *(moment for moment in moments if moment > now)])

    def began(self, received: float, expires: float) -> float:
        """From when on a message is tried: from its arrival, or from the release that made it expire later."""
        return max(received, expires - self.retry_for)

    def expires(self, received: float, sender: str) -> float:
        """When a message that arrived at `received` expires."""
        return received + (self.retry_for if sender else self.bounce_retry_for)
