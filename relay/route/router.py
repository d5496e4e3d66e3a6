"""Decides about each RCPT: what the recipient is to us, where its mail goes, and whether the client may send there.

The order is the policy: return addresses (SRS and reply addresses of ours), then postmaster, aliases and domain routes,
then whatever a trusted client asks for, and nothing for strangers. Only the last step depends on the client, so that no
table opens the relay to other hosts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Literal, NamedTuple

import structlog

from relay.config.model import Config
from relay.lookup.source import BadTable, SourceUnavailable
from relay.mail.address import domain_of, lookup_key, split
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.rate import Rates
from relay.route.alias_table import AliasLoop, AliasTable
from relay.route.callout import Probe
from relay.route.domain_routes import DomainTable, NoSuchUser
from relay.route.roles import OwnAddresses, Roles
from relay.route.srs_reverse import (
    ReturnAddresses,
    Returned,
    RouteRequest,
    TokenLookup,
    counted_as,
    has_return_syntax,
)
from relay.route.tables import Tables
from relay.srs.address import Scheme, SrsError
from relay.srs.reply_address import is_reply
from relay.table_files.bad_lines import TryLater

log = structlog.get_logger()

Kind = Literal["srs", "reply", "postmaster", "alias", "domain", "trusted"]

_ELSEWHERE = re.compile(r"[@%!]")  # in a local part: "user@host"@ours, user%host@ours, host!user@ours


Watch = Callable[[str, str], None]
"""Told of an address and of the one that the router goes on with: the person behind a return address of ours, who reads
what comes for a role, or the address that a name like `postmaster` stands for."""


async def _no_more() -> Collection[str]:
    return ()


def _nobody(address: str, behind: str) -> None:
    """Watches nothing."""


class TableAway(Refused):
    """The refusal of an address about which a table cannot be asked now: 451 4.3.0 (RFC 3463 section 3.4)."""

    def __init__(self, address: str) -> None:
        super().__init__(451, "4.3.0", f"<{address}>: a table of addresses cannot be asked now, try again later")


class Target(NamedTuple):
    """One delivery that a recipient leads to.

    Attributes:
        address: the recipient at the next hop.
        srs: False where the route says that the next hop trusts us and the sender stays as it is.
    """

    address: str
    srs: bool = True


class Routed(NamedTuple):
    """What a recipient is, and where its mail goes.

    Attributes:
        targets: at least one, each address once.
        chain: the aliases that every target was reached through, to be marked (`relay.route.loops`).
        persons: who is behind the return addresses of ours that lead there; the recipient's own first.
        aliases: what counts as one alias in `chain`, see `AliasTable.counted`.
    """

    kind: Kind
    targets: tuple[Target, ...]
    chain: tuple[str, ...] = ()
    persons: tuple[Returned, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def returned(self) -> Returned | None:
        """Who is behind the recipient, where it is a return address or leads to one; None for other recipients."""
        return self.persons[0] if self.persons else None


class Router:
    """Decides by the tables of `[routes]`, as new as their files.

    Args:
        probe: asks a mailbox host about a user, see `relay.route.callout.Probe`.
        token_lookup: finds stored senders, see `srs_reverse.TokenLookup`.
        own_addresses: asked for an address literal that is none of the configured addresses.
        watch: for a person who wants to see the way of an address.
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
        watch: Watch = _nobody,
    ) -> None:
        self._counts_aliases = config.limits.rates.alias is not None
        self._watch = watch
        self._return_addresses = ReturnAddresses(config.srs, scheme, rates, token_lookup)
        self._domains = DomainTable(config.routes, tables.recipients, probe, rates.unknown_users)
        self._aliases = tables.aliases
        self._roles = Roles(config, tables.aliases, self._domains, own_addresses)

    @property
    def served_domains(self) -> frozenset[str]:
        """The domains that the alias table or a domain route makes ours."""
        return self._listed.domains | self._domains.domains

    def is_served(self, domain: str) -> bool:
        """Whether a normal domain is one of `served_domains`: an unknown user there is refused, whoever asks."""
        return self._roles.serves(domain)

    def is_own(self, domain: str) -> bool:
        """Whether a normal domain is ours, by a table or by its nature."""
        return self._roles.is_own(domain)

    async def route(self, request: RouteRequest, returned: Returned | None) -> Routed:
        """Decide about one RCPT: a valid address without source route, or `postmaster` alone.

        Args:
            returned: of `reverse`. The caller has checked the sender and the rates of this person: only who may write
                to a person learns where that leads.

        Raises:
            Refused: 550 5.1.1 for an unknown user and for an SRS or reply address that is malformed, forged or expired;
                550 5.7.1 where we do not relay for this client; 450 4.7.1, 451 4.3.5, 451 4.4.1, 451 4.4.3, 451 4.4.6
                for now.
            TableAway: 451 4.3.0, a table that may have the recipient cannot be asked now.
        """
        try:
            return await self._route(request, returned)
        except BadTable as error:
            raise TryLater(request.recipient) from error
        except SourceUnavailable as error:
            raise TableAway(request.recipient) from error
        except AliasLoop as error:
            log.error("alias_loop", alias=request.recipient, error=str(error))
            text = f"<{request.recipient}>: its alias leads back to itself, try later"
            raise Refused(451, "4.4.6", text) from None

    async def _route(self, request: RouteRequest, returned: Returned | None) -> Routed:
        """As `route`. Raises SourceUnavailable, AliasLoop as well."""
        recipient = await self._roles.by_name(request)
        if recipient != request.recipient:
            self._watch(request.recipient, recipient)
        if returned is not None:
            self._watch(recipient, returned.address)
            inner = await self._ours(returned.address, request) or Routed("trusted", (Target(returned.address),))
            if inner.returned is not None:  # the person is an alias of another return address of ours
                returned = returned._replace(
                    hidden=returned.hidden or inner.returned.hidden,
                    forged=returned.forged or inner.returned.forged,
                )
            return inner._replace(kind=_kind(recipient), persons=(returned, *inner.persons))
        is_elsewhere = request.stranger and _ELSEWHERE.search(split(recipient).local)
        if is_elsewhere and not await self._roles.is_listed(recipient):
            raise Refused(550, "5.7.1", f"<{recipient}>: a local part with @, % or ! is not taken as a route")
        routed = await self._ours(recipient, request)
        if routed is not None:
            return routed
        if not request.stranger:
            return Routed("trusted", (Target(recipient),))
        domain = domain_of(recipient)
        if self._roles.answers_for(domain) or (domain in self._listed.local_domains and self._listed.bad.hide(domain)):
            raise self._unknown(recipient)
        raise Refused(550, "5.7.1", f"<{recipient}>: relaying denied")

    async def reverse(self, request: RouteRequest) -> Returned | None:
        """Who is behind a recipient that is a return address; None for any other recipient.

        Raises:
            Refused: as `ReturnAddresses.reverse`.
        """
        if not self._return_addresses.includes(request.recipient):
            return None
        return await self._return_addresses.reverse(request.recipient, request)

    def refuse_over_rate(self, persons: Iterable[Returned], request: RouteRequest) -> None:
        """Refuse a message to persons behind return addresses of whom one gets too many. Raises Refused 450 4.7.1."""
        for person in persons:
            self._return_addresses.refuse_over_rate(person, request)

    def count(self, routes: Iterable[Routed], sender: str, client: Client, now: float) -> bool:
        """Count a message that is about to be accepted; False where a rate is used up, see `ReturnAddresses.count`."""
        persons = [routed.returned for routed in routes if routed.returned is not None]
        return not persons or self._return_addresses.count(persons, sender, counted_as(client), now)

    def is_return_address(self, address: str) -> bool:
        """Whether an address is an SRS or reply address of ours, good or bad."""
        return self._return_addresses.includes(address)

    async def is_unknown_alias(self, address: str) -> bool:
        """Whether an address that an alias leads to is an unknown user of a domain that the alias table serves.

        Raises:
            SourceUnavailable, AliasLoop
        """
        domain = domain_of(address)
        if domain not in self._listed.domains or self._domains.route_for(domain):
            return False
        return not (await self._aliases.around(address)).matches(address)

    @property
    def _listed(self) -> AliasTable:
        """What is known of the alias table without asking anybody: its domains, and its bad lines."""
        return self._aliases.listed

    async def _ours(self, recipient: str, request: RouteRequest) -> Routed | None:
        """Postmaster, an alias, or a user of a domain route; None where the domain is not served.

        Raises:
            Refused: no such user at a domain that is, or a bad line that may be this user's.
        """
        reader = await self._roles.reader(recipient)
        if reader:
            self._watch(recipient, reader)
            table = await self._aliases.around(reader)
            targets, _ = await self._targets(recipient, _expanded(table, reader, recipient) or (reader,), request)
            return Routed("postmaster", targets, (recipient, *table.chain(reader)))
        table = await self._aliases.around(recipient)
        addresses = _expanded(table, recipient, recipient)
        if addresses is not None:
            targets, persons = await self._targets(recipient, addresses, request)
            kind: Kind = _kind(recipient) if persons else "alias"
            counted = table.counted(recipient) if self._counts_aliases else ()
            return Routed(kind, targets, table.chain(recipient), persons, counted)
        domain = domain_of(recipient)
        if (route := self._domains.route_for(domain)) is not None:
            if route.recipients == "any" and domain in self._listed.bad.domains:
                raise TryLater(recipient)  # as the catch-all of the alias table
            try:
                await self._domains.accepts(recipient, request.stranger)
            except NoSuchUser:
                raise self._unknown(recipient) from None
            return Routed("domain", (self._target(recipient),))
        if domain in self._listed.domains or domain in self._listed.bad.domains:
            raise self._unknown(recipient)
        return None

    def _unknown(self, recipient: str) -> Refused:
        """The refusal of a user whom nothing knows, unless a line of the alias table that cannot be read may do so."""
        return TryLater(recipient) if self._listed.bad.hide(domain_of(recipient)) else NoSuchUser(recipient)

    async def _targets(
        self, recipient: str, addresses: Iterable[str], request: RouteRequest
    ) -> tuple[tuple[Target, ...], tuple[Returned, ...]]:
        """The deliveries for the addresses behind a recipient. One that cannot exist does not keep the others back.
        With them come the persons behind return addresses, as far as `_finals` tells them.

        Raises:
            NoSuchUser, TryLater: none of them exists, or can be known to; the text names the recipient, never what
                stands behind it.
            Refused: 550 5.1.1 with the text of REJECT, where one of them is closed; or as `_finals`.
        """
        targets: dict[str, Target] = {}
        refusal: Refused = NoSuchUser(recipient)
        closed = ""
        persons: list[Returned] = []
        for address in addresses:
            try:
                finals, person = await self._finals(address, request)
                persons += [person] if person is not None else []
            except TryLater:
                refusal, finals = TryLater(recipient), ()
                log.warning("alias_target_bad", alias=recipient, target=address)
            for final in finals:
                if (text := (await self._aliases.around(final)).rejection(final)) is not None:
                    closed = closed or text
                elif await self.is_unknown_alias(final):
                    if self._listed.bad.hide(domain_of(final)):
                        refusal = TryLater(recipient)
                    log.warning("alias_target_unknown", alias=recipient, target=final)
                else:
                    targets.setdefault(lookup_key(final), self._target(final))
        if not targets:
            if isinstance(refusal, TryLater) or (await self._aliases.around(recipient)).lacks_targets(recipient):
                raise TryLater(recipient)
            raise Refused(550, "5.1.1", f"<{recipient}>: {closed}") if closed else refusal
        return tuple(targets.values()), tuple(persons)

    async def _finals(self, address: str, request: RouteRequest) -> tuple[tuple[str, ...], Returned | None]:
        """What an alias may lead to that is no alias itself: the person behind a return address, our postmaster.

        The person comes as `Returned` where the recipient itself has the syntax of a return address: by
        `@domain @srs.domain` it reaches the return address, and has no more right than without that detour.

        Raises:
            Refused: as `ReturnAddresses.reverse`, for such a recipient.
        """
        if self._return_addresses.includes(address):
            returned = None
            if has_return_syntax(request.recipient):
                returned = await self._return_addresses.reverse(address, request)
                person = returned.address
            else:
                try:
                    person = await self._return_addresses.target(address, request.now)
                except SrsError as error:
                    log.warning("alias_target_unknown", target=address, error=str(error))
                    return (), None
            self._watch(address, person)
            return await self._behind(person), returned
        if reader := await self._roles.reader(address):
            self._watch(address, reader)
            return await self._behind(reader), None
        return (address,), None

    async def _behind(self, address: str) -> tuple[str, ...]:
        """The addresses that an address leads to; itself where it is no alias."""
        return _expanded(await self._aliases.around(address), address, address) or (address,)

    def _target(self, address: str) -> Target:
        route = self._domains.route_for(domain_of(address))
        return Target(address, srs=route is None or route.srs is not False)


def _kind(recipient: str) -> Kind:
    """The kind of a return address."""
    return "reply" if is_reply(recipient) else "srs"


def _expanded(table: AliasTable, address: str, recipient: str) -> tuple[str, ...] | None:
    """What stands behind an alias; None where it is none.

    Args:
        table: knows all about the address.
        recipient: what a refusal names.

    Raises:
        TryLater: nothing does, for a bad line.
        AliasLoop: aliases lead to each other.
    """
    targets = table.expand(address)
    if targets == ():
        raise TryLater(recipient)
    return targets
