"""What the tables of `[[delivery.destinations]]` limit, counted over all worker processes of a host.

The numbers are in memory that the supervisor maps before it forks. Each worker has a row of counters for the
transactions that it has begun, so that clearing the row of a dead worker gives back what it had taken. A rate is one
number for each table, the time up to which its messages are paid for (GCRA, ITU-T I.371). Who takes something holds a
lock, which the kernel frees when a process is killed: a limit of one transaction is never two. It never waits for the
lock for long, since the worker that has it may be stopped.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

TABLES = 16384  # with a number of their own
BURST = 1.0  # seconds: as many messages as this brings may leave at once, but always one
TRIES = 100  # to get the lock; it is held for some microseconds

_ROW = TABLES * 8


class SharedLimits:
    """The counters and the rates of the tables, by their names. The supervisor creates it, the workers use it.

    Args:
        rows: how many workers there can be at once. The rates stand behind their rows.
    """

    def __init__(self, rows: int) -> None:
        self._file = os.memfd_create("srs-relay-limits")
        os.ftruncate(self._file, (rows + 1) * _ROW)
        octets = memoryview(mmap.mmap(self._file, (rows + 1) * _ROW))
        self._octets = octets
        self._active = octets[: rows * _ROW].cast("q")
        self._paid_until = octets[rows * _ROW :].cast("d")
        self._slots: dict[str, int] = {}

    def adopt(self, names: Iterable[str]) -> None:
        """Make room for the tables of a configuration, before its workers are forked. A table that was there before
        keeps its numbers.

        Raises:
            ValueError: there are too many.
        """
        wanted = dict.fromkeys(names)
        if len(wanted) > TABLES:
            raise ValueError(f"delivery.destinations: {len(wanted)} with concurrency or rate, at most {TABLES}")
        kept = {name: slot for name, slot in self._slots.items() if name in wanted}
        free = iter(sorted(set(range(TABLES)) - set(kept.values())))
        for name in wanted:
            if name not in kept:
                kept[name] = next(free)
                self._paid_until[kept[name]] = 0.0
        self._slots = kept

    def clear(self, row: int) -> None:
        """Give back all that a dead worker had taken."""
        self._octets[row * _ROW : (row + 1) * _ROW] = bytes(_ROW)

    def active(self, name: str) -> int:
        """The transactions of a table that are under way, in all workers."""
        return sum(self._active[self._slots[name] :: TABLES])

    def paid_until(self, name: str, rate: int, now: float) -> float:
        """The time up to which the messages of a table are paid for, in seconds since 1970.

        It is further ahead than the rate allows where the clock was put back, or the rate was lower before.
        """
        slot = self._slots[name]
        self._paid_until[slot] = min(self._paid_until[slot], now + horizon(rate))
        return self._paid_until[slot]

    def take(self, name: str, row: int, concurrency: int | None, rate: int | None, now: float) -> bool:
        """Take the place of a transaction and pay for its message. Returns False, and takes nothing, where there is no
        room."""
        slot = self._slots[name]
        with self._locked(slot) as locked:
            if not locked or (concurrency is not None and self.active(name) >= concurrency):
                return False
            if rate is not None:
                paid_until = self.paid_until(name, rate, now)
                if messages_left(rate, paid_until, now) < 1:
                    return False
                self._paid_until[slot] = max(paid_until, now) + 60 / rate
            self._active[row * TABLES + slot] += 1
        return True

    def give_back(self, name: str, row: int) -> None:
        """Give back the place of a transaction that is over."""
        self._active[row * TABLES + self._slots[name]] -= 1

    def refund(self, name: str, rate: int) -> None:
        """Give back what was paid for a message that was not tried."""
        slot = self._slots[name]
        with self._locked(slot) as locked:
            if locked:  # otherwise the message has cost its time
                self._paid_until[slot] -= 60 / rate

    @contextmanager
    def _locked(self, slot: int) -> Iterator[bool]:
        """Hold the lock of a table. Yields False where another process has had it for too long."""
        for _ in range(TRIES):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except OSError:
                os.sched_yield()
                continue
            try:
                yield True
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)
            return
        yield False


def messages_left(rate: float, paid_until: float, now: float) -> int:
    """How many messages a rate allows at once. Pure."""
    return int((now + horizon(rate) - max(paid_until, now)) * rate / 60 + 1e-6)


def next_message(rate: int, paid_until: float, now: float) -> float:
    """When a rate allows a message. Pure."""
    return max(now, paid_until + 60 / rate - horizon(rate))


def horizon(rate: float) -> float:
    """How many seconds ahead may be paid for."""
    return max(BURST, 60 / rate)
