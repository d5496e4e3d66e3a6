"""Ends the slowest transfers of strangers below `limits.min_rate` while the room for messages is short.

Once more than half of the memory, or of the room on disk, is taken, every worker ends transfers that hold some of it
until half is free. Each worker tells the others how slow its slowest transfer is, so that none ends a transfer while
another worker has a slower one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from relay.receive.room import Reservation, Room
from relay.receive.shared_counts import SLOWEST, SharedCounts

WINDOW = 60.0  # seconds over which a rate is measured; no transfer is ended sooner
EVERY = 2.0  # seconds between two checks
_CLASSES = 16  # of rates, in which workers tell them to one another


class TooSlow(Exception):
    """The client sent more slowly than `limits.min_rate` while the room for messages is short.

    Attributes:
        rate: octets a second.
    """

    def __init__(self, rate: float) -> None:
        super().__init__(f"{rate:.0f} octets a second")
        self.rate = rate


class Transfer:
    """The transfer of a message from a client, from `begin` to `finish`.

    Args:
        reservations: what the message takes of each room.
        end: raises an exception in the session.

    Attributes:
        received: octets received so far.
    """

    __slots__ = ("_end", "_monitor", "_samples", "_trusted", "received", "reservations")

    def __init__(
        self,
        monitor: TransferMonitor,
        reservations: Sequence[Reservation],
        end: Callable[[Exception], None],
        *,
        trusted: bool,
    ) -> None:
        self.received = 0
        self.reservations = reservations
        self._monitor = monitor
        self._end = end
        self._trusted = trusted
        self._samples: deque[tuple[float, int]] = deque()

    def begin(self) -> None:
        """From now on a slow transfer of a stranger may be ended."""
        if not self._trusted:
            self._monitor.transfers.add(self)

    def finish(self) -> None:
        """The transfer is over."""
        self._monitor.transfers.discard(self)

    def rate(self, now: float) -> float | None:
        """Octets a second over the last `WINDOW`; None until it has passed. `now` must not go back between calls."""
        self._samples.append((now, self.received))
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()
        since, received = self._samples[0]
        return (self.received - received) / (now - since) if now - since >= WINDOW else None

    def end(self, rate: float) -> None:
        """Raises `TooSlow` in the session."""
        self._end(TooSlow(rate))


class TransferMonitor:
    """Watches the transfers of strangers in one worker, and ends those that are too slow.

    Args:
        min_rate: octets a second, at least 1.
    """

    def __init__(self, counts: SharedCounts, worker: int, rooms: Sequence[Room], min_rate: int) -> None:
        self.transfers: set[Transfer] = set()
        self._counts = counts
        self._worker = worker
        self._row = counts.row(worker)
        self._rooms = rooms
        self._min_rate = min_rate

    async def run(self) -> None:
        """Checks the transfers until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(EVERY)
            self.check(loop.time())

    def check(self, now: float) -> None:
        """Ends as many of the slow transfers as necessary.

        Args:
            now: monotonic seconds.
        """
        rates = [(transfer.rate(now), transfer) for transfer in self.transfers]
        slow = [(rate, transfer) for rate, transfer in rates if rate is not None and rate < self._min_rate]
        slow.sort(key=lambda pair: pair[0])
        for number, room in enumerate(self._rooms):
            self._check_room(room, [(rate, transfer, transfer.reservations[number].held) for rate, transfer in slow])

    def _check_room(self, room: Room, slow: Sequence[tuple[float, Transfer, int]]) -> None:
        excess = room.excess
        slower_elsewhere = min(filter(None, self._counts.others(self._worker, SLOWEST[room.part])), default=_CLASSES)
        slowest = 0  # the class of the slowest transfer that goes on; 0 where there is none
        for rate, transfer, held in slow:
            if not held:
                continue
            slowest = 1 + int(_CLASSES * rate / self._min_rate)
            if excess <= 0 or slowest > slower_elsewhere:
                break
            transfer.end(rate)
            excess -= held
            slowest = 0
        self._row[SLOWEST[room.part]] = slowest
