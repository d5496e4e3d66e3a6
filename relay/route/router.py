"""Who may send to whom, decided at RCPT: what a recipient is to us, and where its mail goes.

The order is the policy: SRS and reply addresses of ours, then postmaster, aliases and domain routes, then
whatever a trusted client asks for, and for everyone else nothing. No step looks at the client before the last, and no
configuration of tables leads past it to other hosts.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from relay.config.model import Config
from relay.dns import DnsFailure
from relay.mail.address import domain_of, lookup_key, split, unquote
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.network import host_port, literal_ip, plain_ip
from relay.rate import Rates
from relay.route.alias_table import AliasLoop, AliasTable
from relay.route.bad_lines import TryLater
from relay.route.callout import Probe
from relay.route.domain_routes import DomainTable, NoSuchUser
from relay.route.srs_reverse import Home, Question, TokenLookup, WayHome, counted_as, stands_for_another
from relay.route.tables import Tables
from relay.srs.address import Scheme, SrsError
from relay.srs.reply_address import is_reply

log = structlog.get_logger()

Kind = Literal["srs", "reply", "postmaster", "alias", "domain", "trusted"]

_MAILER_DAEMON = "mailer-daemon"  # the author of our bounces, to whom people reply
_ROLES = frozenset(("postmaster", "abuse", _MAILER_DAEMON))  # RFC 5321 section 4.5.1, RFC 2142 section 2
_ELSEWHERE = re.compile(r"[@%!]")  # in a local part: "user@host"@ours, user%host@ours, host!user@ours


OwnAddresses = Callable[[], Awaitable[Collection[str]]]
"""The addresses that our host name has; raises DnsFailure."""


async def _no_more() -> Collection[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Target:
    """One delivery that a recipient leads to.

    Attributes:
        address: the recipient at the next hop.
        srs: False where the route says that the next hop trusts us and the sender stays as it is.
    """

    address: str
    srs: bool = True


@dataclass(frozen=True, slots=True)
class Routed:
    """What a recipient is, and where its mail goes.

    Attributes:
        targets: at least one, each address once.
        chain: the aliases that every target was reached through, to be marked (`relay.route.loops`).
        home: who is behind an SRS or reply address of ours; None for other recipients.
    """

    kind: Kind
    targets: tuple[Target, ...]
    chain: tuple[str, ...] = ()
    home: Home | None = None


class Router:
    """Decides by the tables of `[routes]`, as new as their files.

    Args:
        probe: asks a mailbox host about a user, see `relay.route.callout.Probe`.
        token_lookup: finds stored senders, see `relay.route.srs_reverse.TokenLookup`.
        own_addresses: asked for an address literal that is none of the configured addresses.
    """

    def __init__(
        self,
        config: Config,
        scheme: Scheme,
        tables: Tables,
        rates: Rates,
        *,
        probe: Probe,
        token_lookup: TokenLookup,
        own_addresses: OwnAddresses = _no_more,
    ) -> None:
        self._postmaster = config.routes.postmaster
        self._hostname = config.hostname
        self._srs_domain = config.srs.domain
        self._own_domains = config.own_domains
        self._addresses = _configured_addresses(config)
        self._own_addresses = own_addresses
        self._way_home = WayHome(config.srs, scheme, rates, token_lookup)
        self._domains = DomainTable(config.routes, tables.recipients, probe, rates.unknown_users)
        self._aliases = tables.aliases
        self._no_aliases = AliasTable({}, frozenset(), frozenset())

    @property
    def served_domains(self) -> frozenset[str]:
        """The domains that the alias table or a domain route makes ours."""
        return self._table.domains | self._domains.domains

    def is_served(self, domain: str) -> bool:
        """Whether a normal domain is one of `served_domains`: an unknown user there is refused, whoever asks."""
        return domain in self._table.domains or self._domains.route_for(domain) is not None

    async def route(self, asked: Question) -> Routed:
        """Decide about one RCPT: a valid address without source route, or `postmaster` alone.

        Raises:
            Refused: 550 5.1.1 for an unknown user and for an SRS or reply address that is malformed, forged or expired;
                550 5.7.1 where we do not relay for this client; 450 4.7.1, 451 4.3.5, 451 4.4.1, 451 4.4.3, 451 4.4.6
                for now.
        """
        recipient = await self._by_name(asked)
        if self._way_home.leads_home(recipient):
            home = await self._way_home.admit(recipient, asked)  # anyone, or one of our own addresses
            inner = await self._ours(home.address, asked) or Routed("trusted", (Target(home.address),))
            if inner.home is not None:  # another address of ours, behind an alias
                home = replace(home, veiled=home.veiled or inner.home.veiled, forged=home.forged or inner.home.forged)
            return replace(inner, kind="reply" if is_reply(recipient) else "srs", home=home)
        if asked.stranger and _ELSEWHERE.search(unquote(split(recipient).local)) and not self._is_listed(recipient):
            raise Refused(550, "5.7.1", f"<{recipient}>: a local part with @, % or ! is not taken as a route")
        routed = await self._ours(recipient, asked)
        if routed is not None:
            return routed
        if not asked.stranger:
            return Routed("trusted", (Target(recipient),))
        domain = domain_of(recipient)
        if self._answers_for(domain) or (domain in self._table.local_domains and self._table.bad.hide(domain)):
            raise self._unknown(recipient)
        raise Refused(550, "5.7.1", f"<{recipient}>: relaying denied")

    async def _by_name(self, asked: Question) -> str:
        """The recipient; `postmaster` alone, and a role at an address literal of ours, as an address of the host name.

        Raises:
            Refused: 451 4.4.3, what our host name has for addresses cannot be found out now.
        """
        recipient = asked.recipient
        if recipient.lower() == "postmaster":
            return f"{recipient}@{self._hostname}"
        local, domain = split(recipient)
        ip = literal_ip(domain)
        if ip and _role(recipient) and not self._is_listed(recipient) and await self._is_own(ip, asked):
            return f"{local}@{self._hostname}"
        return recipient

    async def _is_own(self, ip: str, asked: Question) -> bool:
        if ip in self._addresses or (asked.client is not None and ip == asked.client.local):
            return True
        try:
            return ip in map(plain_ip, await self._own_addresses())
        except DnsFailure:
            raise Refused(451, "4.4.3", f"<{asked.recipient}>: our own name cannot be looked up, try later") from None

    def count(self, routes: Iterable[Routed], sender: str, client: Client, now: float) -> bool:
        """Count a message with these recipients that is about to be taken; False where a rate is used up, see
        `WayHome.count`."""
        homes = [routed.home for routed in routes if routed.home is not None]
        return not homes or self._way_home.count(homes, sender, counted_as(client), now)

    def leads_home(self, address: str) -> bool:
        """Whether an address is an SRS or reply address of ours, good or bad."""
        return self._way_home.leads_home(address)

    @property
    def _table(self) -> AliasTable:
        return self._no_aliases if self._aliases is None else self._aliases.value

    def _answers_for(self, domain: str) -> bool:
        """Domains that lead here, by a table or by their nature; users of the latter may still live elsewhere."""
        return domain in (self._hostname, self._srs_domain) or self.is_served(domain)

    def _is_listed(self, address: str) -> bool:
        return self._table.lists(address) or self._domains.lists(address)

    def _reader(self, address: str) -> str:
        """Who reads what comes for a role at a domain of ours and is not listed there; empty for any other address, and
        where nobody does."""
        role, domain = _role(address), domain_of(address)
        if not role or self._is_listed(address):
            return ""
        if not self._answers_for(domain) and not (role == _MAILER_DAEMON and domain in self._own_domains):
            return ""
        if self._postmaster or role != _MAILER_DAEMON:
            return self._postmaster
        return next(filter(self._table.matches, (f"postmaster@{domain}", f"postmaster@{self._hostname}")), "")

    async def _ours(self, recipient: str, asked: Question) -> Routed | None:
        """Postmaster, an alias, or a user of a domain route; None where the domain is not served.

        Raises:
            Refused: no such user at a domain that is, or a bad line that may be this user's.
        """
        reader = self._reader(recipient)
        if reader:
            targets, _ = await self._targets(recipient, self._expanded(reader, recipient) or (reader,), asked)
            return Routed("postmaster", targets, (recipient, *self._table.chain(reader)))
        addresses = self._expanded(recipient, recipient)
        if addresses is not None:
            targets, home = await self._targets(recipient, addresses, asked)
            kind: Kind = "alias" if home is None else "reply" if is_reply(recipient) else "srs"
            return Routed(kind, targets, self._table.chain(recipient), home)
        domain = domain_of(recipient)
        if (route := self._domains.route_for(domain)) is not None:
            if route.recipients == "any" and domain in self._table.bad.domains:
                raise TryLater(recipient)  # as the catch-all of the alias table
            try:
                await self._domains.accepts(recipient, asked.stranger)
            except NoSuchUser:
                raise self._unknown(recipient) from None
            return Routed("domain", (self._target(recipient),))
        if domain in self._table.domains or domain in self._table.bad.domains:
            raise self._unknown(recipient)
        return None

    def _unknown(self, recipient: str) -> Refused:
        """The refusal of a user whom nothing knows, unless a line of the alias table that cannot be read may do so."""
        return TryLater(recipient) if self._table.bad.hide(domain_of(recipient)) else NoSuchUser(recipient)

    def _expanded(self, address: str, recipient: str) -> tuple[str, ...] | None:
        """What stands behind an alias; None where it is none.

        Args:
            recipient: what a refusal names.

        Raises:
            TryLater: nothing does, for a bad line.
            Refused: 451 4.4.6, aliases lead to each other.
        """
        try:
            found = self._table.expand(address)
        except AliasLoop as error:
            log.error("alias_loop", alias=address, error=str(error))
            raise Refused(451, "4.4.6", f"<{recipient}>: its alias leads back to itself, try later") from None
        if found == ():
            raise TryLater(recipient)
        return found

    async def _targets(
        self, recipient: str, addresses: Iterable[str], asked: Question
    ) -> tuple[tuple[Target, ...], Home | None]:
        """The deliveries for the addresses behind a recipient. One that cannot exist does not keep the others back.
        Who is behind an address of ours that came with the recipient is told, too.

        Raises:
            NoSuchUser, TryLater: none of them exists, or can be known to; the text names the recipient, never what
                stands behind it.
            Refused: as `_finals`.
        """
        found: dict[str, Target] = {}
        refusal: Refused = NoSuchUser(recipient)
        home: Home | None = None
        for address in addresses:
            try:
                finals, admitted = await self._finals(address, asked)
                home = home or admitted
            except TryLater:
                refusal, finals = TryLater(recipient), ()
                log.warning("alias_target_bad", alias=recipient, target=address)
            for final in finals:
                if self._is_unknown_alias(final):
                    if self._table.bad.hide(domain_of(final)):
                        refusal = TryLater(recipient)
                    log.warning("alias_target_unknown", alias=recipient, target=final)
                else:
                    found.setdefault(lookup_key(final), self._target(final))
        if not found:
            raise TryLater(recipient) if self._table.lacks_targets(recipient) else refusal
        return tuple(found.values()), home

    async def _finals(self, address: str, asked: Question) -> tuple[tuple[str, ...], Home | None]:
        """What an alias may still lead to without being an alias: who is behind an address of ours, our postmaster.
        Who was admitted comes with it.

        Raises:
            Refused: an SRS or reply address that came with the recipient, by `@domain @srs.domain`, has no more right
                than it would have without that detour.
        """
        if self._way_home.leads_home(address):
            home = None
            if stands_for_another(asked.recipient):
                home = await self._way_home.admit(address, asked)
                behind = home.address
            else:
                try:
                    behind = await self._way_home.target(address, asked.now)
                except SrsError as error:
                    log.warning("alias_target_unknown", target=address, error=str(error))
                    return (), None
            return self._expanded(behind, behind) or (behind,), home
        if reader := self._reader(address):
            return self._expanded(reader, reader) or (reader,), None
        return (address,), None

    def _is_unknown_alias(self, address: str) -> bool:
        domain = domain_of(address)
        table = self._table
        return domain in table.domains and not self._domains.route_for(domain) and not table.matches(address)

    def _target(self, address: str) -> Target:
        route = self._domains.route_for(domain_of(address))
        return Target(address, srs=route is None or route.srs is not False)


def _role(address: str) -> str:
    """The role that an address is for, in lower case; empty for any other."""
    local = unquote(split(address).local).lower()
    return local if local in _ROLES else ""


def _configured_addresses(config: Config) -> frozenset[str]:
    """The addresses of ours that the configuration names: of listeners, and those that mail leaves from."""
    listeners = (host_port(listener.address)[0] for listener in config.listen)
    sources = (config.delivery.source_ipv4, config.delivery.source_ipv6)
    found = {*map(plain_ip, listeners), *(str(source) for source in sources if source is not None)}
    return frozenset(str(ip) for ip in map(ipaddress.ip_address, found) if not ip.is_unspecified)
