"""When a deferred delivery is tried again, and when trying ends. Pure: the clock and the dice are passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

JITTER = 0.2  # so that what was deferred together does not come back together


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the queue keeps trying; all in seconds.

    Attributes:
        first: until the second attempt; every further wait doubles.
        longest: the longest wait between two attempts.
        retry_for: from arrival until a message is undeliverable; `bounce_retry_for` for the null sender.
        warn_after: from arrival until a delay warning, where one is due.
    """

    first: float = 300.0
    longest: float = 68 * 60.0
    retry_for: float = 5 * 86400.0
    bounce_retry_for: float = 86400.0
    warn_after: float = 4 * 3600.0

    def wait(self, attempts: int, dice: Callable[[], float]) -> float:
        """Seconds until the next attempt after `attempts` that failed; `dice` gives 0 … 1."""
        base = min(self.first * 2.0 ** min(attempts - 1, 32), self.longest)
        return base * (1 - JITTER + 2 * JITTER * dice())

    def again(self, now: float, attempts: int, received: float, expires: float, dice: Callable[[], float]) -> float:
        """When to try next after `attempts` that failed, the last one at `now`.

        The moments at which the sender may have to be told, of the delay and of the end, are never passed over: all
        deliveries of a message are tried right then, and share one notification.
        """
        moments = (received + self.warn_after, expires)
        return min([now + self.wait(attempts, dice), *(moment for moment in moments if moment > now)])

    def expires(self, received: float, sender: str) -> float:
        """When a message that came in at `received` becomes undeliverable."""
        return received + (self.retry_for if sender else self.bounce_retry_for)
