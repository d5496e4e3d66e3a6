"""What clients may take in all, over every worker process: connections, and the room for messages in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay.known_clients import KnownClients
from relay.mail.reply import Refused
from relay.network import client_network, wider_networks
from relay.receive.memory import RESERVE, SPOOL_FROM, Room, Share
from relay.receive.min_rate import Paces, Transfer
from relay.receive.shared_counts import ALL, CONNECTIONS, DISK, MEMORY, NETWORKS, SharedCounts, bucket
from relay.receive.spool import Spool, SpoolFile

NETWORK = 1, 2  # one half of the connections is the most that an IPv6 /32 may have from clients that are not known,
NETWORK_IN_ALL = 3, 4  # and three quarters with those that are

MEMORY_PATIENCE = 60.0  # seconds to wait for memory at the final dot, of the ten minutes of RFC 5321 section 4.5.3.2.6
_LOOK_AGAIN = 0.1  # seconds


class Limits:
    """The bounds, and the counts of one worker against them.

    Args:
        connections: at most so many in all, nine in ten of them from clients that are not trusted.
        per_client: at most so many from one address (an IPv6 client is its /64), unless it is trusted.
        memory: at most so many octets of messages between DATA and their reply.
        largest: octets of a message that strangers may send, as long as `memory` has no other.
        min_rate: octets a second, see `receive.pace`.
        spool: where large messages wait for their end, in one half of what is free there.
        known: the clients that do not count with their neighbours.
        watch_memory, watch_disk: are told of every octet that is taken, and with a minus given back.
    """

    def __init__(
        self,
        counts: SharedCounts,
        worker: int,
        *,
        connections: int,
        per_client: int,
        memory: int,
        largest: int = 0,
        min_rate: int = 1024,
        spool: Spool | None = None,
        known: KnownClients | None = None,
        watch_memory: Callable[[int], object] = lambda octets: None,
        watch_disk: Callable[[int], object] = lambda octets: None,
    ) -> None:
        self.connections = connections
        self.per_client = per_client
        self.known = known or KnownClients()
        self.memory = Room(counts, worker, MEMORY, lambda: memory, largest, watch_memory)
        self.disk = Room(counts, worker, DISK, self._disk_capacity, 0, watch_disk)
        self.paces = Paces(counts, worker, (self.memory, self.disk), min_rate)
        self._spool = spool or Spool(None)
        self._counts = counts
        self._worker = worker

    def _disk_capacity(self) -> int:
        """Half of what is free without the messages that wait there: the other half is the queue's."""
        return (self._spool.free() + self.total(DISK + ALL)) // 2

    def spool_file(self) -> SpoolFile:
        return self._spool.file()

    def count(self, counter: int, amount: int) -> None:
        self._counts.add(self._worker, counter, amount)

    def total(self, counter: int) -> int:
        return self._counts.total(counter)


class Account:
    """What one connection takes. It counts from `with` on; at its end everything is given back."""

    def __init__(self, limits: Limits, ip: str, *, trusted: bool) -> None:
        client = client_network(ip)
        self._limits = limits
        self._name = client
        self._client = bucket(client)
        self._networks = [] if trusted else _networks(limits, client)
        self.trusted = trusted
        self.memory = Share(limits.memory, self._client, trusted=trusted)
        self.disk = Share(limits.disk, self._client, trusted=trusted)

    def __enter__(self) -> Account:
        self._count(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._count(-1)

    def _count(self, connections: int) -> None:
        for one in (ALL, self._client):
            self._limits.count(CONNECTIONS + one, connections)
        for _, counter, _ in self._networks:
            self._limits.count(counter, connections)

    @property
    def refusal(self) -> str:
        """Why this connection is one too many; empty where it may stay."""
        limits = self._limits
        most = limits.connections
        if not self.trusted:
            if limits.total(CONNECTIONS + self._client) > limits.per_client:
                return "too many connections from your address"
            for network, counter, allowed in self._networks:
                if limits.total(counter) > allowed:
                    return f"too many connections from your network {network}"
            most -= most // RESERVE
        return "too many connections" if limits.total(CONNECTIONS + ALL) > most else ""

    def accepted(self) -> None:
        """A message of this client was taken: for a day it does not count with its neighbours."""
        if not self.trusted:
            self._limits.known.add(self._name)

    # the message in flight

    def check(self, octets: int) -> None:
        """Whether a message of so many octets may come.

        Raises:
            Refused: 452 4.3.1, there is no room for it now.
        """
        if not self.memory.fits(min(octets, SPOOL_FROM)):
            raise _no_room()
        if octets > SPOOL_FROM and not self.disk.fits(octets) and not self.memory.fits(octets):
            raise _no_room()

    def hold(self, octets: int) -> None:
        """Take so many octets of memory more.

        Raises:
            Refused: 452 4.3.1, there is no room for them now; nothing was taken.
        """
        if not self.memory.fits(octets):
            raise _no_room()
        self.memory.take(octets)

    async def wait_to_hold(self, octets: int) -> None:
        """Take so many octets of memory more, as soon as they are there.

        Raises:
            Refused: 452 4.3.1, they were not within a minute.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + MEMORY_PATIENCE
        while not self.memory.fits(octets) and loop.time() < deadline:  # noqa: ASYNC110 (other processes hold it, too)
            await asyncio.sleep(_LOOK_AGAIN)
        self.hold(octets)

    def release(self) -> None:
        """Give all octets back."""
        self.memory.release()
        self.disk.release()

    def spool_file(self) -> SpoolFile:
        return self._limits.spool_file()

    def transfer(self, end: Callable[[Exception], None]) -> Transfer:
        """A message that is being sent; see `receive.pace`."""
        return Transfer(self._limits.paces, (self.memory, self.disk), end, trusted=self.trusted)


def _networks(limits: Limits, client: str) -> list[tuple[str, int, int]]:
    """The networks that a client counts in: their names, counters, and the most connections of each."""
    wider = wider_networks(client)
    if not wider:
        return []
    found = []
    if not limits.known.knows(client):
        most = _part(limits.connections, NETWORK)
        found += [
            (name, part + bucket(name), min(most, times * limits.per_client))
            for part, (name, times) in zip(NETWORKS, wider, strict=False)
        ]
    widest = wider[-1][0]
    return [*found, (widest, NETWORKS[-1] + bucket(widest), _part(limits.connections, NETWORK_IN_ALL))]


def _part(number: int, part: tuple[int, int]) -> int:
    """A part of a number, one at least."""
    return max(1, number * part[0] // part[1])


def _no_room() -> Refused:
    return Refused(452, "4.3.1", "Insufficient system resources, try again later")
