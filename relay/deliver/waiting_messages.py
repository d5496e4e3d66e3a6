"""New messages that wait in memory for a place at their next hop, in a line for each next hop, the oldest first.

They are in the queue, leased by this worker: what is here only saves reading them back. So a line is short. It has a
share of the memory, as much as it leaves to the others at most, and a message that has waited for `WAIT` seconds goes
back to where the other workers and the queue commands find it. Where other mail of the next hop is due in the queue,
the queue and the line take turns.
Pure: the clock is passed in, in seconds since 1970.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.queue.store import Delivery, StoredMessage

WAIT = 30.0  # seconds, and at most half of a lease, so that none runs out here
WAIT_SHARED = 2.0  # the same where other hosts may have room for it
BESIDE = 8192  # octets that a message takes in memory beside its content, about


class WaitingMessage(NamedTuple):
    """Deliveries of one message to one next hop, with the leases that this worker holds on them since they were due."""

    stored: StoredMessage
    deliveries: Sequence[Delivery]
    since: float

    @property
    def octets(self) -> int:
        """The memory that it takes."""
        return len(self.stored.message.content) + BESIDE


@dataclass(slots=True)
class _Line:
    messages: deque[WaitingMessage] = field(default_factory=deque)
    octets: int = 0
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
        self._octets = 0

    def __contains__(self, hop: str) -> bool:
        return hop in self._lines

    @property
    def hops(self) -> Sequence[str]:
        """The next hops that have a line."""
        return tuple(self._lines)

    def room_for(self, hop: str, octets: int) -> bool:
        """Whether a message with a content of this size may wait: its line has no more than it leaves to the others."""
        line = self._lines.get(hop)
        octets += BESIDE
        return (0 if line is None else line.octets) + octets <= self._memory - self._octets - octets

    def add(self, hop: str, message: WaitingMessage) -> None:
        """Let a message wait."""
        line = self._lines.setdefault(hop, _Line())
        line.messages.append(message)
        line.octets += message.octets
        self._octets += message.octets

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
        line.octets -= message.octets
        self._octets -= message.octets
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
        line = self._lines.pop(hop)
        self._octets -= line.octets
        return line.messages

    def _is_late(self, line: _Line, now: float) -> bool:
        return not 0 <= now - line.messages[0].since < self._wait  # or the clock was put back
