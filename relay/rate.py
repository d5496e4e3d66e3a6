"""How often somebody may do something: token buckets, one for each name that is met, shared by all processes of a host.

A burst is let through at once and a steady rate for ever, so that an honest peak is only slowed down, while what never
stops is held to the rate. A bucket is one number, the time at which it is full again (GCRA, ITU-T I.371), in memory
mapped before the workers are forked. There are no locks: that two of them now and then take the same token is harmless.
"""

from __future__ import annotations

import mmap
import secrets
from collections.abc import Iterable
from hashlib import blake2b

from relay.config.sections import SrsSection
from relay.known_clients import KnownClients
from relay.network import client_network, wider_networks

CLIENTS = 4  # how much of what one client may send to a person all of them together may
FORGERIES = 20  # from one client at once: a host that returns a wave of forged mail brings some, and is no guesser
UNKNOWN_BURST, UNKNOWN_RATE = 100, 30  # unknown users that a client may ask for at once, and a minute
NOTICES, NOTICES_AN_HOUR = 10, 10  # to one domain without SPF, at once and then

_BUCKETS = 1 << 16  # names share one by chance: then both count together


class TokenBuckets:
    """A bucket for each name: full at first with `burst` tokens, refilled with `per_minute`.

    Make them before forking. Times are in seconds and may jump back, which only delays the refill.
    """

    def __init__(self, per_minute: float, burst: int) -> None:
        self._interval = 60 / per_minute
        self._horizon = burst * self._interval
        self._full_at = memoryview(mmap.mmap(-1, _BUCKETS * 8)).cast("d")
        self._salt = secrets.token_bytes(16)  # nobody outside can know who shares a bucket

    def has(self, name: str, now: float) -> bool:
        """Whether there is a token to take."""
        return all(full_at <= now + self._horizon for _, full_at in self._after(name, now))

    def take(self, name: str, now: float) -> bool:
        """Take a token; False where there is none."""
        after = self._after(name, now)
        if any(full_at > now + self._horizon for _, full_at in after):
            return False
        for bucket, full_at in after:
            self._full_at[bucket] = full_at
        return True

    def _charged(self, name: str) -> Iterable[tuple[str, int]]:
        """The names whose buckets pay for what this one does, and how many times its limit each has."""
        return ((name, 1),)

    def _after(self, name: str, now: float) -> list[tuple[int, float]]:
        """The buckets that pay, and when each would be full again if it had; a microsecond is no matter."""
        buckets = ((self._bucket(charged, now), times) for charged, times in self._charged(name))
        return [(bucket, max(self._full_at[bucket], now) + self._interval / times - 1e-6) for bucket, times in buckets]

    def _bucket(self, name: str, now: float) -> int:
        """The number of the name's bucket, which is empty at worst, also after the clock has jumped back."""
        digest = blake2b(name.encode(), digest_size=8, key=self._salt).digest()
        bucket = int.from_bytes(digest) % _BUCKETS
        self._full_at[bucket] = min(self._full_at[bucket], now + self._horizon)
        return bucket


class ClientBuckets(TokenBuckets):
    """Buckets for what clients try. The name is the client's address, or its network as `network.client_network` tells.

    An IPv6 client that had no mail accepted within a day draws on its /56, /48 and /32 as well.
    """

    def __init__(self, per_minute: float, burst: int, known: KnownClients) -> None:
        super().__init__(per_minute, burst)
        self._known = known

    def _charged(self, name: str) -> Iterable[tuple[str, int]]:
        client = client_network(name)
        wider = wider_networks(client)
        return ((client, 1),) if not wider or self._known.knows(client) else ((client, 1), *wider)


class PersonBuckets:
    """Buckets for messages to one person: one for each client that brings some, and one for all of them together.

    No client can use up what the others have, unless `CLIENTS` of them try. Make them before forking.
    """

    def __init__(self, per_minute: int) -> None:
        self._by_client = TokenBuckets(per_minute, per_minute)
        self._in_all = TokenBuckets(CLIENTS * per_minute, CLIENTS * per_minute)

    def has(self, person: str, client: str, now: float) -> bool:
        """Whether there is a token to take. A client without a name draws on what there is in all."""
        return self._in_all.has(person, now) and (not client or self._by_client.has(f"{client} {person}", now))

    def take(self, person: str, client: str, now: float) -> None:
        """Take one where there is one: of the client, and of all."""
        if self.has(person, client, now):
            self._in_all.take(person, now)
            if client:
                self._by_client.take(f"{client} {person}", now)


class Rates:
    """Every rate there is.

    Args:
        known: the clients that do not count with their neighbours; outlives a reload.

    Attributes:
        mail, bounces: messages to one sender or author behind addresses of ours, from other senders and from the null
            sender.
        forgeries: SRS and reply addresses that a client makes up.
        veiled: bounces that are taken from a client past that, the good and the forged ones alike.
        unknown_users: that a client has the mailbox host asked for.
        notices: to the senders of a domain that publishes no SPF.
    """

    def __init__(self, srs: SrsSection, known: KnownClients | None = None) -> None:
        self.known = known or KnownClients()
        self.mail = PersonBuckets(srs.reverse_rate)
        self.bounces = PersonBuckets(srs.bounce_rate)
        self.forgeries = ClientBuckets(srs.forged_rate, FORGERIES, self.known)
        self.veiled = ClientBuckets(srs.bounce_rate, srs.bounce_rate, self.known)
        self.unknown_users = ClientBuckets(UNKNOWN_RATE, UNKNOWN_BURST, self.known)
        self.notices = TokenBuckets(NOTICES_AN_HOUR / 60, NOTICES)
