"""Bounces and replies to return addresses: which sender or author stands behind one, and who may write to it.

A return address is an SRS or reply address at our domain. Whoever holds one may write to it, so the other rules of
routing do not apply. The person behind it is protected by the hash, the age, and rates: of messages to one person, and
of addresses that a client makes up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from relay.config.sections import SrsSection
from relay.mail.address import domain_of, lookup_key
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.network import client_network
from relay.rate import PersonBuckets, Rates
from relay.srs import reply_address
from relay.srs.address import (
    BadSyntax,
    Expired,
    Forged,
    Scheme,
    SrsError,
    Token,
    is_guessable,
    is_srs,
    read_unverified,
    reverse,
)

TokenLookup = Callable[[str], Awaitable[str | None]]
"""Finds the sender or author that is stored under the id of a token; None where there is none (any more)."""

_STEPS = 2  # SRS1 around an SRS0 of ours, then the sender: no more can be nested at one host


class RouteRequest(NamedTuple):
    """One RCPT to decide.

    Attributes:
        recipient: in normal form.
        sender: the envelope sender, empty for the null sender.
        client: who asks; None for an own message, which may go anywhere and is held up by no rate.
        now: seconds since 1970.
        given: the recipient as the client wrote it, where it is another form.
    """

    recipient: str
    sender: str
    client: Client | None
    now: float
    given: str = ""

    @property
    def stranger(self) -> str:
        """The client as rates count it; empty for own messages and trusted clients, which no rate holds up."""
        return counted_as(self.client)


class Returned(NamedTuple):
    """Who is behind a return address.

    Attributes:
        address: the sender or author.
        hidden: the client has made up too many addresses to be told whether this one is good.
        forged: the address is forged: its mail is not delivered.
    """

    address: str
    hidden: bool = False
    forged: bool = False


def counted_as(client: Client | None) -> str:
    """See `RouteRequest.stranger`."""
    return "" if client is None or client.trusted else client_network(client.ip)


def has_return_syntax(address: str) -> bool:
    """Whether the local part is one of an SRS or reply address, at whatever domain."""
    return is_srs(address) or reply_address.is_reply(address)


class ReturnAddresses:
    """The return addresses at our domain.

    Args:
        srs: the domain, and who may write.
        token_lookup: finds stored senders and authors.
    """

    def __init__(self, srs: SrsSection, scheme: Scheme, rates: Rates, token_lookup: TokenLookup) -> None:
        self._srs = srs
        self._scheme = scheme
        self._token_lookup = token_lookup
        self._rates = rates

    def includes(self, address: str) -> bool:
        """Whether an address is a return address of ours, good or bad."""
        return has_return_syntax(address) and domain_of(address) == self._srs.domain

    async def target(self, address: str, now: float) -> str:
        """The address behind a return address: a sender, another forwarder's SRS0 address, or an author.

        Raises:
            SrsError: malformed, forged or expired; the text says which.
        """
        for _ in range(_STEPS):
            behind = await self._stored(self._step(address, now), address)
            if not self.includes(behind):
                return behind
            address = behind
        raise BadSyntax(f"malformed {_kind(address)} address: it leads back to itself")

    def _step(self, address: str, now: float) -> str | Token:
        return reverse(address, self._scheme, now) if is_srs(address) else reply_address.reverse(address, self._scheme)

    async def _stored(self, behind: str | Token, address: str) -> str:
        person = await self._token_lookup(behind.id) if isinstance(behind, Token) else behind
        if person is None:
            raise Expired(f"expired {_kind(address)} address: who is behind it is no longer stored")
        return person

    async def _claimed(self, address: str, now: float) -> Returned:
        """As `target`, but by what is written there: it takes the same steps, and raises the same errors, whether the
        hashes are right or not, so that nobody learns from it. Hashes too long to be guessed are verified.

        Raises:
            SrsError: malformed or expired; forged, where guessing could not find that out.
        """
        guessable = forged = False
        for _ in range(_STEPS):
            if is_srs(address):
                guessable = guessable or is_guessable(address)
                inner = read_unverified(address, self._scheme, now)
                try:
                    reverse(address, self._scheme, now)
                except Forged:
                    forged = True
            else:
                inner = reply_address.reverse(address, self._scheme)
            behind = await self._stored(inner, address)
            if not self.includes(behind):
                if forged and not guessable:
                    raise Forged(f"forged {_kind(address)} address")
                return Returned(behind, guessable, forged)
            address = behind
        raise BadSyntax(f"malformed {_kind(address)} address: it leads back to itself")

    async def reverse(self, address: str, request: RouteRequest) -> Returned:
        """Who is behind a return address, for one message.

        A client past `srs.forged_rate` learns nothing more about addresses that can be guessed: it may not write to
        them with a sender, its bounces are accepted, and the result says which of them are to a forged address. So a
        forger cannot keep away the bounces that come from the same client.

        Args:
            address: the recipient of the request, or an address that the recipient is an alias of.

        Raises:
            Refused: 550 5.1.1, malformed, forged or expired, and the text says which; 550 5.7.1, the address takes
                bounces only; 450 4.7.1, too many forged addresses from this client.
        """
        guesser = request.stranger
        if address == request.recipient and request.given:
            address = request.given
        try:
            if guesser and not self._rates.forgeries.has(guesser, request.now):
                returned = await self._reverse_for_guesser(address, request)
            else:
                returned = Returned(await self.target(address, request.now))
        except SrsError as error:
            if guesser and isinstance(error, Forged):
                self._rates.forgeries.take(guesser, request.now)
            raise Refused(550, "5.1.1", f"<{request.recipient}>: {error}") from None
        if request.sender and self._srs.accept == "null" and is_srs(address):
            raise Refused(550, "5.7.1", f"<{request.recipient}>: this address takes bounces only (MAIL FROM:<>)")
        return returned

    async def _reverse_for_guesser(self, address: str, request: RouteRequest) -> Returned:
        try:
            returned = await self._claimed(address, request.now)
        except SrsError:
            returned = None
        if returned is None or (returned.hidden and request.sender):
            text = f"<{request.recipient}>: too many forged addresses from {request.stranger}, try later"
            raise Refused(450, "4.7.1", text)
        return returned

    def refuse_over_rate(self, returned: Returned, request: RouteRequest) -> None:
        """Refuse a message to a person who gets too many. Nothing is counted yet.

        Raises:
            Refused: 450 4.7.1.
        """
        if request.client is not None and not self._has_room(returned, request.sender, request.stranger, request.now):
            text = f"<{request.recipient}>: too many messages to the address behind it, try later"
            raise Refused(450, "4.7.1", text)

    def _has_room(self, returned: Returned, sender: str, client: str, now: float) -> bool:
        if returned.hidden and not self._rates.hidden.has(client, now):
            return False
        return self._rate(sender).has(lookup_key(returned.address), client, now)

    def count(self, persons: Iterable[Returned], sender: str, client: str, now: float) -> bool:
        """Count a message that is about to be accepted, once for each person that it is for.

        A hidden address counts for the client as well, each address: that bounds guesses, and the dead letters that
        they leave. A forged address counts for the client alone, so that nobody uses up the rate of another. A rate
        that is full sooner for a good address than for a forged one would tell them apart, but only after
        `srs.bounce_rate` messages, which is as many as a client may send in a minute.

        Args:
            client: see `counted_as`.

        Returns:
            False where the rate of a person or of the client is used up; then the message is not counted.
        """
        persons = tuple(persons)
        if not all(self._has_room(person, sender, client, now) for person in persons):
            return False
        if not all(self._rates.hidden.take(client, now) for person in persons if person.hidden):
            return False
        for key in {lookup_key(person.address) for person in persons if not person.forged}:
            self._rate(sender).take(key, client, now)
        return True

    def _rate(self, sender: str) -> PersonBuckets:
        return self._rates.mail if sender else self._rates.bounces


def _kind(address: str) -> str:
    return "SRS" if is_srs(address) else "reply"
