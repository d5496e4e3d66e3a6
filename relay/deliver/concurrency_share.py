"""Places for transactions, three quarters of them for those that are young.

A transaction that has lasted moves into the slow quarter. Where that is full one of them is given up; who waits for the
reply to a final dot cannot be, and stays on top of it, so that the young never have less.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from relay.deliver.deadline import Bound


@dataclass(eq=False, slots=True)
class Place:
    """What one transaction holds.

    Attributes:
        bound: what the transaction may be given up by.
        slow: whether it is of the slow ones.
        quick_answers: how many its next hop had given when it began.
    """

    hop: str
    bound: Bound
    slow: bool
    quick_answers: int


class Places:
    """How the places are taken.

    Args:
        total: places, at least one of them for slow transactions and one for the others.
        most: transactions in all, with those that wait for the reply to their final dot.
    """

    def __init__(self, total: int, *, most: int) -> None:
        self._slow_places = max(1, total // 4)
        self._young_places = max(1, total - self._slow_places)
        self._most = most
        self._slow: dict[Place, None] = {}  # those that turned slow first stand first
        self._slow_of: Counter[str] = Counter()
        self.young = 0

    def left(self, *, slow: bool) -> int:
        """Places that are free, for a transaction that begins as a slow one or as the others do."""
        free = self._slow_places - len(self._slow) if slow else self._young_places - self.young
        return min(free, self._most - self.young - len(self._slow))

    def reserve(self, *, slow: bool) -> int:
        """How many of them are kept for next hops that have none: a burst to some leaves one to each of the rest."""
        return (self._slow_places if slow else self._young_places) // 4

    def add(self, place: Place) -> None:
        """A transaction begins."""
        if place.slow:
            self._slow[place] = None
            self._slow_of[place.hop] += 1
        else:
            self.young += 1

    def remove(self, place: Place) -> None:
        """A transaction is over, or given up for another."""
        if place in self._slow:
            del self._slow[place]
            self._slow_of[place.hop] -= 1
            if not self._slow_of[place.hop]:
                del self._slow_of[place.hop]
        elif not place.slow:
            self.young -= 1

    def turn_slow(self, place: Place) -> None:
        """A transaction has lasted."""
        self.young -= 1
        self._slow[place] = None
        self._slow_of[place.hop] += 1

    def one_too_many(self) -> Place | None:
        """What is to be given up: of the next hop that has most of the slow places the one that turned slow first. None
        where there is room, or every one waits for the reply to its final dot."""
        if len(self._slow) <= self._slow_places:
            return None
        return max((p for p in self._slow if p.bound.open), key=lambda p: self._slow_of[p.hop], default=None)
