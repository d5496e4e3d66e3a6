"""Domain routes: the domains whose mail goes on to a mailbox host, and which users exist there.

An unknown user is refused in the session; otherwise we would have to send a bounce, perhaps to a forged sender.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relay.config.sections import DomainRouteSection, RoutesSection
from relay.mail.address import domain_of, is_domain, lookup_key, normal_domain, parse, quote, split, split_detail
from relay.mail.reply import Refused
from relay.rate import TokenBuckets
from relay.route.callout import Callout, Probe
from relay.table_files.bad_lines import NONE, BadLine, BadLines, TryLater, is_utf8, readable_domain, shown
from relay.table_files.reloaded_file import ReloadedFile

_FIRST_WORD = re.compile(r'(?:"(?:\\.|[^"\\])*")?\S*')  # of a line; a quoted string belongs to it


class NoSuchUser(Refused):
    """The refusal of an unknown user of a domain that we serve: 550 5.1.1 (RFC 3463 section 3.2)."""

    def __init__(self, address: str) -> None:
        super().__init__(550, "5.1.1", f"<{address}>: no such user here")


@dataclass(frozen=True, slots=True)
class DomainUsers:
    """The users of one domain.

    Attributes:
        users: as lookup keys; `@domain` is everyone.
        bad: the lines that cannot be read.
    """

    users: frozenset[str]
    bad: BadLines = NONE


class DomainTable:
    """The routes of `[routes.domains]`.

    Args:
        recipients: the users of the domains that have a file of them.
        probe, unknown: see `relay.route.callout.Callout`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        routes: RoutesSection,
        recipients: Mapping[str, ReloadedFile[DomainUsers]],
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

    def lists(self, address: str) -> bool:
        """Whether a recipient file names this address itself."""
        recipients = self._recipients.get(domain_of(address))
        return recipients is not None and lookup_key(address) in recipients.value.users

    async def accepts(self, address: str, stranger: str) -> None:
        """Check that an address, at a domain with a route, is one of a user; in a file, `user+detail` is `user`.

        Args:
            stranger: see `Callout.exists`.

        Raises:
            NoSuchUser: there is no such user.
            Refused: as `Callout.exists`; 451 4.3.5, an unreadable line of the file may be for this user.
        """
        domain = domain_of(address)
        route = self._routes[domain]
        if domain in self._recipients:
            user = lookup_key(f"{quote(split_detail(split(address).local)[0])}@{domain}")
            known = lookup_key(address), user, f"@{domain}"
            listed = self._recipients[domain].value
            if listed.users.isdisjoint(known):
                raise TryLater(address) if listed.bad.hide(domain) else NoSuchUser(address)
        elif route.recipients == "callout" and route.next_hop:
            exists = await self._callout.exists(route.next_hop, address, stranger)
            if not exists:
                raise NoSuchUser(address)


def parse_recipients(text: str, source: str, domain: str) -> DomainUsers:
    """The users of a domain, from a file with one address or local part a line; `@domain` is everyone.

    `#` opens a comment line. Only the first word of a line is read, so that a file of Postfix's relay_recipient_maps
    can be used. Addresses of other domains are ignored, so that several domains can share a file. Any other line is in
    `DomainUsers.bad`, and the log names it.

    Raises:
        ValueError: not one line can be read; the text names the first.
    """
    users, bad, count = set[str](), list[BadLine](), 0
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        first_word = _FIRST_WORD.match(entry)
        assert first_word is not None  # it matches any text
        entry = first_word[0]
        count += 1
        try:
            user = _user(entry, domain)
        except ValueError as error:
            if readable_domain(entry) in ("", domain):
                effect = f"unknown users of {domain} hear 451 4.3.5"
                bad.append(BadLine(f"{source}:{number}", f"{shown(entry)}: {error}", effect))
            continue
        if user:
            users.add(user)
    if bad and len(bad) == count:
        raise ValueError(f"{bad[0].where}: {bad[0].problem}")
    lines = BadLines(tuple(bad), frozenset([domain] if bad else []))
    lines.report(source)
    return DomainUsers(frozenset(users), lines)


def _user(entry: str, domain: str) -> str:
    """The lookup key of an entry, `@domain` for every user; empty where it is for another domain.

    Raises:
        ValueError: it cannot be read.
    """
    if not is_utf8(entry):
        raise ValueError("not UTF-8")
    if entry.startswith("@") and is_domain(entry[1:]):
        return f"@{domain}" if normal_domain(entry[1:]) == domain else ""
    mailbox = parse(entry if split(entry).domain else f"{entry}@{domain}")
    return lookup_key(str(mailbox)) if normal_domain(mailbox.domain) == domain else ""
