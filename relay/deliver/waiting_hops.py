"""The next hops that were passed over for want of room, and whose turn it is.

A next hop without room does not slow the others: the queue is read on behind its deliveries, which are fetched by its
key later. The domains that a table of `[[delivery.destinations]]` limits together take turns.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import islice

LOOKS = 500  # next hops looked at again in one go: a stranger may have made up any number


class WaitingHops:
    """The next hops that wait for room, by their keys; the one whose turn it is stands first."""

    def __init__(self) -> None:
        self._deferred_up_to: dict[str, float] = {}
        self._ready: set[str] = set()
        self._by_table: dict[str, dict[str, None]] = {}
        self._table_of: dict[str, str] = {}

    def __contains__(self, hop: str) -> bool:
        return hop in self._deferred_up_to

    def add(self, hop: str, table: str = "") -> None:
        """Let a next hop wait.

        Args:
            table: the name of the table that limits it; empty where none does. It may be known later only.
        """
        self._deferred_up_to.setdefault(hop, -math.inf)
        if self._table_of.get(hop, "") != table:
            self._leave_table(hop)
            if table:
                self._table_of[hop] = table
                self._by_table.setdefault(table, {})[hop] = None

    def remove(self, hop: str) -> None:
        """Nothing waits for it any more, as far as the queue tells."""
        self._deferred_up_to.pop(hop, None)
        self._ready.discard(hop)
        self._leave_table(hop)

    def _leave_table(self, hop: str) -> None:
        table = self._table_of.pop(hop, "")
        if table:
            del self._by_table[table][hop]
            if not self._by_table[table]:
                del self._by_table[table]

    def deferred_up_to(self, hop: str) -> float:
        """The time up to which its due deliveries were deferred, because a try that began then has failed for all."""
        return self._deferred_up_to[hop]

    def was_deferred(self, hop: str, up_to: float) -> None:
        """Note that its deliveries that were due before `up_to` are deferred."""
        if hop in self._deferred_up_to:
            self._deferred_up_to[hop] = up_to

    def look_first(self, hop: str) -> None:
        """Look at it first in the next look, where it waits: it may have room."""
        if hop in self._deferred_up_to:
            self._ready.add(hop)

    def take_turns(self, *, others: bool = True) -> Collection[str]:
        """The next hops to look at, which stand last then: those with room again, and some of the others if wanted."""
        hops = dict.fromkeys([*self._ready, *islice(self._deferred_up_to, LOOKS if others else 0)])
        self._ready.clear()
        for hop in hops:
            self._deferred_up_to[hop] = self._deferred_up_to.pop(hop)
        return hops

    @property
    def tables(self) -> Collection[str]:
        """The tables that next hops wait for."""
        return tuple(self._by_table)

    def count(self, table: str) -> int:
        """How many next hops wait for a table."""
        return len(self._by_table.get(table, ()))

    def turns(self, table: str) -> Iterator[str]:
        """The next hops of a table in turn; whoever has had his turn when the next one is asked for stands last."""
        for _ in range(min(self.count(table), LOOKS)):
            hops = self._by_table.get(table)
            if not hops:
                return
            hop = next(iter(hops))
            yield hop
            if hop in hops:
                hops[hop] = hops.pop(hop)
