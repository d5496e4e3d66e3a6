"""Counters of what clients take, shared by all worker processes.

The counters are in memory that the supervisor maps before it forks. Each worker writes its own row only and reads the
sum of all rows, so there are no locks. Clearing the row of a dead worker gives back what it had taken.
"""

from __future__ import annotations

import mmap
import secrets
from hashlib import blake2b

_SALT = secrets.token_bytes(16)  # drawn before the fork, so that no client can tell which clients share its bucket
_BUCKETS = 1 << 14  # two names that share a bucket by chance (one time in 16,000) count together
ALL = _BUCKETS  # the bucket of all clients together

# Where each part of the row begins. A part has a counter for every bucket. Networks have a part for each prefix length,
# so that a small one never shares a bucket with a large one.
CONNECTIONS, MEMORY, DISK, *NETWORKS = (part * (_BUCKETS + 1) for part in range(7))
_PARTS_END = 7 * (_BUCKETS + 1)
SLOWEST = {MEMORY: _PARTS_END, DISK: _PARTS_END + 1}  # one counter each, see `receive.min_rate`
_ROW = _PARTS_END + len(SLOWEST)


def bucket(name: str) -> int:
    """The bucket of a client or network."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8, key=_SALT).digest()) % _BUCKETS


class SharedCounts:
    """A row of 64-bit counters for each worker. The supervisor creates it, the workers use it."""

    def __init__(self, workers: int) -> None:
        self._counters = memoryview(mmap.mmap(-1, workers * _ROW * 8)).cast("q")

    def row(self, worker: int) -> memoryview[int]:
        """The counters of one worker, for that worker to write."""
        return self._counters[worker * _ROW : (worker + 1) * _ROW]

    def total(self, counter: int) -> int:
        """The sum of a counter over all workers."""
        return sum(self._counters[counter::_ROW])

    def others(self, worker: int, counter: int) -> list[int]:
        """The counter of every other worker."""
        values = self._counters[counter::_ROW].tolist()
        del values[worker]
        return values

    def clear(self, worker: int) -> None:
        """Sets all counters of a dead worker to 0."""
        start = worker * _ROW * 8
        octets = self._counters.cast("B")
        octets[start : start + _ROW * 8] = bytes(_ROW * 8)
