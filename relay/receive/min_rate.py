"""Who sends too slowly while others want the room: strangers below `limits.min_rate`, the slowest first.

Every worker looks at the messages that it is being sent, and ends transfers once more than half of the memory, or of
the room on disk, is taken: those that hold some of it, until it is half. Each tells the others how slow its slowest is,
so that none of them ends a transfer while another has a slower one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from relay.receive.memory import Room, Share
from relay.receive.shared_counts import SLOWEST, SharedCounts

WINDOW = 60.0  # seconds over which a rate is taken; nobody is ended sooner
EVERY = 2.0  # seconds between two looks
_CLASSES = 16  # of rates, as workers tell them to one another


class TooSlow(Exception):
    """The client sent less than it has to while others wait for the room.

    Attributes:
        rate: octets a second.
    """

    def __init__(self, rate: float) -> None:
        super().__init__(f"{rate:.0f} octets a second")
        self.rate = rate


class Transfer:
    """A message that a client sends, to be used in a `with`.

    Args:
        shares: what it holds of each room.
        end: raises an exception in the session.

    Attributes:
        received: octets that have come so far.
    """

    __slots__ = ("_end", "_paces", "_samples", "_trusted", "received", "shares")

    def __init__(self, paces: Paces, shares: Sequence[Share], end: Callable[[Exception], None], *, trusted: bool):
        self.received = 0
        self.shares = shares
        self._paces = paces
        self._end = end
        self._trusted = trusted
        self._samples: deque[tuple[float, int]] = deque()

    def __enter__(self) -> Transfer:
        if not self._trusted:
            self._paces.transfers.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._paces.transfers.discard(self)

    def rate(self, now: float) -> float | None:
        """Octets a second over the last `WINDOW`, asked at times that grow; None as long as it cannot be known."""
        self._samples.append((now, self.received))
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()
        since, received = self._samples[0]
        return (self.received - received) / (now - since) if now - since >= WINDOW else None

    def end(self, rate: float) -> None:
        self._end(TooSlow(rate))


class Paces:
    """The transfers of one worker.

    Args:
        min_rate: octets a second, at least 1.
    """

    def __init__(self, counts: SharedCounts, worker: int, rooms: Sequence[Room], min_rate: int) -> None:
        self.transfers: set[Transfer] = set()
        self._counts = counts
        self._worker = worker
        self._rooms = rooms
        self._min_rate = min_rate

    async def run(self) -> None:
        """Look again and again."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(EVERY)
            self.look(loop.time())

    def look(self, now: float) -> None:
        """End what is too slow, as far as there is need.

        Args:
            now: monotonic seconds.
        """
        rates = [(transfer.rate(now), transfer) for transfer in self.transfers]
        slow = [(rate, transfer) for rate, transfer in rates if rate is not None and rate < self._min_rate]
        slow.sort(key=lambda one: one[0])
        for number, room in enumerate(self._rooms):
            self._look_at(room, [(rate, one, one.shares[number].held) for rate, one in slow])

    def _look_at(self, room: Room, slow: Sequence[tuple[float, Transfer, int]]) -> None:
        excess = room.excess
        slower_elsewhere = min(filter(None, self._counts.others(self._worker, SLOWEST[room.part])), default=_CLASSES)
        left = 0  # none
        for rate, transfer, held in slow:
            if not held:
                continue
            left = 1 + int(_CLASSES * rate / self._min_rate)
            if excess <= 0 or left > slower_elsewhere:
                break
            transfer.end(rate)
            excess -= held
            left = 0
        self._counts.put(self._worker, SLOWEST[room.part], left)
