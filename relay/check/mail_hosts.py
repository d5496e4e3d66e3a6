"""The mail hosts of a domain: its MX records with what their names lead to (RFC 5321 section 5.1)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from relay.check.here import Place, Places
from relay.check.look_ups import addresses
from relay.dns import Resolver


@dataclass(frozen=True, slots=True)
class MailHost:
    """A mail host.

    Attributes:
        preference: the lowest is tried first.
        ips: none where the name has no address.
        is_alias: the name has a CNAME record.
    """

    preference: int
    name: str
    ips: tuple[str, ...]
    place: Place
    is_alias: bool = False


@dataclass(frozen=True, slots=True)
class MailHosts:
    """The hosts of a domain.

    Attributes:
        exists: the domain does.
        null: the domain says that it takes no mail (RFC 7505).
        implicit: there is no MX record, and the domain itself is the host.
        hosts: by preference.
    """

    hosts: tuple[MailHost, ...] = ()
    exists: bool = True
    null: bool = False
    implicit: bool = False


async def mail_hosts(resolver: Resolver, places: Places, domain: str) -> MailHosts:
    """Look them up. Raises DnsFailure."""
    answer = await resolver.query(domain, "MX")
    if not answer.exists:
        return MailHosts(exists=False)
    if answer.records and all(not name for _, name in answer.records):
        return MailHosts(null=True)
    records = sorted((preference, name) for preference, name in answer.records if name)
    hosts = await asyncio.gather(*(_host(resolver, places, *record) for record in records or [(0, domain)]))
    return MailHosts(tuple(hosts), implicit=not records)


async def _host(resolver: Resolver, places: Places, preference: int, name: str) -> MailHost:
    alias, ips = await asyncio.gather(resolver.query(name, "CNAME"), addresses(resolver, name))
    return MailHost(preference, name, tuple(ips), places.place(name, ips), bool(alias.records))
