"""The limits on clients over all worker processes: connections, and the room for messages in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay.known_clients import KnownClients
from relay.mail.reply import Refused
from relay.network import client_network, wider_networks
from relay.receive.min_rate import Transfer, TransferMonitor
from relay.receive.room import RESERVE, SPOOL_FROM, Reservation, Room
from relay.receive.shared_counts import ALL, CONNECTIONS, DISK, MEMORY, NETWORKS, SharedCounts, bucket
from relay.receive.spool import Spool, SpoolFile

NETWORK = 1, 2  # an IPv6 /32 may have one half of the connections from clients that are not known,
NETWORK_IN_ALL = 3, 4  # and three quarters in all

MEMORY_PATIENCE = 60.0  # seconds to wait for memory at the final dot, of the ten minutes of RFC 5321 section 4.5.3.2.6
_LOOK_AGAIN = 0.1  # seconds


class Limits:
    """The limits, and the counts of one worker.

    Args:
        connections: the limit in all, of which strangers may have nine in ten.
        per_client: the limit for one address (for IPv6 its /64), unless it is trusted.
        memory: the limit on the octets of messages between DATA and their reply.
        largest: octets of a message that a stranger may send where `memory` holds no other.
        min_rate: octets a second, see `receive.min_rate`.
        spool: the files in which large messages are kept until their end, in one half of the free space.
        known: the clients that do not count with their networks.
        watch_memory, watch_disk: called with the number of octets that are taken, negative for octets given back.

    Attributes:
        row: the counters of this worker.
        messages: how many messages of this worker are between DATA and their reply.
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
        self.messages = 0
        self.known = known or KnownClients()
        self.memory = Room(counts, worker, MEMORY, lambda: memory, largest, watch_memory)
        self.disk = Room(counts, worker, DISK, self._disk_capacity, 0, watch_disk)
        self.monitor = TransferMonitor(counts, worker, (self.memory, self.disk), min_rate)
        self._spool = spool or Spool(None)
        self._counts = counts
        self.row = counts.row(worker)

    def _disk_capacity(self) -> int:
        """Half of the disk space that is free without the messages in it; the other half is for the queue."""
        return (self._spool.free() + self.total(DISK + ALL)) // 2

    def spool_file(self) -> SpoolFile:
        """A file for the content of one message."""
        return self._spool.file()

    def total(self, counter: int) -> int:
        """The counter over all workers."""
        return self._counts.total(counter)


class Account:
    """The connection, memory and disk space that one client connection takes, for the time of a `with`."""

    def __init__(self, limits: Limits, ip: str, *, trusted: bool) -> None:
        client = client_network(ip)
        self._limits = limits
        self._name = client
        self._client = bucket(client)
        self._networks = [] if trusted else _networks(limits, client)
        self.trusted = trusted
        self.memory = Reservation(limits.memory, self._client, trusted=trusted)
        self.disk = Reservation(limits.disk, self._client, trusted=trusted)

    def __enter__(self) -> Account:
        self._count(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._count(-1)

    def _count(self, connections: int) -> None:
        self._limits.row[CONNECTIONS + ALL] += connections
        self._count_stranger(connections)

    def _count_stranger(self, connections: int) -> None:
        """Counts the connection with those of its client and networks, which have limits for strangers."""
        if not self.trusted:
            self._limits.row[CONNECTIONS + self._client] += connections
        for _, counter, _ in self._networks:
            self._limits.row[counter] += connections

    def trust(self) -> None:
        """From now on the client is a trusted one: it has logged in. No message may be under way."""
        if self.trusted:
            return
        self._count_stranger(-1)
        self.trusted, self._networks = True, []
        self.memory = Reservation(self._limits.memory, self._client, trusted=True)
        self.disk = Reservation(self._limits.disk, self._client, trusted=True)

    @property
    def refusal(self) -> str:
        """Why this connection exceeds a limit; empty where it does not."""
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
        """Records that a message was accepted: for a day this client does not count with its networks."""
        if not self.trusted:
            self._limits.known.add(self._name)

    # the message that is being received

    def begin_message(self) -> None:
        """Counts a message until `end_message`."""
        self._limits.messages += 1

    def end_message(self) -> None:
        """Its reply is known."""
        self._limits.messages -= 1

    def check(self, octets: int) -> None:
        """Checks that there is room for a message of so many octets.

        Raises:
            Refused: 452 4.3.1, there is none now.
        """
        if not self.memory.fits(min(octets, SPOOL_FROM)):
            raise _no_room()
        if octets > SPOOL_FROM and not self.disk.fits(octets) and not self.memory.fits(octets):
            raise _no_room()

    def hold(self, octets: int) -> None:
        """Takes so many more octets of memory.

        Raises:
            Refused: 452 4.3.1, they are not free now; nothing was taken.
        """
        if not self.memory.fits(octets):
            raise _no_room()
        self.memory.take(octets)

    async def wait_to_hold(self, octets: int) -> None:
        """Takes so many more octets of memory as soon as they are free.

        Raises:
            Refused: 452 4.3.1, they were not free within a minute.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + MEMORY_PATIENCE
        while not self.memory.fits(octets) and loop.time() < deadline:  # noqa: ASYNC110 (other processes take it, too)
            await asyncio.sleep(_LOOK_AGAIN)
        self.hold(octets)

    def release(self) -> None:
        """Gives all octets back."""
        self.memory.release()
        self.disk.release()

    def spool_file(self) -> SpoolFile:
        """A file for the content of one message."""
        return self._limits.spool_file()

    def transfer(self, end: Callable[[Exception], None]) -> Transfer:
        """The transfer of a message, see `receive.min_rate`. `end` raises an exception in the session."""
        return Transfer(self._limits.monitor, (self.memory, self.disk), end, trusted=self.trusted)


def _networks(limits: Limits, client: str) -> list[tuple[str, int, int]]:
    """The networks that a client counts in: name, counter and connection limit of each."""
    wider = wider_networks(client)
    if not wider:
        return []
    counted = []
    if not limits.known.knows(client):
        most = _part(limits.connections, NETWORK)
        counted += [
            (name, part + bucket(name), min(most, times * limits.per_client))
            for part, (name, times) in zip(NETWORKS, wider, strict=False)
        ]
    widest = wider[-1][0]
    return [*counted, (widest, NETWORKS[-1] + bucket(widest), _part(limits.connections, NETWORK_IN_ALL))]


def _part(number: int, part: tuple[int, int]) -> int:
    """A fraction of a number, at least one."""
    return max(1, number * part[0] // part[1])


def _no_room() -> Refused:
    return Refused(452, "4.3.1", "Insufficient system resources, try again later")
