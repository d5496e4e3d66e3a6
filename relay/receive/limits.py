"""What clients may take in all, counted over every worker process: connections, and the memory of messages in flight.

The counts stand in memory that the supervisor maps before it forks. Each worker writes only its own row and reads the
sum of all, so there are no locks, and what a dead worker held is given back by clearing its row.
"""

from __future__ import annotations

import ipaddress
import mmap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

_BUCKETS = 1 << 14  # addresses share a bucket by chance one time in 16,000: then both count together
_CONNECTIONS = _BUCKETS
_OCTETS = _BUCKETS + 1
_ROW = _BUCKETS + 2


class SharedCounts:
    """One row of 64-bit counters for each worker. Made in the supervisor, used in the workers."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._counters = memoryview(mmap.mmap(-1, workers * _ROW * 8)).cast("q")

    def add(self, worker: int, counter: int, amount: int) -> None:
        self._counters[worker * _ROW + counter] += amount

    def total(self, counter: int) -> int:
        return sum(self._counters[row * _ROW + counter] for row in range(self._workers))

    def clear(self, worker: int) -> None:
        """Give back all that a worker held which is no more."""
        start = worker * _ROW * 8
        octets = self._counters.cast("B")
        octets[start : start + _ROW * 8] = bytes(_ROW * 8)


class Limits:
    """One worker's view of the shared counts.

    Args:
        connections: at most so many in all.
        per_client: at most so many from one address (an IPv6 client is its /64).
        memory: at most so many octets of messages between DATA and their reply.
    """

    def __init__(self, counts: SharedCounts, worker: int, *, connections: int, per_client: int, memory: int) -> None:
        self._counts = counts
        self._worker = worker
        self._connections = connections
        self._per_client = per_client
        self._memory = memory

    @contextmanager
    def connection(self, ip: str) -> Iterator[str]:
        """Count a connection while it lasts. Yields why it must be refused, empty where it may stay."""
        bucket = zlib.crc32(_client(ip).encode()) % _BUCKETS
        for counter in (_CONNECTIONS, bucket):
            self._counts.add(self._worker, counter, 1)
        try:
            if self._counts.total(bucket) > self._per_client:
                yield "too many connections from your address"
            elif self._counts.total(_CONNECTIONS) > self._connections:
                yield "too many connections"
            else:
                yield ""
        finally:
            for counter in (_CONNECTIONS, bucket):
                self._counts.add(self._worker, counter, -1)

    def fits(self, octets: int) -> bool:
        """Whether so much more may be held now."""
        return self._counts.total(_OCTETS) + octets <= self._memory

    def hold(self, octets: int) -> None:
        """Count octets of a message; a negative number gives them back."""
        self._counts.add(self._worker, _OCTETS, octets)

    @property
    def held(self) -> int:
        """Octets of messages in flight, over all workers."""
        return self._counts.total(_OCTETS)


def _client(ip: str) -> str:
    if ":" not in ip:
        return ip
    return str(ipaddress.ip_network((ip, 64), strict=False))
