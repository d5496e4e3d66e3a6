"""Rate limits: token buckets by name (a client, a sender, a domain), shared by all processes of a host.

A bucket allows a burst at once and a steady rate after it, so that a short peak passes and lasting traffic is held to
the rate. A bucket is one number, the time at which it is full again (GCRA, ITU-T I.371), in memory mapped before the
workers are forked. There are no locks: it is harmless if two workers take the same token now and then.
"""

from __future__ import annotations

import mmap
import secrets
from collections.abc import Iterable
from hashlib import blake2b

from relay.known_clients import KnownClients
from relay.network import client_network, wider_networks

CLIENTS = 4  # the limit of all clients together for mail to one person, in limits of one client

_BUCKETS = 1 << 16  # two names that share a bucket by chance count together


class TokenBuckets:
    """A bucket for each name, which starts with `burst` tokens and is refilled with `per_minute`.

    Create it before forking. Times are in seconds and may jump back, which only delays the refill.

    Args:
        debt: how far a bucket may be in debt by `charge`, as a multiple of `burst`.
    """

    def __init__(self, per_minute: float, burst: int, *, debt: float = 0.0) -> None:
        self._interval = 60 / per_minute
        self._horizon = burst * self._interval
        self._latest = self._horizon * (1 + debt)  # seconds until a bucket is full again, at most
        self._full_at = memoryview(mmap.mmap(-1, _BUCKETS * 8)).cast("d")
        self._salt = secrets.token_bytes(16)  # so that nobody outside can tell which names share a bucket

    def has(self, name: str, now: float, tokens: int = 1) -> bool:
        """Whether there are so many tokens for this name."""
        return all(full_at <= now + self._horizon for _, full_at in self._after(name, now, tokens))

    def take(self, name: str, now: float) -> bool:
        """Takes a token. Returns False where there is none."""
        after = self._after(name, now)
        if any(full_at > now + self._horizon for _, full_at in after):
            return False
        for bucket, full_at in after:
            self._full_at[bucket] = full_at
        return True

    def _charged(self, name: str) -> Iterable[tuple[str, int]]:
        """The names whose buckets a token is taken from, with the limit of each as a multiple of this one's."""
        return ((name, 1),)

    def charge(self, name: str, now: float, tokens: int) -> None:
        """Takes so many tokens, also where there are fewer: the bucket is in debt then, as far as it may be."""
        for bucket, full_at in self._after(name, now, tokens):
            self._full_at[bucket] = min(full_at, now + self._latest)

    def _after(self, name: str, now: float, tokens: int = 1) -> list[tuple[int, float]]:
        """The buckets to take tokens from, and when each is full again after it, less a microsecond for rounding."""
        pause = tokens * self._interval
        buckets = ((self._bucket(charged, now), times) for charged, times in self._charged(name))
        return [(bucket, max(self._full_at[bucket], now) + pause / times - 1e-6) for bucket, times in buckets]

    def _bucket(self, name: str, now: float) -> int:
        """The number of the name's bucket, which counts as empty where the clock has jumped back."""
        digest = blake2b(name.encode(), digest_size=8, key=self._salt).digest()
        bucket = int.from_bytes(digest) % _BUCKETS
        self._full_at[bucket] = min(self._full_at[bucket], now + self._latest)
        return bucket


class ClientBuckets(TokenBuckets):
    """Buckets for clients. The name is the client's address, or its network as `network.client_network` returns it.

    An IPv6 client without accepted mail within a day also takes tokens from its /56, /48 and /32.
    """

    def __init__(self, per_minute: float, burst: int, known: KnownClients, *, debt: float = 0.0) -> None:
        super().__init__(per_minute, burst, debt=debt)
        self._known = known

    def _charged(self, name: str) -> Iterable[tuple[str, int]]:
        client = client_network(name)
        wider = wider_networks(client)
        return ((client, 1),) if not wider or self._known.knows(client) else ((client, 1), *wider)


class PersonBuckets:
    """Buckets for messages to one person: one for each client that sends them, and one for all clients together.

    It takes `CLIENTS` clients to use up the limit for the others. Create it before forking.
    """

    def __init__(self, per_minute: int) -> None:
        self._by_client = TokenBuckets(per_minute, per_minute)
        self._all_clients = TokenBuckets(CLIENTS * per_minute, CLIENTS * per_minute)

    def has(self, person: str, client: str, now: float) -> bool:
        """Whether there is a token. A client without a name takes from the common bucket only."""
        return self._all_clients.has(person, now) and (not client or self._by_client.has(f"{client} {person}", now))

    def take(self, person: str, client: str, now: float) -> None:
        """Takes a token, where there is one, from the client's bucket and the common one."""
        if self.has(person, client, now):
            self._all_clients.take(person, now)
            if client:
                self._by_client.take(f"{client} {person}", now)
