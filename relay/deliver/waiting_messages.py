"""New messages that wait in memory for a place at their next hop, in a line for each next hop, the oldest first.

They are in the queue, leased by this worker: what is here only saves reading them back. So a line is short. It has a
share of the memory, as much as it leaves to the others at most, and a message that has waited for `WAIT` seconds goes
back to where the other workers find it; one that was held or dropped meanwhile leaves its line within a second or two
(`relay.deliver.due_deliveries`). Where other mail of the next hop is due in the queue, the queue and the line take
turns.
Pure: the clock is passed in, in seconds since 1970.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.queue.store import Delivery, StoredMessage

WAIT = 30.0  # seconds, and at most half of a lease, so that none runs out here
WAIT_SHARED = 2.0  # the same where other hosts may have room for it
BESIDE = 8192  # octets that a message takes in memory beside its content, about
RECIPIENT = 1024  # the same for each of its recipients


class WaitingMessage(NamedTuple):
    """Deliveries of one message to one next hop, with the leases that this worker holds on them since they were due."""

    stored: StoredMessage
    deliveries: Sequence[Delivery]
    since: float

    @property
    def octets(self) -> int:
        """The memory that it takes."""
        return octets_of(len(self.stored.message.content), len(self.deliveries))


def octets_of(content: int, recipients: int) -> int:
    """The memory that a message takes while it waits for one next hop."""
    return content + BESIDE + RECIPIENT * recipients


@dataclass(slots=True)
class _Line:
    messages: deque[WaitingMessage] = field(default_factory=deque)
    turns: int = 0  # how many may begin before it is the turn of the queue


class WaitingMessages:
    """The lines of one worker, by the keys of the next hops.

    Args:
        memory: octets in all.
        lease: seconds that a lease lasts.
        shared: whether workers of other hosts attempt what goes back to the queue.
    """

    def __init__(self, memory: int, lease: float, *, shared: bool = False) -> None:
        self._memory = memory
        self._wait = min(WAIT_SHARED if shared else WAIT, lease / 2)
        self._lines: dict[str, _Line] = {}
        self._reserved: dict[str, int] = {}  # octets by next hop: of what waits, and of what is being stored
        self._total = 0  # the sum of these

    def __contains__(self, hop: str) -> bool:
        return hop in self._lines

    @property
    def hops(self) -> Sequence[str]:
        """The next hops that have a line."""
        return tuple(self._lines)

    def reserve(self, hop: str, octets: int) -> bool:
        """Take memory for a message that is to wait once it is stored, where its line has no more than it leaves to the
        others then. `add` follows, or `free`."""
        of_line = self._reserved.get(hop, 0) + octets
        if of_line > self._memory - self._total - octets:
            return False
        self._reserved[hop] = of_line
        self._total += octets
        return True

    def free(self, hop: str, octets: int) -> None:
        """Give memory back that was reserved."""
        self._total -= octets
        self._reserved[hop] -= octets
        if not self._reserved[hop]:
            del self._reserved[hop]

    def add(self, hop: str, message: WaitingMessage) -> None:
        """Let a message wait; its memory was reserved."""
        self._lines.setdefault(hop, _Line()).messages.append(message)

    def next(self, hop: str, now: float, *, queue_waits: bool) -> WaitingMessage | None:
        """Take out the message that is to begin now; None where there is none, or it is the turn of the queue.

        Args:
            queue_waits: whether deliveries to the next hop are due in the queue as well.
        """
        line = self._lines.get(hop)
        if line is None or (queue_waits and line.turns <= 0) or self._is_late(line, now):
            return None
        line.turns -= queue_waits
        message = line.messages.popleft()
        self.free(hop, message.octets)
        if not line.messages:
            del self._lines[hop]
        return message

    def queue_had_turn(self, hop: str, transactions: int) -> None:
        """Let as many messages begin from memory now as have begun from the queue."""
        self._lines[hop].turns = transactions

    def leaving(self, now: float, may_have_line: Callable[[str], bool]) -> Sequence[str]:
        """The next hops whose line has to be put back: the oldest message has waited for too long, or there may be no
        line any more."""
        return [hop for hop, line in self._lines.items() if self._is_late(line, now) or not may_have_line(hop)]

    def remove(self, hop: str) -> Sequence[WaitingMessage]:
        """Take a line out."""
        messages = self._lines.pop(hop).messages
        self.free(hop, sum(message.octets for message in messages))
        return messages

    def all(self) -> Sequence[WaitingMessage]:
        """Everything that waits."""
        return [message for line in self._lines.values() for message in line.messages]

    def remove_some(self, message_ids: Collection[int]) -> Sequence[WaitingMessage]:
        """Take some messages out of whatever lines they wait in."""
        removed: list[WaitingMessage] = []
        for hop in self.hops if message_ids else ():
            line = self._lines[hop]
            some = [message for message in line.messages if message.stored.id in message_ids]
            if some:
                line.messages = deque(message for message in line.messages if message.stored.id not in message_ids)
                self.free(hop, sum(message.octets for message in some))
                removed += some
            if not line.messages:
                del self._lines[hop]
        return removed

    def _is_late(self, line: _Line, now: float) -> bool:
        return not 0 <= now - line.messages[0].since < self._wait  # or the clock was put back
