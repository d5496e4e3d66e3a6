"""Failed logins: counted by client, network and user over all processes of a host, so that nobody can try passwords.

A count holds for ten minutes from its first failure. Once it is used up no login is checked until they have passed, the
right password neither. Every failure also makes the client wait, longer each time, and the connections of one client
wait one after another. The counts are in memory mapped before the workers are forked, as those of `relay.rate`.
"""

from __future__ import annotations

import ipaddress
import mmap
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from hashlib import blake2b

from relay.network import client_network, wider_networks

WINDOW = 600  # seconds
OF_CLIENT = 10  # failures of one IPv4 address, or one /64 of IPv6
OF_NETWORK = 40  # of an IPv4 /24 or an IPv6 /56; a /48 may have four times as many, a /32 sixteen times
OF_USER = 40
DELAY_STEP = 0.5  # seconds that each failure of a client costs more than the one before
LONGEST_DELAY = 3.0  # seconds that one failure costs

_IPV4_NETWORK = 24  # bits: the smallest network that registries announce and hosters give away as a whole
_BUCKETS = 1 << 16  # two names that share a bucket by chance count together
_COUNT_BITS = 20


class _Windows:
    """A count for each name, which begins anew `WINDOW` seconds after its first.

    A bucket is one number, so that no process reads half of it: the second in which the window began, then the count.
    """

    def __init__(self) -> None:
        self._buckets = memoryview(mmap.mmap(-1, _BUCKETS * 8)).cast("Q")
        self._salt = secrets.token_bytes(16)  # so that nobody outside can tell which names share a bucket

    def count(self, name: str, now: int) -> int:
        """How often it was counted in the window."""
        began, count = divmod(self._buckets[self.bucket(name)], 1 << _COUNT_BITS)
        return count if 0 <= now - began < WINDOW else 0

    def add(self, name: str, now: int) -> int:
        """Counts once more, and returns the new count."""
        bucket, count = self.bucket(name), self.count(name, now)
        began = self._buckets[bucket] >> _COUNT_BITS if count else now
        count = min(count + 1, (1 << _COUNT_BITS) - 1)
        self._buckets[bucket] = began << _COUNT_BITS | count
        return count

    def bucket(self, name: str) -> int:
        """The number of the name's bucket."""
        digest = blake2b(name.encode(errors="replace"), digest_size=8, key=self._salt).digest()
        return int.from_bytes(digest) % _BUCKETS


class LoginFailures:
    """The failed logins of all processes. Create it before forking.

    Args:
        delay_step: see `DELAY_STEP`.
        clock: seconds of a monotonic clock that all processes share.
    """

    def __init__(self, delay_step: float = DELAY_STEP, clock: Callable[[], float] = time.monotonic) -> None:
        self._clients, self._networks, self._users = _Windows(), _Windows(), _Windows()
        self._held_until = memoryview(mmap.mmap(-1, _BUCKETS * 8)).cast("d")
        self._delay_step = delay_step
        self._clock = clock

    def client_is_over(self, ip: str) -> bool:
        """Whether a client, or a network that it is in, has failed too often."""
        now, client = int(self._clock()), client_network(ip)
        return self._clients.count(client, now) >= OF_CLIENT or any(
            self._networks.count(network, now) >= limit for network, limit in _networks(client)
        )

    def user_is_over(self, user: str) -> bool:
        """Whether logins as a user have failed too often, from whichever clients."""
        return self._users.count(user, int(self._clock())) >= OF_USER

    def add(self, ip: str, users: Collection[str] = ()) -> None:
        """Counts a failed login of a client, and of the user under each name that the user may have been meant by."""
        moment, client = self._clock(), client_network(ip)
        now = int(moment)
        count = self._clients.add(client, now)
        for network, _ in _networks(client):
            self._networks.add(network, now)
        for user in users:
            self._users.add(user, now)
        bucket = self._clients.bucket(client)
        delay = min(count * self._delay_step, LONGEST_DELAY)
        self._held_until[bucket] = max(self._held_until[bucket], moment) + delay

    def held_for(self, ip: str) -> float:
        """Seconds until the next reply to a login of this client is due; 0 where it need not wait.

        At most ten failures of a client count at a time, so it is less than half a minute.
        """
        return max(0.0, self._held_until[self._clients.bucket(client_network(ip))] - self._clock())


def _networks(client: str) -> Iterator[tuple[str, int]]:
    """The networks around a client, with the limit of each."""
    if ":" not in client:
        yield str(ipaddress.ip_network((client, _IPV4_NETWORK), strict=False)), OF_NETWORK
        return
    wider = wider_networks(client)
    for network, times in wider:
        yield network, OF_NETWORK * times // wider[0][1]
