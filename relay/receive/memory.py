"""The room for messages on their way in, in memory and on disk, and how much of it a client may take.

Trusted clients may take all of it. Strangers leave them a part, and the messages that are large a larger one, in which
small mail passes while the large waits.
"""

from __future__ import annotations

from collections.abc import Callable

from relay.receive.shared_counts import ALL, SharedCounts

RESERVE = 10  # one part in ten is for trusted clients: strangers in any number do not keep them out
CLIENT = 4  # the messages of one client may take one part in four, however slowly it sends them
LARGE_MAIL = 3, 4  # three parts in four are the most that large messages of strangers may take

# Octets from which a message is large, and waits on disk: so a thousand clients, however slow, hold half of the memory
# that there is by default, while most mail, which is smaller, never sees the disk before it is stored.
SPOOL_FROM = 256 << 10


class Room:
    """The room in memory, or that on disk, for all clients of all workers.

    Args:
        part: where its octets are counted, `counts.MEMORY` or `counts.DISK`.
        capacity: octets there are in all at the moment.
        largest: octets of a message that fits at any rate where nothing else is there.
        watch: is told of every octet that is taken, and with a minus given back.
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
        self._worker = worker
        self._largest = largest
        self._watch = watch

    @property
    def taken(self) -> int:
        """Octets that are taken in all."""
        return self._counts.total(self.part + ALL)

    @property
    def excess(self) -> int:
        """Octets taken above one half."""
        return self.taken - self.capacity() // 2

    def fits(self, client: int, held: int, octets: int, *, trusted: bool) -> bool:
        """Whether a message may take more.

        Args:
            client: the bucket of its client.
            held: octets that it has already.
        """
        capacity = self.capacity()
        total = self.taken + octets
        if trusted:
            return total <= capacity
        most = capacity - capacity // RESERVE
        if held + octets > SPOOL_FROM:  # where there is little of it, one of the largest and a quarter for all others
            most = max(capacity * LARGE_MAIL[0] // LARGE_MAIL[1], min(most, self._largest * 5 // 4))
        others = self._counts.total(self.part + client) - held
        if others > 0 and others + held + octets > capacity // CLIENT:
            return False
        return total <= max(most, min(capacity, self._largest))

    def take(self, client: int, octets: int) -> None:
        """Count octets that a client's message takes, or with a minus gives back."""
        self._watch(octets)
        for one in (ALL, client):
            self._counts.add(self._worker, self.part + one, octets)


class Share:
    """What the message of one connection has of a room."""

    def __init__(self, room: Room, client: int, *, trusted: bool) -> None:
        self.held = 0
        self._room = room
        self._client = client
        self._trusted = trusted

    def fits(self, octets: int) -> bool:
        return self._room.fits(self._client, self.held, octets, trusted=self._trusted)

    def take(self, octets: int) -> None:
        """Take so many octets more, or with a minus give them back."""
        self.held += octets
        self._room.take(self._client, octets)

    def release(self) -> None:
        """Give all back."""
        self.take(-self.held)
