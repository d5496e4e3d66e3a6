"""Bounces on their way home: an SRS recipient at our domain becomes the sender that it stands for.

Whoever holds such an address may write to it, so the other rules of routing do not apply; what protects the sender
behind it is the hash, the age, and a rate.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from relay.address import lookup_key
from relay.reply import Refused
from relay.rewrite.srs import Scheme, SrsError, Token, reverse

TokenLookup = Callable[[str], Awaitable[str | None]]
"""The sender that is stored under the id of a token; None where there is none (any more)."""

TRACKED = 10_000  # senders behind SRS addresses whose rate is followed at once


async def bounce_target(address: str, scheme: Scheme, now: float, token_lookup: TokenLookup) -> str:
    """The address that an SRS address of ours leads back to, one step.

    For an SRS1 address that is the SRS0 address at the first forwarder.

    Raises:
        Refused: 550 5.1.1, malformed, forged or expired; the text says which.
    """
    try:
        found = reverse(address, scheme, now)
    except SrsError as error:
        raise Refused(550, "5.1.1", f"<{address}>: {error}") from None
    if not isinstance(found, Token):
        return found
    sender = await token_lookup(found.id)
    if sender is None:
        raise Refused(550, "5.1.1", f"<{address}>: expired SRS address: its sender is no longer stored")
    return sender


class ReverseLimiter:
    """A token bucket for each sender behind SRS addresses: `per_minute` at once, refilled at that rate.

    Bounded: past `TRACKED` senders the one that was written to longest ago is forgotten.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, sender: str, now: float) -> None:
        """Take one token; `now` is in seconds and may jump back, which only delays the refill.

        Raises:
            Refused: 450 4.7.1, the bucket is empty.
        """
        key = lookup_key(sender)
        left, since = self._buckets.pop(key, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + max(0.0, now - since) * self._per_minute / 60)
        admitted = left >= 1
        self._buckets[key] = (left - admitted, now)
        if len(self._buckets) > TRACKED:
            self._buckets.popitem(last=False)
        if not admitted:
            raise Refused(
                450, "4.7.1", f"more than {self._per_minute} messages a minute for one SRS address, try later"
            )
