"""The envelope sender of each delivery: looks up what the decision in `rewrite.sender` depends on.

That is whether SPF would pass for the sender from our addresses, on routes with `srs = "when-needed"`, and the token of
a sender that has to be stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from relay.authenticate import spf
from relay.config.destinations import Leaving
from relay.config.model import Config
from relay.config.sections import SrsMode
from relay.dns import DnsFailure, Resolver
from relay.mail.address import domain_of
from relay.queue.hop_keys import is_doubtful_hop
from relay.queue.store import Delivery, StoredMessage
from relay.rewrite.our_addresses import OurAddresses
from relay.rewrite.sender import Decision, leaving_sender
from relay.srs.address import Scheme, forward_token


class TokenStore(Protocol):
    """Stores senders under tokens (`queue.store`)."""

    async def token_for(self, sender: str, now: float, lifetime: float) -> str:
        """The token of a sender; it is good for `lifetime` seconds from now.

        Raises:
            QueueUnavailable
        """
        ...


class Senders:
    """Decides on the envelope senders of one worker.

    Args:
        clock: seconds since 1970.
    """

    def __init__(
        self,
        config: Config,
        scheme: Scheme,
        store: TokenStore,
        resolver: Resolver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._scheme = scheme
        self._store = store
        self._resolver = resolver
        self._clock = clock
        self._our_addresses = OurAddresses(config.destinations.leaving, resolver, clock)

    def mode(self, delivery: Delivery) -> SrsMode:
        """Whether senders are rewritten on the way of a delivery, by the current configuration."""
        return self._config.srs_mode(domain_of(delivery.recipient)) if delivery.srs else False

    async def decide(self, stored: StoredMessage, delivery: Delivery, *, smtputf8: bool) -> Decision:
        """The sender of a delivery to a next hop that offers SMTPUTF8, or does not.

        Raises:
            BadSyntax: as `leaving_sender`.
        """
        mode = self.mode(delivery)
        return leaving_sender(
            stored.sender,
            authorised=stored.verdict.sender_allowed,
            srs_wanted=mode is not False,
            srs_needed=mode != "when-needed" or not await self._may_stay(stored.sender, delivery),
            smtputf8=smtputf8,
            local_domains=self._config.senders.local_domains,
            scheme=self._scheme,
            now=self._clock(),
        )

    async def address(self, decision: Decision) -> str:
        """What goes into MAIL FROM; a sender that needs a token is stored.

        Raises:
            QueueUnavailable
        """
        if decision.token_for is None:
            return decision.address
        now = self._clock()
        lifetime = (self._scheme.max_age + 1) * 86400.0
        token = await self._store.token_for(decision.token_for, now, lifetime)
        return forward_token(token, self._scheme, now)

    async def _may_stay(self, sender: str, delivery: Delivery) -> bool:
        """Whether SPF will pass for a sender at the next hop. A smarthost sends from addresses that we do not know."""
        domain = domain_of(delivery.recipient)
        if not sender or self._config.smarthost(domain):
            return False
        try:
            return await self._passes(sender, await self._leaving(domain, doubtful=is_doubtful_hop(delivery.hop)))
        except DnsFailure:
            return False

    async def _leaving(self, domain: str, *, doubtful: bool) -> Leaving:
        """How mail for a normal domain leaves. Raises DnsFailure."""
        destinations = self._config.destinations
        destination = destinations.of(domain)
        if destination is None and destinations.has_mx and self._config.next_hop(domain) is None:
            destination = destinations.behind(domain, (await self._resolver.query(domain, "MX")).records)
        destination = destinations.for_mail(destination, doubtful=doubtful)
        return destinations.leaving if destination is None else destination.leaving

    async def _passes(self, sender: str, leaving: Leaving) -> bool:
        """Whether SPF passes for a sender from every address that mail leaves from. Raises DnsFailure."""
        ours = await self._our_addresses.all(leaving)
        for ip in ours:
            verdict = await spf.check(
                self._resolver, ip=ip, helo=leaving.helo, sender=sender, receiver=self._config.hostname
            )
            if verdict.result != "pass":
                return False
        return bool(ours)
