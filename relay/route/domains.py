"""Domain routes: the domains whose mail goes on to a mailbox host, and which users exist there.

A user that does not exist is refused in the session; accepting it would make us send a bounce to whoever was forged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from relay.address import DOMAIN, BadAddress, domain_of, lookup_key, normal_domain, parse, quote, split, split_detail
from relay.config_sections import DomainRoute, Routes
from relay.rate import TokenBuckets
from relay.reply import Refused
from relay.route.callout import Callout, Probe
from relay.route.reload import ReloadedFile


def no_such_user(address: str) -> Refused:
    """The refusal of an unknown user of a domain that we serve: 550 5.1.1 (RFC 3463 section 3.2)."""
    return Refused(550, "5.1.1", f"<{address}>: no such user here")


class DomainTable:
    """The routes of `[routes.domains]`.

    Args:
        recipients: the users of the domains that have a file of them.
        probe, unknown: see `relay.route.callout.Callout`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        routes: Routes,
        recipients: Mapping[str, ReloadedFile[frozenset[str]]],
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

    def route_for(self, domain: str) -> DomainRoute | None:
        """The route of a normal domain."""
        return self._routes.get(domain)

    def lists(self, address: str) -> bool:
        """Whether a recipient file names this very address."""
        recipients = self._recipients.get(domain_of(address))
        return recipients is not None and lookup_key(address) in recipients.value

    async def accepts(self, address: str, stranger: str) -> None:
        """Return where the address, at a domain that has a route, is a user's; in a file, `user+detail` is `user`.

        Args:
            stranger: see `Callout.exists`.

        Raises:
            Refused: 550 5.1.1, there is no such user; 451 4.4.1, the mailbox host cannot be asked now; 450 4.7.1, not
                for this client.
        """
        domain = domain_of(address)
        route = self._routes[domain]
        if domain in self._recipients:
            user = lookup_key(f"{quote(split_detail(split(address).local)[0])}@{domain}")
            known = lookup_key(address), user, f"@{domain}"
            if self._recipients[domain].value.isdisjoint(known):
                raise no_such_user(address)
        elif route.recipients == "callout" and route.next_hop:
            exists = await self._callout.exists(route.next_hop, address, stranger)
            if not exists:
                raise no_such_user(address)


def parse_recipients(text: str, source: str, domain: str) -> frozenset[str]:
    """The users of a domain, as lookup keys, from a file with one address or local part a line; `@domain` is everyone.

    `#` opens a comment line. What follows the first word is not read, so that Postfix's relay_recipient_maps will do,
    and neither are the addresses of other domains, so that one file can serve them all.

    Raises:
        ValueError: a line is neither; the text names file and line.
    """
    users = set[str]()
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if not entry.startswith('"'):
            entry = entry.split()[0]
        if entry.startswith("@") and DOMAIN.match(entry[1:]):
            users.update({f"@{domain}"} if normal_domain(entry[1:]) == domain else ())
            continue
        try:
            mailbox = parse(entry if split(entry).domain else f"{entry}@{domain}")
        except BadAddress as error:
            raise ValueError(f"{source}:{number}: {entry}: {error}") from None
        if normal_domain(mailbox.domain) == domain:
            users.add(lookup_key(str(mailbox)))
    return frozenset(users)
