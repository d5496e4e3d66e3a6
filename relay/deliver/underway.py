"""The messages that are being attempted: the memory that they take, and how slow ones are given up.

A message whose attempts are not over after `SLOW` seconds moves to the slow places (`relay.deliver.concurrency`) and to
the slow quarter of the memory. Where that is full the attempts at the oldest slow message are given up. The content of
a message is freed when all its transactions wait for the reply to their final dot: it has been sent.

Own messages have few places, and strangers choose where they go. While own messages wait for places, they count as slow
sooner, so that hundreds of silent hosts do not keep our bounces from the other hosts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from relay.deliver.attempts import Attempt, Batch
from relay.deliver.concurrency import SLOW, HopConcurrency
from relay.deliver.places import Place

SOONER = 6  # how many times sooner own messages count as slow while own messages wait for places
LOOK = 1.0  # seconds between two looks
AT_ONCE = 20  # messages looked at before other tasks may run
_MAKE_ROOM = "given up for taking long, to make room for others"
_PAUSED = "delivery temporarily suspended"


@dataclass(eq=False, slots=True)
class _Message:
    attempt: Attempt
    places: dict[Batch, Place]  # of the batches whose transactions are not over
    octets: int  # of its content; 0 once that is freed
    since: float  # by the monotonic clock


class Underway:
    """The messages that one worker attempts.

    Args:
        memory: octets of content in all.
    """

    def __init__(self, hops: HopConcurrency, memory: int) -> None:
        self._hops = hops
        self._slow_memory = memory // 4
        self._memory = memory - self._slow_memory
        self._young: dict[Attempt, _Message] = {}  # the oldest stand first, in both
        self._slow: dict[Attempt, _Message] = {}
        self._octets = 0  # of the young messages
        self._changed = asyncio.Event()

    def room_for(self, octets: int) -> bool:
        """Whether there is memory for a content of this size."""
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
        """Take places and memory for the attempts at a message."""
        now = time.time()
        places = {batch: self._hops.started(batch.hop, now, batch.bound) for batch in attempt.batches}
        octets = len(attempt.stored.message.content)
        self._young[attempt] = _Message(attempt, places, octets, time.monotonic())
        self._octets += octets

    def place_of(self, attempt: Attempt, batch: Batch) -> Place | None:
        """The place of a batch whose transaction is over, for the caller to give back; None where `end` has done so."""
        message = self._young.get(attempt) or self._slow.get(attempt)
        return None if message is None else message.places.pop(batch)

    def end(self, attempt: Attempt) -> None:
        """Give back what the attempts at a message still hold; their outcomes are recorded."""
        message = self._young.pop(attempt, None)
        if message is not None:
            self._octets -= message.octets
        else:
            message = self._slow.pop(attempt)
        for place in message.places.values():  # of batches that were cancelled
            self._hops.released(place)
        self._changed.set()

    def end_what_is_paused(self, now: float) -> None:
        """Give up the attempts that wait for their turn at a next hop that a reply has paused: they would all get that
        reply, and bounce where it is a 5xx."""
        for message in (*self._young.values(), *self._slow.values()):
            for place in message.places.values():
                if place.bound.waits and self._hops.is_paused(place.hop, now):
                    place.bound.end(_PAUSED)

    async def look_after(self) -> None:
        """Move messages to the slow ones, give up some where there is no room, and free contents, until cancelled."""
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
                self._free_content_if_sent(message)

    def _turn_slow(self, message: _Message) -> None:
        del self._young[message.attempt]
        self._slow[message.attempt] = message
        self._octets -= message.octets
        now = time.time()
        for place in list(message.places.values()):
            for excess in self._hops.slowed(place, now):
                excess.bound.end(_MAKE_ROOM)
        self._make_room()
        self._changed.set()

    def _make_room(self) -> None:
        """Give up the oldest slow messages until the others fit into their memory; the newest may stay alone."""
        in_memory = [message for message in self._slow.values() if message.octets and _may_end(message.places)]
        excess = sum(message.octets for message in in_memory) - self._slow_memory
        for message in in_memory[:-1]:
            if excess <= 0:
                return
            excess -= message.octets
            for place in message.places.values():
                place.bound.end(_MAKE_ROOM)

    def _free_content_if_sent(self, message: _Message) -> None:
        if message.octets and message.places and all(place.bound.final for place in message.places.values()):
            message.octets = 0
            message.attempt.free_content()


def _may_end(places: Mapping[Batch, Place]) -> bool:
    return any(place.bound.open for place in places.values())
