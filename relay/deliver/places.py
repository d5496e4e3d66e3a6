"""Places for transactions: a quarter for slow ones, the rest for young ones.

A transaction that lasts moves to a slow place. Where those are full, a slow transaction is given up. One that waits for
the reply to its final dot cannot be given up; it counts beyond the slow places, so that the young ones keep theirs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from relay.deliver.deadline import Deadline


@dataclass(eq=False, slots=True)
class Place:
    """The place of one transaction.

    Attributes:
        bound: the time limit of the transaction, which can also give it up.
        slow: whether it is a slow place.
        quick_answers: how many quick answers its next hop had given when the transaction began.
    """

    hop: str
    bound: Deadline
    slow: bool
    quick_answers: int


class Places:
    """A limited number of places, and the transactions that have them.

    Args:
        total: places, at least one of them for slow transactions and one for young ones.
        most: transactions in all, with those that wait for the reply to their final dot.
    """

    def __init__(self, total: int, *, most: int) -> None:
        self._slow_places = max(1, total // 4)
        self._young_places = max(1, total - self._slow_places)
        self._most = most
        self._slow: dict[Place, None] = {}  # in the order in which they turned slow
        self._slow_of: Counter[str] = Counter()
        self.young = 0

    def left(self, *, slow: bool) -> int:
        """Free places, for a transaction that begins as a slow one or as a young one."""
        free = self._slow_places - len(self._slow) if slow else self._young_places - self.young
        return min(free, self._most - self.young - len(self._slow))

    def reserve(self, *, slow: bool) -> int:
        """How many places are kept for next hops that have none, so that a burst to one leaves some to the others."""
        return (self._slow_places if slow else self._young_places) // 4

    def add(self, place: Place) -> None:
        """Take a place for a transaction that begins."""
        if place.slow:
            self._slow[place] = None
            self._slow_of[place.hop] += 1
        else:
            self.young += 1

    def remove(self, place: Place) -> None:
        """Free the place of a transaction that is over, or given up for another."""
        if place in self._slow:
            del self._slow[place]
            self._slow_of[place.hop] -= 1
            if not self._slow_of[place.hop]:
                del self._slow_of[place.hop]
        elif not place.slow:
            self.young -= 1

    def turn_slow(self, place: Place) -> None:
        """Move a transaction that has lasted to a slow place."""
        self.young -= 1
        self._slow[place] = None
        self._slow_of[place.hop] += 1

    def excess(self) -> Place | None:
        """The transaction to give up: of the next hop with most slow places the one that turned slow first.

        None where there is room, or where all wait for the reply to their final dot.
        """
        if len(self._slow) <= self._slow_places:
            return None
        return max(
            (place for place in self._slow if place.bound.open), key=lambda p: self._slow_of[p.hop], default=None
        )
