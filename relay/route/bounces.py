"""Bounces and replies on their way home: an SRS or reply address at our domain becomes the sender or author behind it.

Whoever holds such an address may write to it, so the other rules of routing do not apply; what protects the person
behind it is the hash, the age, and rates: of messages to one person, and of addresses that a client makes up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from relay.address import domain_of, lookup_key
from relay.config_sections import Srs
from relay.message import Client
from relay.network import client_network
from relay.rate import Rates
from relay.reply import Refused
from relay.rewrite import replies
from relay.rewrite.srs import BadSyntax, Expired, Forged, Scheme, SrsError, Token, is_srs, reverse

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
        check_sender: raises Refused where the client may not write in the sender's name; awaited before the message
            counts against a rate, which is not for others to use up.
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
        return "" if self.client is None or self.client.trusted else client_network(self.client.ip)


def stands_for_another(address: str) -> bool:
    """Whether the local part is one of SRS or of a reply address, at whatever domain."""
    return is_srs(address) or replies.is_reply(address)


class WayHome:
    """The way back from SRS and reply addresses at our domain.

    Args:
        srs: the domain, and who may write.
        token_lookup: finds stored senders and authors.
    """

    def __init__(self, srs: Srs, scheme: Scheme, rates: Rates, token_lookup: TokenLookup) -> None:
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
            found = self._step(address, now)
            behind = await self._token_lookup(found.id) if isinstance(found, Token) else found
            if behind is None:
                raise Expired(f"expired {_kind(address)} address: who is behind it is no longer stored")
            if not self.leads_home(behind):
                return behind
            address = behind
        raise BadSyntax(f"malformed {_kind(address)} address: it leads back to itself")

    def _step(self, address: str, now: float) -> str | Token:
        return reverse(address, self._scheme, now) if is_srs(address) else replies.reverse(address, self._scheme)

    async def admit(self, address: str, asked: Question) -> str:
        """The target of an address of ours for one message: the recipient that was given, or what it stands for.

        Raises:
            Refused: 550 5.1.1, malformed, forged or expired, and the text says which; 550 5.7.1, it takes bounces only;
                450 4.7.1, too many messages to the address behind it, or too many forged addresses from this client:
                then nothing is looked at, so that the reply cannot tell a good address from the others; and what
                `check_sender` of the question raises.
        """
        shown, guesser = f"<{asked.recipient}>", asked.stranger
        if guesser and not self._rates.forgeries.has(guesser, asked.now):
            raise Refused(450, "4.7.1", f"{shown}: too many forged addresses from {guesser}, try later")
        try:
            target = await self.target(
                asked.given if asked.given and address == asked.recipient else address, asked.now
            )
        except SrsError as error:
            if guesser and isinstance(error, Forged):
                self._rates.forgeries.take(guesser, asked.now)
            raise Refused(550, "5.1.1", f"{shown}: {error}") from None
        if asked.sender and self._srs.accept == "null" and is_srs(address):
            raise Refused(550, "5.7.1", f"{shown}: this address takes bounces only (MAIL FROM:<>)")
        if asked.client is not None:
            await asked.check_sender()
            rate = self._rates.mail if asked.sender else self._rates.bounces
            if not rate.take(lookup_key(target), asked.now):
                raise Refused(450, "4.7.1", f"{shown}: too many messages to the address behind it, try later")
        return target


def _kind(address: str) -> str:
    return "SRS" if is_srs(address) else "reply"
