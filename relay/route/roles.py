"""The roles of a mail host: postmaster and abuse of every domain that is ours, and mailer-daemon, the author of our
bounces. Somebody has to read what comes for them, also where no table names them (RFC 5321 section 4.5.1).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection

from relay.config.model import Config
from relay.dns import DnsFailure
from relay.mail.address import domain_of, split, unquote
from relay.mail.reply import Refused
from relay.network import host_port, literal_ip, plain_ip
from relay.route.aliases import Aliases
from relay.route.domain_routes import DomainTable
from relay.route.srs_reverse import RouteRequest

_MAILER_DAEMON = "mailer-daemon"  # the author of our bounces, to whom people reply
_ROLES = frozenset(("postmaster", "abuse", _MAILER_DAEMON))  # RFC 5321 section 4.5.1, RFC 2142 section 2

OwnAddresses = Callable[[], Awaitable[Collection[str]]]
"""The addresses that our host name has; raises DnsFailure."""


class Roles:
    """Who reads what comes for the roles.

    Args:
        own_addresses: asked for an address literal that is none of the configured addresses.
    """

    def __init__(self, config: Config, aliases: Aliases, domains: DomainTable, own_addresses: OwnAddresses) -> None:
        self._postmaster = config.routes.postmaster
        self._hostname = config.hostname
        self._srs_domain = config.srs.domain
        self._own_domains = config.own_domains
        self._addresses = _configured_addresses(config)
        self._own_addresses = own_addresses
        self._aliases = aliases
        self._domains = domains

    def answers_for(self, domain: str) -> bool:
        """Domains that lead here, by a table or by their nature; users of the latter may still live elsewhere."""
        return domain in (self._hostname, self._srs_domain) or self.serves(domain)

    def serves(self, domain: str) -> bool:
        """Whether a table makes a normal domain ours."""
        return domain in self._aliases.listed.domains or self._domains.route_for(domain) is not None

    def is_own(self, domain: str) -> bool:
        """Whether a normal domain is ours in any way."""
        return self.answers_for(domain) or domain in self._own_domains

    async def is_listed(self, address: str) -> bool:
        """Whether a table names an address itself. Raises SourceUnavailable, AliasLoop."""
        return (await self._aliases.around(address)).lists(address) or await self._domains.lists(address)

    async def by_name(self, request: RouteRequest) -> str:
        """The recipient; `postmaster` alone, and a role at an address literal of ours, as an address of the host name.

        Raises:
            Refused: 451 4.4.3, what our host name has for addresses cannot be found out now.
            SourceUnavailable, AliasLoop
        """
        recipient = request.recipient
        if recipient.lower() == "postmaster":
            return f"{recipient}@{self._hostname}"
        if not recipient.endswith("]"):
            return recipient
        local, domain = split(recipient)
        ip = literal_ip(domain)
        if ip and _role(recipient) and not await self.is_listed(recipient) and await self._is_ours(ip, request):
            return f"{local}@{self._hostname}"
        return recipient

    async def _is_ours(self, ip: str, request: RouteRequest) -> bool:
        if ip in self._addresses or (request.client is not None and ip == request.client.local):
            return True
        try:
            return ip in map(plain_ip, await self._own_addresses())
        except DnsFailure:
            raise Refused(451, "4.4.3", f"<{request.recipient}>: our own name cannot be looked up, try later") from None

    async def reader(self, address: str) -> str:
        """Who reads what comes for a role at a domain of ours and is not listed there; empty for any other address, and
        where nobody does. Raises SourceUnavailable, AliasLoop."""
        role = _role(address)
        if not role or await self.is_listed(address):
            return ""
        domain = domain_of(address)
        if not self.answers_for(domain) and not (role == _MAILER_DAEMON and domain in self._own_domains):
            return ""
        if self._postmaster or role != _MAILER_DAEMON:
            return self._postmaster
        for postmaster in (f"postmaster@{domain}", f"postmaster@{self._hostname}"):
            if (await self._aliases.around(postmaster)).takes(postmaster):
                return postmaster
        return ""


def _role(address: str) -> str:
    """The role that an address is for, in lower case; empty for any other."""
    local = split(address).local.lower()
    if local.startswith('"'):
        local = unquote(local)
    return local if local in _ROLES else ""


def _configured_addresses(config: Config) -> frozenset[str]:
    """The addresses of ours that the configuration names: of listeners, and those that mail leaves from."""
    listeners = (host_port(listener.address)[0] for listener in config.listen)
    sources = {
        source
        for way in config.destinations.ways
        for source in (way.source_ipv4, way.source_ipv6)
        if source is not None
    }
    addresses = {*map(plain_ip, listeners), *map(str, sources)}
    return frozenset(str(ip) for ip in map(ipaddress.ip_address, addresses) if not ip.is_unspecified)
