"""Domain routes: the domains whose mail goes on to a mailbox host, and which users exist there.

An unknown user is refused in the session; otherwise we would have to send a bounce, perhaps to a forged sender.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from relay.config.sections import DomainRouteSection, RoutesSection
from relay.mail.address import domain_of
from relay.mail.reply import Refused
from relay.rate import TokenBuckets
from relay.route.callout import Callout, Probe
from relay.route.domain_users import Users
from relay.table_files.bad_lines import TryLater


class NoSuchUser(Refused):
    """The refusal of an unknown user of a domain that we serve: 550 5.1.1 (RFC 3463 section 3.2)."""

    def __init__(self, address: str) -> None:
        super().__init__(550, "5.1.1", f"<{address}>: no such user here")


class DomainTable:
    """The routes of `[routes.domains]`.

    Args:
        recipients: the users of the domains that have a table of them.
        probe, unknown: see `relay.route.callout.Callout`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        routes: RoutesSection,
        recipients: Mapping[str, Users],
        probe: Probe,
        unknown: TokenBuckets,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routes = routes.domains
        self._recipients = recipients
        self._callout = Callout(probe, unknown, routes.callout_cache, clock)

    @property
    def domains(self) -> frozenset[str]:
        """Every domain that has a route."""
        return frozenset(self._routes)

    def route_for(self, domain: str) -> DomainRouteSection | None:
        """The route of a normal domain."""
        return self._routes.get(domain)

    async def lists(self, address: str) -> bool:
        """Whether a table of recipients names this address itself. Raises: as `Users.lists`."""
        users = self._recipients.get(domain_of(address))
        return users is not None and await users.lists(address)

    async def accepts(self, address: str, stranger: str) -> None:
        """Check that an address, at a domain with a route, is one of a user.

        Args:
            stranger: see `Callout.exists`.

        Raises:
            NoSuchUser: there is no such user.
            Refused: as `Callout.exists`; 451 4.3.5, an unreadable line of the file may be for this user.
            SourceUnavailable: a table cannot be asked now.
        """
        domain = domain_of(address)
        route = self._routes[domain]
        if (users := self._recipients.get(domain)) is not None:
            if not await users.has(address):
                raise TryLater(address) if users.hides(domain) else NoSuchUser(address)
        elif route.recipients == "callout" and route.next_hop:
            exists = await self._callout.exists(route.next_hop, address, stranger)
            if not exists:
                raise NoSuchUser(address)
