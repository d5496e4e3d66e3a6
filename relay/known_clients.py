"""The IPv6 clients that had mail accepted lately, in bounded memory that all processes share.

The network of a provider holds honest hosts beside those of an attacker. A client that had mail accepted does not count
with the networks around it; this holds for its own /64 only.
"""

from __future__ import annotations

import mmap
import secrets
import time
from collections.abc import Callable
from hashlib import blake2b

KNOWN_FOR = 86400.0  # seconds

_SETS = 1 << 14
_WAYS = 4  # clients in a set; the oldest makes room for a new one
_TICK = 256.0  # seconds: the unit of a client's time
_STAMP_BITS = 24  # ticks since the system started, enough for 136 years
_STAMPS = (1 << _STAMP_BITS) - 1


class KnownClients:
    """Remembers at most 65,536 clients, each for a day. Create it before forking.

    A slot is one number, so that no process reads half of it: 40 bits of the client's hash, then the time. A client is
    taken for another once in 10^11 questions.

    Args:
        clock: seconds of a monotonic clock that all processes share.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = memoryview(mmap.mmap(-1, _SETS * _WAYS * 8)).cast("Q")
        self._salt = secrets.token_bytes(16)
        self._clock = clock

    def add(self, client: str) -> None:
        """Records that mail of this client (as `network.client_network` returns it) was accepted.

        IPv4 clients are not recorded, because no networks around them count.
        """
        if ":" not in client:
            return
        fingerprint, places = self._find(client)
        same = [place for place in places if self._slots[place] >> _STAMP_BITS == fingerprint]
        slot = same[0] if same else min(places, key=lambda place: self._slots[place] & _STAMPS)
        self._slots[slot] = fingerprint << _STAMP_BITS | self._now()

    def knows(self, client: str) -> bool:
        """Whether mail of this client was accepted within a day, to within some minutes."""
        fingerprint, places = self._find(client)
        oldest = self._now() - int(KNOWN_FOR / _TICK)
        return any(
            slot >> _STAMP_BITS == fingerprint and slot & _STAMPS >= oldest
            for slot in (self._slots[place] for place in places)
        )

    def _find(self, client: str) -> tuple[int, range]:
        """The client's fingerprint, and the slots where it may stand."""
        digest = int.from_bytes(blake2b(client.encode(), digest_size=8, key=self._salt).digest())
        first = digest % _SETS * _WAYS
        return digest >> _STAMP_BITS, range(first, first + _WAYS)

    def _now(self) -> int:
        return 1 + int(self._clock() / _TICK) & _STAMPS
