"""Bounces and replies on their way home: an SRS or reply address at our domain becomes the sender or author behind it.

Whoever holds such an address may write to it, so the other rules of routing do not apply; what protects the person
behind it is the hash, the age, and rates: of messages to one person, and of addresses that a client makes up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from relay.config.sections import SrsSection
from relay.mail.address import domain_of, lookup_key
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.network import client_network
from relay.rate import PersonBuckets, Rates
from relay.srs import reply_address as replies
from relay.srs.address import (
    BadSyntax,
    Expired,
    Forged,
    Scheme,
    SrsError,
    Token,
    claimed,
    is_guessable,
    is_srs,
    reverse,
)

TokenLookup = Callable[[str], Awaitable[str | None]]
"""The sender or author stored under the id of a token; None where there is none (any more)."""

_STEPS = 2  # SRS1 over an SRS0 that was ours, then the sender: no more can lie inside each other at one host


async def _nothing() -> None: ...


@dataclass(frozen=True, slots=True)
class Question:
    """One RCPT as it is decided.

    Attributes:
        recipient: in normal form.
        sender: the envelope sender, empty for the null sender.
        client: who asks; None for mail of our own, which may go anywhere and is held up by no rate.
        now: seconds since 1970.
        check_sender: raises Refused where the client may not write in the sender's name; awaited before a rate is
            looked at, so that nobody learns from it.
        given: the recipient as the client wrote it, where it is another form.
    """

    recipient: str
    sender: str
    client: Client | None
    now: float
    check_sender: Callable[[], Awaitable[None]] = field(default=_nothing)
    given: str = ""

    @property
    def stranger(self) -> str:
        """The client as rates count it; empty for mail of our own and of trusted clients, whom they leave alone."""
        return counted_as(self.client)


@dataclass(frozen=True, slots=True)
class Home:
    """Who is behind an SRS or reply address of ours that was admitted.

    Attributes:
        address: the sender or author.
        veiled: the client has made up too many addresses to be told whether this one is good.
        forged: it is not: its mail goes nowhere.
    """

    address: str
    veiled: bool = False
    forged: bool = False


def counted_as(client: Client | None) -> str:
    """See `Question.stranger`."""
    return "" if client is None or client.trusted else client_network(client.ip)


def stands_for_another(address: str) -> bool:
    """Whether the local part is one of SRS or of a reply address, at whatever domain."""
    return is_srs(address) or replies.is_reply(address)


class WayHome:
    """The way back from SRS and reply addresses at our domain.

    Args:
        srs: the domain, and who may write.
        token_lookup: finds stored senders and authors.
    """

    def __init__(self, srs: SrsSection, scheme: Scheme, rates: Rates, token_lookup: TokenLookup) -> None:
        self._srs = srs
        self._scheme = scheme
        self._token_lookup = token_lookup
        self._rates = rates

    def leads_home(self, address: str) -> bool:
        """Whether an address is an SRS or reply address at our domain, good or bad."""
        return stands_for_another(address) and domain_of(address) == self._srs.domain

    async def target(self, address: str, now: float) -> str:
        """The address behind one of ours: a sender, another forwarder's SRS0 address, or an author.

        Raises:
            SrsError: malformed, forged or expired; the text says which.
        """
        for _ in range(_STEPS):
            behind = await self._stored(self._step(address, now), address)
            if not self.leads_home(behind):
                return behind
            address = behind
        raise BadSyntax(f"malformed {_kind(address)} address: it leads back to itself")

    def _step(self, address: str, now: float) -> str | Token:
        return reverse(address, self._scheme, now) if is_srs(address) else replies.reverse(address, self._scheme)

    async def _stored(self, found: str | Token, address: str) -> str:
        behind = await self._token_lookup(found.id) if isinstance(found, Token) else found
        if behind is None:
            raise Expired(f"expired {_kind(address)} address: who is behind it is no longer stored")
        return behind

    async def _claimed(self, address: str, now: float) -> Home:
        """The same by what is written: the way is the same whether hashes are right or not, also in what it raises,
        unless all of them are too long to be guessed. Then the address is judged as it is, and never forged.

        Raises:
            SrsError: malformed or expired; forged, where that cannot be found out by guessing.
        """
        guessable = forged = False
        for _ in range(_STEPS):
            if is_srs(address):
                guessable = guessable or is_guessable(address)
                found = claimed(address, self._scheme, now)
                try:
                    reverse(address, self._scheme, now)
                except Forged:
                    forged = True
            else:
                found = replies.reverse(address, self._scheme)
            behind = await self._stored(found, address)
            if not self.leads_home(behind):
                if forged and not guessable:
                    raise Forged(f"forged {_kind(address)} address")
                return Home(behind, guessable, forged)
            address = behind
        raise BadSyntax(f"malformed {_kind(address)} address: it leads back to itself")

    async def admit(self, address: str, asked: Question) -> Home:
        """The target of an address of ours for one message: the recipient that was given, or what it stands for.

        A client past `srs.forged_rate` learns nothing more about addresses that can be guessed: those of other senders
        than the null sender are refused, bounces are taken, and forged ones among them are marked in what is returned.
        So a forger cannot keep away the bounces that come from the same address.

        Raises:
            Refused: 550 5.1.1, malformed, forged or expired, and the text says which; 550 5.7.1, it takes bounces only;
                450 4.7.1, too many messages to the address behind it, or too many forged addresses from this client;
                and what `check_sender` of the question raises.
        """
        shown, guesser = f"<{asked.recipient}>", asked.stranger
        if address == asked.recipient and asked.given:
            address = asked.given
        try:
            if guesser and not self._rates.forgeries.has(guesser, asked.now):
                home = await self._admit_guesser(address, asked)
            else:
                home = Home(await self.target(address, asked.now))
        except SrsError as error:
            if guesser and isinstance(error, Forged):
                self._rates.forgeries.take(guesser, asked.now)
            raise Refused(550, "5.1.1", f"{shown}: {error}") from None
        if asked.sender and self._srs.accept == "null" and is_srs(address):
            raise Refused(550, "5.7.1", f"{shown}: this address takes bounces only (MAIL FROM:<>)")
        if asked.client is not None:
            await asked.check_sender()
            if not self._has_room(home, asked.sender, guesser, asked.now):
                raise Refused(450, "4.7.1", f"{shown}: too many messages to the address behind it, try later")
        return home

    async def _admit_guesser(self, address: str, asked: Question) -> Home:
        try:
            home = await self._claimed(address, asked.now)
        except SrsError:
            home = None
        if home is None or (home.veiled and asked.sender):
            text = f"<{asked.recipient}>: too many forged addresses from {asked.stranger}, try later"
            raise Refused(450, "4.7.1", text)
        return home

    def _has_room(self, home: Home, sender: str, client: str, now: float) -> bool:
        if home.veiled and not self._rates.veiled.has(client, now):
            return False
        return self._rate(sender).has(lookup_key(home.address), client, now)

    def count(self, homes: Iterable[Home], sender: str, client: str, now: float) -> bool:
        """Count a message that is about to be taken, once for each person that it is for; False where the rate of one
        of them is used up, and then it counts for none of them.

        What is veiled counts for the client as well, each address: that bounds guesses, and the dead letters that they
        leave. What is forged counts for the client alone, since nobody's rate is for others to use up. A rate that is
        full sooner for a good address than for a forged one would tell them apart, but only after `srs.bounce_rate`
        messages, which is as many as a client may send in a minute.

        Args:
            client: see `counted_as`.
        """
        homes = tuple(homes)
        if not all(self._has_room(home, sender, client, now) for home in homes):
            return False
        if not all(self._rates.veiled.take(client, now) for home in homes if home.veiled):
            return False
        for person in {lookup_key(home.address) for home in homes if not home.forged}:
            self._rate(sender).take(person, client, now)
        return True

    def _rate(self, sender: str) -> PersonBuckets:
        return self._rates.mail if sender else self._rates.bounces


def _kind(address: str) -> str:
    return "SRS" if is_srs(address) else "reply"
