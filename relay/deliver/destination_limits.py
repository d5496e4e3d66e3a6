"""What one worker may begin under the numbers of `[[delivery.destinations]]`: which table limits a next hop, whether
there is room, and the share that a transaction has while it runs.

The domain of a next hop says which table that is, or for an `mx:` table its MX hosts, which are looked up before the
queue is asked for more. An attempt is sure of it: it `enter`s the table that it has found.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from relay.config.destinations import Destination, Destinations
from relay.config.model import Config
from relay.deliver.shared_limits import SharedLimits, messages_left, next_message
from relay.queue.hop_keys import is_doubtful_hop, is_url, limiting_table, shown_hop

REMEMBERED = 50_000  # domains whose `mx:` table is known
LOOK_UP = 1.0  # seconds for DNS to say which table a domain belongs to; later its attempt finds out
UNLIMITED = 1 << 30

FindTable = Callable[[str], Awaitable[Destination | None]]
"""Finds the table of a domain that no table names, by its MX hosts."""


def limited_tables(config: Config) -> list[str]:
    """The names of the tables that have numbers of their own."""
    return list(_limited(config.destinations))


def _limited(destinations: Destinations) -> dict[str, Destination]:
    return {each.name: each for each in (*destinations.doubtful, *destinations) if each.is_limited}


class NoRoom(Exception):
    """The table of a destination has no room for the transaction now. Nothing was tried."""

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        super().__init__(f"no room for {destination.name}")


class DestinationLimits:
    """The limits as one worker sees them.

    Args:
        shared: where all workers count; it has the tables of this configuration.
        row: the row of this worker.
    """

    def __init__(self, destinations: Destinations, shared: SharedLimits, row: int, find_table: FindTable) -> None:
        self._destinations = destinations
        self._shared = shared
        self._row = row
        self._find_table = find_table
        self._limited = _limited(destinations)
        self._by_mx: dict[str, Destination | None] = {}

    @property
    def exist(self) -> bool:
        """Whether any table limits anything."""
        return bool(self._limited)

    @property
    def asks_dns(self) -> bool:
        """Whether the table of a domain may depend on its MX hosts."""
        return bool(self._limited) and self._destinations.has_mx

    def of(self, hop: str) -> Destination | None:
        """The table that limits a next hop, as far as is known; None where none does."""
        if not self._limited:
            return None
        if is_url(hop):
            return self._limited.get(limiting_table(hop))
        domain = shown_hop(hop)
        table = self._destinations.of(domain) or self._by_mx.get(domain)
        table = self._destinations.for_mail(table, doubtful=is_doubtful_hop(hop))
        return table if table is not None and table.is_limited else None

    async def find_out(self, hops: Iterable[str]) -> None:
        """Look up the tables of domains that depend on their MX hosts; those that DNS does not tell in time are taken
        for unlimited until their attempt finds out."""
        if not self.asks_dns:
            return
        unknown = {
            shown_hop(hop)
            for hop in hops
            if not is_url(hop) and shown_hop(hop) not in self._by_mx and self._destinations.of(shown_hop(hop)) is None
        }
        looking = [asyncio.create_task(self._find_out(domain)) for domain in unknown]
        if looking:
            _, late = await asyncio.wait(looking, timeout=LOOK_UP)
            for task in late:
                task.cancel()
            for domain in unknown - self._by_mx.keys():
                self.note(domain, None)

    async def _find_out(self, domain: str) -> None:
        self.note(domain, await self._find_table(domain))

    def note(self, hop: str, destination: Destination | None) -> None:
        """Remember the table that the MX hosts of a domain belong to, whose mail may be doubtful."""
        domain, destination = shown_hop(hop), self._destinations.in_file(destination)
        if is_url(hop) or not self.asks_dns or self._destinations.of(domain) is not None:
            return
        self._by_mx.pop(domain, None)
        self._by_mx[domain] = destination
        if len(self._by_mx) > REMEMBERED:
            del self._by_mx[next(iter(self._by_mx))]

    def room(self, destination: Destination, now: float) -> int:
        """How many transactions may begin now; not negative."""
        room = UNLIMITED
        if destination.concurrency is not None:
            room = destination.concurrency - self._shared.active(destination.name)
        if destination.rate is not None:
            paid_until = self._shared.paid_until(destination.name, destination.rate, now)
            room = min(room, messages_left(destination.rate, paid_until, now))
        return max(0, room)

    def concurrency(self, hop: str) -> int | None:
        """How many transactions at once the table of a next hop allows; None where it has no such number. An `mx:`
        table says nothing of a single domain."""
        table = self.of(hop)
        return None if table is None or shown_hop(hop) in self._by_mx else table.concurrency

    def opens(self, name: str, now: float) -> float | None:
        """When the rate of a table allows the next message; None where that is now, or not its rate alone holds."""
        destination = self._limited.get(name)
        if destination is None or destination.rate is None:
            return None
        when = next_message(destination.rate, self._shared.paid_until(name, destination.rate, now), now)
        return when if when > now else None

    def take(self, destination: Destination, now: float) -> Share | None:
        """A share for one transaction; None where there is no room."""
        if self._shared.take(destination.name, self._row, destination.concurrency, destination.rate, now):
            return Share(destination, self._shared, self._row)
        return None


@dataclass(eq=False, slots=True)
class Share:
    """A place, and a message that is paid for, of one table; given back once, by `end` or `refund`."""

    destination: Destination
    _shared: SharedLimits
    _row: int

    def end(self) -> None:
        """Give the place back: the transaction is over."""
        self._shared.give_back(self.destination.name, self._row)

    def refund(self) -> None:
        """Give everything back: there was no transaction."""
        self.end()
        if self.destination.rate is not None:
            self._shared.refund(self.destination.name, self.destination.rate)


class Admission:
    """The admission of one transaction: it begins with the share that was kept for it, or takes one when it knows its
    table. Without limits everything is admitted."""

    __slots__ = ("_limits", "share")

    def __init__(self, limits: DestinationLimits | None = None, share: Share | None = None) -> None:
        self._limits = limits
        self.share = share

    @property
    def is_needed(self) -> bool:
        """Whether any table limits anything."""
        return self._limits is not None and self._limits.exist

    def enter(self, hop: str, destination: Destination | None) -> None:
        """Begin a transaction with a next hop of this table.

        Raises:
            NoRoom: the table has no room.
        """
        if self._limits is None:
            return
        self._limits.note(hop, destination)
        if self.share is not None:
            if destination is not None and self.share.destination.name == destination.name:
                return
            self.share.refund()  # it was kept for another table: the MX hosts have changed
            self.share = None
        if destination is not None and destination.is_limited:
            self.share = self._limits.take(destination, time.time())
            if self.share is None:
                raise NoRoom(destination)

    def end(self) -> None:
        """Give back what the transaction has had; once is enough."""
        if self.share is not None:
            self.share.end()
            self.share = None


ADMITTED = Admission()  # where no table limits anything


@dataclass(slots=True)
class Kept:
    """Shares that were taken before the deliveries were leased, by the keys of their next hops."""

    _by_hop: dict[str, list[Share]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._by_hop)

    def add(self, hop: str, share: Share) -> None:
        self._by_hop.setdefault(hop, []).append(share)

    def one_for(self, hop: str) -> Share | None:
        """One of the shares for a next hop; None where there is none left."""
        shares = self._by_hop.get(hop)
        return shares.pop() if shares else None

    def refund(self) -> None:
        """Give back those that nobody needs."""
        for shares in self._by_hop.values():
            while shares:
                shares.pop().refund()
        self._by_hop.clear()
