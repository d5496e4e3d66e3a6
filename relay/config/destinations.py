"""Which table of `[[delivery.destinations]]` holds for a domain, and how mail to it leaves.

The exact name comes first, then the longest suffix. A domain that no table names may belong to an `mx:` table, which is
known once its MX hosts are. Built once from the configuration, and fast with any number of tables.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from relay.config.sections.delivery import (
    DeliverySection,
    DestinationSection,
    DoubtfulSection,
    Families,
    TlsLevel,
)
from relay.config.values import DeliveryMode
from relay.mail.address import DOMAIN_OCTETS, normal_domain
from relay.network import Endpoint, literal_ip

DOUBTFUL = "delivery.doubtful"  # the name of its table in the log
MX_HOSTS = 100  # that are looked at: an answer of DNS has room for thousands, and nobody has so many


@dataclass(frozen=True, slots=True)
class Leaving:
    """How connections leave this host.

    Attributes:
        families: the address families to use, the preferred one first.
        source_ipv4, source_ipv6: the address to send from; None where the system chooses.
        helo: the name that EHLO says.
        apart: the families in which mail leaves apart from other mail. A next hop with hosts in one of them is not
            reached in another, where other mail would pay for it. Empty where all families count alike.
    """

    families: Families
    source_ipv4: ipaddress.IPv4Address | None
    source_ipv6: ipaddress.IPv6Address | None
    helo: str
    apart: Families = ()

    def source(self, address: str) -> str | None:
        """The address to bind to before connecting to an IP address; None where the system chooses."""
        source = self.source_ipv6 if ":" in address else self.source_ipv4
        return None if source is None else str(source)


@dataclass(frozen=True, slots=True)
class Destination:
    """One table of `[[delivery.destinations]]`, with the values of `[delivery]` where it has none.

    Attributes:
        number: its number in the file, from 0, as errors of the configuration give it.
        name: the first of its `domains`, which stands for it in the log.
        concurrency: transactions at a time over all its domains and all processes; None for no limit of its own.
        rate: messages a minute over all its domains and all processes; None for no limit.
        next_hop: the configured host; None for the MX of the domain, or a smarthost.
        by_mx: whether the mail goes to the MX of its domain although there is a smarthost for all other mail.
        tls: the level that it names; None where that is `delivery.tls`, or what the smarthost has.
        mode: when its mail is delivered; None where its route says so, or `delivery.mode`.
        max_score: the highest score that its mail may have from the filter; None for no limit.
    """

    number: int
    name: str
    concurrency: int | None
    rate: int | None
    leaving: Leaving
    next_hop: Endpoint | None
    by_mx: bool
    smarthost: str | None
    tls: TlsLevel | None
    mta_sts: bool
    dane: Literal["auto", "off"]
    mode: DeliveryMode | None
    max_score: float | None = None

    @property
    def is_limited(self) -> bool:
        """Whether it has a number of its own, which all its domains share."""
        return self.concurrency is not None or self.rate is not None


class Destinations:
    """All tables of `[[delivery.destinations]]`.

    Attributes:
        leaving: how mail leaves that belongs to none of them.
    """

    def __init__(self, delivery: DeliverySection, hostname: str) -> None:
        self.leaving = Leaving(delivery.families, delivery.source_ipv4, delivery.source_ipv6, hostname)
        self._names = _Names()
        self._mx = _Names()
        self._all: list[Destination] = []
        for number, section in enumerate(delivery.destinations):
            self._all.append(self._merged(number, section, delivery))
            for domain in section.domains:
                if domain.startswith("mx:"):
                    host = domain.removeprefix("mx:")
                    self._mx.add(host[1:] if host.startswith("*.") else host, number)
                else:
                    self._names.add(domain, number)
        self._has_names = bool(self._names)
        self._doubtful: dict[Destination | None, Destination] = {}
        if (doubtful := delivery.doubtful) is not None:
            usual = Destination(
                number=-1,
                name="",
                concurrency=None,
                rate=None,
                leaving=self.leaving,
                next_hop=None,
                by_mx=False,
                smarthost=None,
                tls=None,
                mta_sts=delivery.mta_sts,
                dane=delivery.dane,
                mode=None,
            )
            self._doubtful = {each: _doubtful(each or usual, doubtful) for each in (None, *self._all)}

    def _merged(self, number: int, section: DestinationSection, delivery: DeliverySection) -> Destination:
        leaving = Leaving(
            section.families or self.leaving.families,
            section.source_ipv4 or self.leaving.source_ipv4,
            section.source_ipv6 or self.leaving.source_ipv6,
            section.helo or self.leaving.helo,
        )
        return Destination(
            number=number,
            name=section.domains[0],
            concurrency=section.concurrency,
            rate=section.rate,
            leaving=leaving,
            next_hop=None if section.next_hop == "mx" else section.next_hop,
            by_mx=section.next_hop == "mx",
            smarthost=section.smarthost,
            tls=section.tls,
            mta_sts=delivery.mta_sts if section.mta_sts is None else section.mta_sts,
            dane=section.dane or delivery.dane,
            mode=section.mode,
            max_score=section.max_score,
        )

    def for_mail(self, destination: Destination | None, *, doubtful: bool) -> Destination | None:
        """The table that holds for mail of a destination: as `[delivery.doubtful]` changes it, where the mail is
        doubtful and there is such a table."""
        return self._doubtful.get(destination, destination) if doubtful else destination

    def in_file(self, destination: Destination | None) -> Destination | None:
        """The table of the file that one for doubtful mail was made from; any other stays as it is."""
        return None if destination is None or destination.number < 0 else self._all[destination.number]

    @property
    def doubtful(self) -> Collection[Destination]:
        """The tables that hold for doubtful mail, also to a domain that no other table is for; none without
        `[delivery.doubtful]`."""
        return self._doubtful.values()

    @property
    def ways(self) -> Sequence[Leaving]:
        """Every way in which mail leaves."""
        return (self.leaving, *(each.leaving for each in (*self._all, *self._doubtful.values())))

    def __iter__(self) -> Iterator[Destination]:
        """The tables in the order of the file."""
        return iter(self._all)

    def of(self, domain: str) -> Destination | None:
        """The table that names a normal domain, by its name or by a suffix; None where there is none."""
        if not self._has_names:
            return None
        return next((self._all[number] for number in self._names.matches(domain)), None)

    @property
    def has_mx(self) -> bool:
        """Whether there is an `mx:` table, so that MX hosts have to be known before `behind` can answer."""
        return bool(self._mx)

    def has_host(self, table: Destination, host: str) -> bool:
        """Whether an `mx:` of this table names a host."""
        return table.number in self._mx.matches(normal_domain(host))

    def behind(self, domain: str, records: Sequence[tuple[int, str]]) -> Destination | None:
        """The `mx:` table of a domain that `of` has none for; None where there is none.

        Only the most preferred hosts count: mail that comes to another one does so because they fail. Of the tables
        that name one of them, the first in the file holds.

        Args:
            records: what DNS answers for MX, each host with its preference before it. Without any, the domain is its
                own MX host (RFC 5321 section 5.1).
        """
        if not self._mx:
            return None
        named = [(preference, host) for preference, host in records if host] or [(0, domain)]
        best = min(preference for preference, _ in named)
        hosts = sorted({host for preference, host in named if preference == best})[:MX_HOSTS]
        numbers = [number for host in hosts for number in self._mx.matches(normal_domain(host))]
        return self._all[min(numbers)] if numbers else None


def _doubtful(destination: Destination, section: DoubtfulSection) -> Destination:
    """A table as it holds for doubtful mail. The numbers of the section count for all of that together, in the place of
    those of the destinations: these are for the other source addresses."""
    sources = {"ipv4": section.source_ipv4, "ipv6": section.source_ipv6}
    leaving = Leaving(
        destination.leaving.families,
        section.source_ipv4 or destination.leaving.source_ipv4,
        section.source_ipv6 or destination.leaving.source_ipv6,
        section.helo or destination.leaving.helo,
        apart=tuple(family for family in destination.leaving.families if sources[family] is not None),
    )
    changed = replace(destination, leaving=leaving)
    if section.concurrency is None and section.rate is None:
        return changed
    return replace(changed, name=DOUBTFUL, concurrency=section.concurrency, rate=section.rate)


class _Names:
    """Names, and suffixes that begin with a dot, each with the number of its table."""

    def __init__(self) -> None:
        self._exact: dict[str, int] = {}
        self._below: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._exact or self._below)

    def add(self, name: str, number: int) -> None:
        if name.startswith("."):
            self._below[name[1:]] = number
        else:
            self._exact[_key(name)] = number

    def matches(self, domain: str) -> Iterator[int]:
        """The tables of a domain: that of its name, then those of its suffixes, the longest one first."""
        if len(domain) > DOMAIN_OCTETS:
            return
        domain = _key(domain)
        if domain in self._exact:
            yield self._exact[domain]
        while self._below and not domain.startswith("["):
            _, dot, domain = domain.partition(".")
            if not dot:
                return
            if domain in self._below:
                yield self._below[domain]


def _key(domain: str) -> str:
    """A domain as the tables have it: an address literal has many forms (RFC 4291 section 2.2)."""
    ip = literal_ip(domain)
    return f"[{ip}]" if ip else domain
