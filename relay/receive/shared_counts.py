"""What clients take, counted over every worker process.

The counts stand in memory that the supervisor maps before it forks. Each worker writes only its own row and reads the
sum of all, so there are no locks, and what a dead worker held is given back by clearing its row.
"""

from __future__ import annotations

import mmap
import secrets
from hashlib import blake2b

_SALT = secrets.token_bytes(16)  # drawn before the fork: no client can know who shares its bucket
_BUCKETS = 1 << 14  # names share a bucket by chance one time in 16,000: then both count together
ALL = _BUCKETS  # the bucket in which everybody counts

# Each of these begins a part of the row, with a counter for every bucket; networks have one for each length, so that a
# small one never shares a bucket with a large one.
CONNECTIONS, MEMORY, DISK, *NETWORKS = (part * (_BUCKETS + 1) for part in range(7))
_PARTS_END = 7 * (_BUCKETS + 1)
SLOWEST = {MEMORY: _PARTS_END, DISK: _PARTS_END + 1}  # one counter each, see `receive.pace`
_ROW = _PARTS_END + len(SLOWEST)


def bucket(name: str) -> int:
    """The bucket of a client or network."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8, key=_SALT).digest()) % _BUCKETS


class SharedCounts:
    """One row of 64-bit counters for each worker. Made in the supervisor, used in the workers."""

    def __init__(self, workers: int) -> None:
        self._counters = memoryview(mmap.mmap(-1, workers * _ROW * 8)).cast("q")

    def add(self, worker: int, counter: int, amount: int) -> None:
        self._counters[worker * _ROW + counter] += amount

    def put(self, worker: int, counter: int, value: int) -> None:
        self._counters[worker * _ROW + counter] = value

    def total(self, counter: int) -> int:
        return sum(self._counters[counter::_ROW])

    def others(self, worker: int, counter: int) -> list[int]:
        """The counter of every other worker."""
        found = self._counters[counter::_ROW].tolist()
        del found[worker]
        return found

    def clear(self, worker: int) -> None:
        """Give back all that a worker held which is no more."""
        start = worker * _ROW * 8
        octets = self._counters.cast("B")
        octets[start : start + _ROW * 8] = bytes(_ROW * 8)
