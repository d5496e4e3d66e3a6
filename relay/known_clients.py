"""Which IPv6 clients had mail accepted lately, in bounded memory that all processes share.

A provider's or hoster's network holds honest hosts beside those of an attacker. Who had mail accepted is not counted
with its neighbours; it frees its own /64 only.
"""

from __future__ import annotations

import mmap
import secrets
import time
from collections.abc import Callable
from hashlib import blake2b

KNOWN_FOR = 86400.0  # seconds

_SETS = 1 << 14
_WAYS = 4  # clients in a set; the one that was added first makes room
_TICK = 256.0  # seconds, in which the time of a client is kept
_STAMP_BITS = 24  # of ticks since the system came up: 136 years
_STAMPS = (1 << _STAMP_BITS) - 1


class KnownClients:
    """At most 65,536 clients, each for a day. Make it before forking.

    A slot is one number, so that no process sees half of it: 40 bits of the client's hash, then the time. That a client
    is taken for another happens by chance once in 10^11 questions.

    Args:
        clock: seconds, of a clock that never jumps and is the same for all processes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = memoryview(mmap.mmap(-1, _SETS * _WAYS * 8)).cast("Q")
        self._salt = secrets.token_bytes(16)
        self._clock = clock

    def add(self, client: str) -> None:
        """Mail of this client (as `network.client_network` tells) was accepted.

        IPv4 clients are not kept: no networks around them count.
        """
        if ":" not in client:
            return
        name, places = self._find(client)
        same = [place for place in places if self._slots[place] >> _STAMP_BITS == name]
        place = same[0] if same else min(places, key=lambda one: self._slots[one] & _STAMPS)
        self._slots[place] = name << _STAMP_BITS | self._now()

    def knows(self, client: str) -> bool:
        """Whether mail of this client was accepted within a day, give or take some minutes."""
        name, places = self._find(client)
        oldest = self._now() - int(KNOWN_FOR / _TICK)
        return any(
            slot >> _STAMP_BITS == name and slot & _STAMPS >= oldest
            for slot in (self._slots[place] for place in places)
        )

    def _find(self, client: str) -> tuple[int, range]:
        """The client's name in a slot, and the slots where it may stand."""
        digest = int.from_bytes(blake2b(client.encode(), digest_size=8, key=self._salt).digest())
        first = digest % _SETS * _WAYS
        return digest >> _STAMP_BITS, range(first, first + _WAYS)

    def _now(self) -> int:
        return 1 + int(self._clock() / _TICK) & _STAMPS
