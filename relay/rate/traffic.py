"""How much mail is taken within a minute: by client, sender domain, alias and destination (`[limits.rates]`).

A message is counted at RCPT, where a recipient that is too many can be refused alone, and honest clients come again.
Its octets are counted at the end of DATA; where the client has announced its size, they are looked at before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from relay.config.sections import RatesSection
from relay.config.values import PerMinute
from relay.known_clients import KnownClients
from relay.rate.buckets import ClientBuckets, TokenBuckets

What = Literal["messages", "recipients", "octets"]
Kind = Literal["client", "user", "sender_domain", "alias", "destination"]


class Party(NamedTuple):
    """Whose mail it is, or for whom: somebody whose messages are counted together."""

    kind: Kind
    name: str


@dataclass(slots=True)
class Counted:
    """What was counted of one transaction.

    Attributes:
        parties: those for whom the message counts.
    """

    parties: set[Party] = field(default_factory=set)


class UsedUp(NamedTuple):
    """A rate that has no room for more."""

    party: Party
    what: What


class _Bucket(NamedTuple):
    """The buckets for one number. Where more is asked for than a minute allows, a full bucket is enough: one message or
    alias may be larger than that."""

    buckets: TokenBuckets
    a_minute: int

    def has(self, name: str, now: float, tokens: int) -> bool:
        return self.buckets.has(name, now, min(tokens, self.a_minute))

    def take(self, name: str, now: float, tokens: int) -> None:
        """Takes so many tokens, or all that are left."""
        if not self.buckets.take(name, now, min(tokens, self.a_minute)):
            self.buckets.empty(name, now)


class _Buckets(NamedTuple):
    """The buckets of one kind of party; None for a number without limit."""

    messages: _Bucket | None
    recipients: _Bucket | None
    octets: _Bucket | None


class Traffic:
    """The rates of mail. Create it before forking.

    Args:
        known: the clients that do not count with their networks.

    Attributes:
        is_limited: whether there is any such rate.
    """

    def __init__(self, limits: RatesSection, known: KnownClients) -> None:
        def plain(a_minute: int) -> TokenBuckets:
            return TokenBuckets(a_minute, a_minute)

        def of_clients(a_minute: int) -> TokenBuckets:
            return ClientBuckets(a_minute, a_minute, known)

        wanted: Iterable[tuple[Kind, PerMinute | None, Callable[[int], TokenBuckets]]] = (
            ("client", limits.client, of_clients),
            ("user", limits.client, plain),
            ("sender_domain", limits.sender_domain, plain),
            ("alias", limits.alias, plain),
            ("destination", limits.destination, plain),
        )
        self._buckets = {
            kind: _Buckets(*(_Bucket(make(number), number) if number is not None else None for number in limit))
            for kind, limit, make in wanted
            if limit is not None
        }
        self.is_limited = bool(self._buckets)

    def take(self, counted: Counted, recipients: Mapping[Party, int], size: int, now: float) -> UsedUp | None:
        """Count a recipient of a message, and the message with the first one.

        Args:
            counted: of this message before.
            recipients: the parties for whom it counts, each with the number of recipients that it is.
            size: the announced octets of the message; 0 where they are not known.

        Returns:
            The rate that has no room for it; then nothing was counted.
        """
        limited = [(party, number) for party, number in recipients.items() if party.kind in self._buckets]
        for party, number in limited:
            what = self._used_up(party, number, size, now, is_new=party not in counted.parties)
            if what is not None:
                return UsedUp(party, what)
        for party, number in limited:
            buckets = self._buckets[party.kind]
            if buckets.messages is not None and party not in counted.parties:
                buckets.messages.take(party.name, now, 1)
            if buckets.recipients is not None:
                buckets.recipients.take(party.name, now, number)
            counted.parties.add(party)
        return None

    def _used_up(self, party: Party, recipients: int, size: int, now: float, *, is_new: bool) -> What | None:
        """Which number has no room for these recipients, and for the message where it is new to the party."""
        buckets = self._buckets[party.kind]
        if is_new and buckets.messages is not None and not buckets.messages.has(party.name, now, 1):
            return "messages"
        if buckets.recipients is not None and not buckets.recipients.has(party.name, now, recipients):
            return "recipients"
        if is_new and buckets.octets is not None and not buckets.octets.has(party.name, now, max(size, 1)):
            return "octets"
        return None

    def take_octets(self, counted: Counted, octets: int, now: float) -> UsedUp | None:
        """Count the octets of a message that is about to be accepted.

        Those of an alias or a destination were looked at when it was a recipient, and cannot be refused alone any more:
        what is too much for them counts as far as there is room.

        Returns:
            The rate of the client or sender domain that has no room for it; then nothing was counted.
        """
        limited = [
            (party, buckets) for party in counted.parties if (buckets := self._buckets[party.kind].octets) is not None
        ]
        for party, buckets in limited:
            if party.kind not in ("alias", "destination") and not buckets.has(party.name, now, octets):
                return UsedUp(party, "octets")
        for party, buckets in limited:
            buckets.take(party.name, now, octets)
        return None
