"""The room for messages that are being received, in memory and on disk, and how much of it a client may take.

Trusted clients may take all of it, strangers nine parts in ten. Large messages of strangers may take less, so that
small messages pass while large ones wait.
"""

from __future__ import annotations

from collections.abc import Callable

from relay.receive.shared_counts import ALL, SharedCounts

RESERVE = 10  # one part in ten is kept for trusted clients
CLIENT = 4  # the messages of one client may take one part in four
LARGE_MAIL = 3, 4  # large messages of strangers may take three parts in four

# Octets from which a message is large and is kept on disk until its end. A thousand slow clients then hold half of the
# default memory, while most mail is smaller and is not written to disk before it is stored.
SPOOL_FROM = 256 << 10


class Room:
    """The room in memory, or that on disk, for all clients of all workers.

    Args:
        part: the counters of its octets: `shared_counts.MEMORY` or `shared_counts.DISK`.
        capacity: returns the octets there are in all now.
        largest: octets of a message that always fits where there is no other.
        watch: called with the number of octets that are taken, negative for octets given back.
    """

    def __init__(
        self,
        counts: SharedCounts,
        worker: int,
        part: int,
        capacity: Callable[[], int],
        largest: int = 0,
        watch: Callable[[int], object] = lambda octets: None,
    ) -> None:
        self.part = part
        self.capacity = capacity
        self._counts = counts
        self._row = counts.row(worker)
        self._largest = largest
        self._watch = watch

    @property
    def taken(self) -> int:
        """Octets that all messages take."""
        return self._counts.total(self.part + ALL)

    @property
    def excess(self) -> int:
        """Octets taken above one half of the capacity."""
        return self.taken - self.capacity() // 2

    def fits(self, client: int, held: int, octets: int, *, trusted: bool) -> bool:
        """Whether a message may take more octets.

        Args:
            client: the bucket of its client.
            held: octets that the message has taken already.
        """
        capacity = self.capacity()
        total = self.taken + octets
        if trusted:
            return total <= capacity
        most = capacity - capacity // RESERVE
        if held + octets > SPOOL_FROM:  # at small capacity: one of the largest, and a quarter of that for others
            most = max(capacity * LARGE_MAIL[0] // LARGE_MAIL[1], min(most, self._largest * 5 // 4))
        others = self._counts.total(self.part + client) - held
        if others > 0 and others + held + octets > capacity // CLIENT:
            return False
        return total <= max(most, min(capacity, self._largest))

    def take(self, client: int, octets: int) -> None:
        """Counts octets that a client's message takes; negative for octets given back."""
        self._watch(octets)
        self._row[self.part + ALL] += octets
        self._row[self.part + client] += octets


class Reservation:
    """The octets of a room that the message of one connection takes.

    Attributes:
        held: their number.
    """

    def __init__(self, room: Room, client: int, *, trusted: bool) -> None:
        self.held = 0
        self._room = room
        self._client = client
        self._trusted = trusted

    def fits(self, octets: int) -> bool:
        """Whether the message may take so many more octets."""
        return self._room.fits(self._client, self.held, octets, trusted=self._trusted)

    def take(self, octets: int) -> None:
        """Takes so many more octets; negative to give them back."""
        self.held += octets
        self._room.take(self._client, octets)

    def release(self) -> None:
        """Gives all octets back."""
        if self.held:
            self.take(-self.held)
