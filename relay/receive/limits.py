"""What clients may take in all, counted over every worker process: connections, and the memory of messages in flight.

The counts stand in memory that the supervisor maps before it forks. Each worker writes only its own row and reads the
sum of all, so there are no locks, and what a dead worker held is given back by clearing its row.
"""

from __future__ import annotations

import mmap
import secrets
from collections.abc import Callable
from hashlib import blake2b

from relay.network import client_network
from relay.reply import Refused

RESERVE = 10  # one connection in ten is for trusted clients: strangers in any number do not keep them out
CLIENT_MEMORY = 4  # the messages of one client may take one part in four of the memory, however slowly it sends them

_SALT = secrets.token_bytes(16)  # drawn before the fork: no client can know who shares its bucket
_BUCKETS = 1 << 14  # addresses share a bucket by chance one time in 16,000: then both count together
_ALL = _BUCKETS  # the bucket in which everybody counts
_OCTETS = _ALL + 1  # added to a bucket, the counter of its octets; the bucket itself is that of its connections
_ROW = 2 * _OCTETS


class SharedCounts:
    """One row of 64-bit counters for each worker. Made in the supervisor, used in the workers."""

    def __init__(self, workers: int) -> None:
        self._counters = memoryview(mmap.mmap(-1, workers * _ROW * 8)).cast("q")

    def add(self, worker: int, counter: int, amount: int) -> None:
        self._counters[worker * _ROW + counter] += amount

    def total(self, counter: int) -> int:
        return sum(self._counters[counter::_ROW])

    def clear(self, worker: int) -> None:
        """Give back all that a worker held which is no more."""
        start = worker * _ROW * 8
        octets = self._counters.cast("B")
        octets[start : start + _ROW * 8] = bytes(_ROW * 8)


class Limits:
    """The bounds, and the counts of one worker against them.

    Args:
        connections: at most so many in all, nine in ten of them from clients that are not trusted.
        per_client: at most so many from one address (an IPv6 client is its /64), unless it is trusted.
        memory: at most so many octets of messages between DATA and their reply.
        watch: is told of every octet that is taken, and with a minus given back.
    """

    def __init__(
        self,
        counts: SharedCounts,
        worker: int,
        *,
        connections: int,
        per_client: int,
        memory: int,
        watch: Callable[[int], object] = lambda octets: None,
    ) -> None:
        self.connections = connections
        self.per_client = per_client
        self.memory = memory
        self.watch = watch
        self._counts = counts
        self._worker = worker

    def count(self, counter: int, amount: int) -> None:
        self._counts.add(self._worker, counter, amount)

    def total(self, counter: int) -> int:
        return self._counts.total(counter)


class Account:
    """What one connection takes. It counts from `with` on; at its end everything is given back."""

    def __init__(self, limits: Limits, ip: str, *, trusted: bool) -> None:
        self._limits = limits
        self._trusted = trusted
        name = blake2b(client_network(ip).encode(), digest_size=8, key=_SALT).digest()
        self._client = int.from_bytes(name) % _BUCKETS
        self._held = 0

    def __enter__(self) -> Account:
        self._count(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._count(-1)

    def _count(self, connections: int) -> None:
        for bucket in (_ALL, self._client):
            self._limits.count(bucket, connections)

    @property
    def refusal(self) -> str:
        """Why this connection is one too many; empty where it may stay."""
        if not self._trusted and self._limits.total(self._client) > self._limits.per_client:
            return "too many connections from your address"
        most = self._limits.connections
        most -= 0 if self._trusted else most // RESERVE
        return "too many connections" if self._limits.total(_ALL) > most else ""

    def check(self, octets: int) -> None:
        """Whether a message may take so many octets more.

        Raises:
            Refused: 452 4.3.1, there is no room for them now.
        """
        fits = self._limits.total(_OCTETS + _ALL) + octets <= self._limits.memory
        client = self._limits.total(_OCTETS + self._client)
        if client > self._held and not self._trusted:  # it has other messages under way
            fits = fits and client + octets <= self._limits.memory // CLIENT_MEMORY
        if not fits:
            raise Refused(452, "4.3.1", "Insufficient system resources, try again later")

    def hold(self, octets: int) -> None:
        """Take so many octets more.

        Raises:
            Refused: as `check`; nothing was taken.
        """
        self.check(octets)
        self._hold(octets)

    def release(self) -> None:
        """Give all octets back."""
        self._hold(-self._held)

    def _hold(self, octets: int) -> None:
        self._held += octets
        self._limits.watch(octets)
        for bucket in (_ALL, self._client):
            self._limits.count(_OCTETS + bucket, octets)
