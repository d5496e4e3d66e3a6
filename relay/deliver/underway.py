"""The messages that are being attempted: the memory that they take, and what becomes of those that take long.

What is not over after `SLOW` seconds moves to the slow share, of places (`deliver.hops`) and of memory: a quarter of
it. Where that is full the attempts of the oldest message there are given up. A message whose every transaction waits
for the reply to its final dot has been sent: its content is let go.

What we write ourselves has few places, and goes to whom strangers name. Where it waits for one it is slow sooner, so
that silent hosts by the hundred do not keep our bounces from the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from relay.deliver.attempts import Attempt, Batch
from relay.deliver.concurrency import SLOW, Hops
from relay.deliver.concurrency_share import Place

SOONER = 6  # how many times, for what we write ourselves while that waits for places
LOOK = 1.0  # seconds between two looks
AT_ONCE = 20  # messages that turn slow without the others having their turn
_MAKE_ROOM = "given up for taking long, to make room for others"


@dataclass(eq=False, slots=True)
class _Message:
    attempt: Attempt
    places: dict[Batch, Place]  # of the transactions that are not over
    octets: int  # of its content, while it is held
    since: float  # by the monotonic clock


class Underway:
    """What one worker has under way.

    Args:
        memory: octets of content in all.
    """

    def __init__(self, hops: Hops, memory: int) -> None:
        self._hops = hops
        self._slow_memory = memory // 4
        self._memory = memory - self._slow_memory
        self._young: dict[Attempt, _Message] = {}  # the oldest stand first, here and there
        self._slow: dict[Attempt, _Message] = {}
        self._octets = 0  # of the young ones
        self._changed = asyncio.Event()

    def room_for(self, octets: int) -> bool:
        """Whether there is memory for a content."""
        return self._octets + octets <= self._memory

    @property
    def full(self) -> bool:
        """Whether there is no memory left."""
        return self._octets >= self._memory

    async def wait_for_memory(self) -> None:
        """Wait until there is memory left."""
        while self.full:
            self._changed.clear()
            await self._changed.wait()

    def begin(self, attempt: Attempt) -> None:
        """The attempts at a message begin."""
        now = time.time()
        places = {each: self._hops.started(each.hop, now, each.bound) for each in attempt.batches}
        octets = len(attempt.stored.message.content)
        self._young[attempt] = _Message(attempt, places, octets, time.monotonic())
        self._octets += octets

    def place_of(self, attempt: Attempt, batch: Batch) -> Place | None:
        """The place of a transaction that is over, to be given back; None where `end` has done that."""
        message = self._young.get(attempt) or self._slow.get(attempt)
        return None if message is None else message.places.pop(batch)

    def end(self, attempt: Attempt) -> None:
        """The attempts at a message are over, what they came to is recorded."""
        message = self._young.pop(attempt, None)
        if message is not None:
            self._octets -= message.octets
        else:
            message = self._slow.pop(attempt)
        for place in message.places.values():  # of those that were cancelled
            self._hops.released(place)
        self._changed.set()

    async def look_after(self) -> None:
        """See to what has become slow, for as long as this runs."""
        while True:
            await asyncio.sleep(min(LOOK, SLOW / 10))
            ours_wait = self._hops.ours_wait
            for number, message in enumerate(list(self._young.values()), 1):
                age = time.monotonic() - message.since
                if age < SLOW / SOONER:
                    break
                if message.attempt in self._young and (age >= SLOW or (ours_wait and message.attempt.stored.is_own)):
                    self._turn_slow(message)
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
            for message in self._slow.values():
                self._free_content(message)

    def _turn_slow(self, message: _Message) -> None:
        del self._young[message.attempt]
        self._slow[message.attempt] = message
        self._octets -= message.octets
        now = time.time()
        for place in list(message.places.values()):
            for victim in self._hops.slowed(place, now):
                victim.bound.end(_MAKE_ROOM)
        self._make_room()
        self._changed.set()

    def _make_room(self) -> None:
        """Give up the oldest of the slow messages until the others fit into their memory; the newest may stay alone."""
        held = {each: each.octets for each in self._slow.values() if each.octets and _may_end(each.places)}
        excess = sum(held.values()) - self._slow_memory
        for each in list(held)[:-1]:
            if excess <= 0:
                return
            excess -= each.octets
            for place in each.places.values():
                place.bound.end(_MAKE_ROOM)

    def _free_content(self, message: _Message) -> None:
        if message.octets and message.places and all(p.bound.final for p in message.places.values()):
            message.octets = 0
            message.attempt.free_content()


def _may_end(places: Mapping[Batch, Place]) -> bool:
    return any(place.bound.open for place in places.values())
