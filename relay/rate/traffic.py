"""How much mail is taken within a minute: by client, sender domain, alias and destination (`[limits.rates]`).

A recipient for whom there is no room is refused at RCPT, and the client comes again. What a message takes is counted
when it is accepted, so a client that sends nothing uses nothing up. A message, an alias with many targets or sessions
that send at the same moment may take more than there is: that is a debt, and the time to come pays it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from relay.config.sections import RatesSection
from relay.config.values import PerMinute
from relay.known_clients import KnownClients
from relay.rate.buckets import ClientBuckets, TokenBuckets

DEBT = 1.0  # minutes that a party can be in debt at most

What = Literal["messages", "recipients", "octets"]
Kind = Literal["client", "user", "sender_domain", "alias", "destination"]


class Party(NamedTuple):
    """Whose mail it is, or for whom: somebody whose messages are counted together."""

    kind: Kind
    name: str


class UsedUp(NamedTuple):
    """A rate that has no room for more."""

    party: Party
    what: What


class Counted:
    """The recipients of one message that were accepted so far.

    Attributes:
        recipients: the parties of each.
        total: all parties, with the number of recipients that the message has for each.
    """

    __slots__ = ("recipients", "total")

    def __init__(self) -> None:
        self.recipients: list[Collection[Party]] = []
        self.total = Counter[Party]()

    def add(self, parties: Mapping[Party, int]) -> None:
        """One more recipient, with the number of recipients that it is for each of its parties."""
        self.recipients.append(parties.keys())
        self.total.update(parties)


class Meter(NamedTuple):
    """The buckets of one kind of party; None for a number without limit."""

    messages: TokenBuckets | None
    recipients: TokenBuckets | None
    octets: TokenBuckets | None

    @classmethod
    def of(cls, limit: PerMinute, make: Callable[[int], TokenBuckets]) -> Meter:
        """The buckets for a limit; `make` makes those of a number a minute."""
        return cls(*(make(number) if number is not None else None for number in limit))

    def used_up(self, name: str, recipients: int, now: float) -> What | None:
        """Which number has no room for a message with one recipient more than these; None where all have."""
        if self.messages is not None and not self.messages.has(name, now):
            return "messages"
        if self.recipients is not None and not self.recipients.has(name, now, recipients + 1):
            return "recipients"
        if self.octets is not None and not self.octets.has(name, now):
            return "octets"
        return None

    def charge(self, name: str, recipients: int, octets: int, now: float) -> None:
        """Count a message."""
        for tokens, bucket in zip((1, recipients, octets), self, strict=True):
            if bucket is not None:
                bucket.charge(name, now, tokens)


def plain_buckets(a_minute: int) -> TokenBuckets:
    """Buckets for names that are no clients. Create them before forking."""
    return TokenBuckets(a_minute, a_minute, debt=DEBT)


class Traffic:
    """The rates of mail. Create it before forking.

    Args:
        known: the clients that do not count with their networks.

    Attributes:
        is_limited: whether there is any such rate.
    """

    def __init__(self, limits: RatesSection, known: KnownClients) -> None:
        def of_clients(a_minute: int) -> TokenBuckets:
            return ClientBuckets(a_minute, a_minute, known, debt=DEBT)

        wanted: Iterable[tuple[Kind, PerMinute | None, Callable[[int], TokenBuckets]]] = (
            ("client", limits.client, of_clients),
            ("user", limits.client, plain_buckets),
            ("sender_domain", limits.sender_domain, plain_buckets),
            ("alias", limits.alias, plain_buckets),
            ("destination", limits.destination, plain_buckets),
        )
        self._meters = {kind: Meter.of(limit, make) for kind, limit, make in wanted if limit is not None}
        self.is_limited = bool(self._meters)

    def accept(self, counted: Counted, parties: Mapping[Party, int], now: float) -> UsedUp | None:
        """Accept one more recipient of a message, if all its parties have room.

        Args:
            parties: for whom it counts, each with the number of recipients that it is.

        Returns:
            The rate that has no room; then it is not one of the recipients.
        """
        for party in parties:
            if (what := self._used_up(party, counted.total[party], now)) is not None:
                return UsedUp(party, what)
        counted.add(parties)
        return None

    def take(self, counted: Counted, octets: int, now: float) -> UsedUp | None:
        """Count a message that is about to be accepted.

        It was looked at before, but other sessions may have used a rate up meanwhile. It is refused where that is so
        for each of its recipients: none of them could be refused alone any more.

        Returns:
            A rate that has no room; then nothing was counted.
        """
        late = [self._first_used_up(parties, now) for parties in counted.recipients]
        if late and all(late):
            return late[0]
        for party, recipients in counted.total.items():
            if party.kind in self._meters:
                self._meters[party.kind].charge(party.name, recipients, octets, now)
        return None

    def _first_used_up(self, parties: Iterable[Party], now: float) -> UsedUp | None:
        for party in parties:
            if (what := self._used_up(party, 0, now)) is not None:
                return UsedUp(party, what)
        return None

    def _used_up(self, party: Party, recipients: int, now: float) -> What | None:
        """Which number of a party has no room for a message with one recipient more than these."""
        meter = self._meters.get(party.kind)
        return None if meter is None else meter.used_up(party.name, recipients, now)
