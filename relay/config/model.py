"""The whole configuration, and what has to hold between its tables; `relay.config.file` reads it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from relay.config.destinations import Destinations
from relay.config.sections import (
    ArcSection,
    AuthSection,
    BouncesSection,
    ClientsSection,
    DeliverySection,
    DkimSection,
    DmarcSection,
    DnsSection,
    FilterSection,
    HttpSection,
    LimitsSection,
    ListenSection,
    LogSection,
    QueueSection,
    ReceiveSection,
    RoutesSection,
    Section,
    SendersSection,
    SigningSection,
    SpfSection,
    SrsMode,
    SrsSection,
    TablesSection,
    TlsSection,
    Unforwardable,
)
from relay.config.shaping import ShapingRules
from relay.config.table_sources import TableSource
from relay.config.values import AuthservId, DeliveryMode, HostName
from relay.network import Endpoint


class ConfigError(Exception):
    """The configuration cannot be used; the text names each key and says what is wrong with it, one line a key."""


def _first_duplicate(names: Iterable[str]) -> str:
    """The first name that occurs a second time; empty where there is none."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), "")  # type: ignore[func-returns-value]


class Config(Section):
    """The whole configuration; every relative path is already resolved against the file's folder.

    A `title` begins a new part of the configuration reference.
    """

    hostname: HostName = Field(examples=["mx.fwd.example"])
    """Our name: what EHLO and Received say. It should have an address record, and that address a PTR record that leads
    back to the name. Default: the system's fully qualified name. A name without a dot and `localhost` are refused."""

    authserv_id: AuthservId | Literal[""] = Field("", examples=["mx.fwd.example"])
    """The name under which we write Authentication-Results (RFC 8601). Fields of this name that come in are removed.
    Default: `hostname`."""

    workers: Annotated[int, Field(ge=1)] = Field(default_factory=lambda: len(os.sched_getaffinity(0)), examples=[2])
    """How many processes share the listeners and the queue. Default: one for each processor core."""

    listen: Annotated[tuple[ListenSection, ...], Field(min_length=1, title="Where mail comes in")] = ()
    tls: TlsSection | None = None
    dns: DnsSection = Field(DnsSection(), title="DNS")
    receive: ReceiveSection = Field(ReceiveSection(), title="What is accepted")
    limits: LimitsSection = LimitsSection()
    clients: ClientsSection = Field(ClientsSection(), title="Who may do what")
    auth: AuthSection | None = None
    senders: SendersSection = SendersSection()
    srs: SrsSection = Field(title="Sender rewriting (SRS)")
    tables: tuple[TablesSection, ...] = Field((), title="Lookup tables for Postfix")
    spf: SpfSection = Field(SpfSection(), title="SPF")
    dkim: tuple[DkimSection, ...] = Field((), title="DKIM signing")
    signing: SigningSection = SigningSection()
    dmarc: DmarcSection = Field(DmarcSection(), title="DMARC and ARC")
    arc: ArcSection = ArcSection()
    filter: FilterSection = Field(FilterSection(), title="The filter")
    bounces: BouncesSection = Field(BouncesSection(), title="Bounces")
    routes: RoutesSection = Field(RoutesSection(), title="Where mail goes")
    delivery: DeliverySection = Field(DeliverySection(), title="How mail leaves")
    queue: QueueSection = Field(QueueSection(), title="The queue")
    http: HttpSection | None = Field(None, title="Monitoring and log")
    log: LogSection = LogSection()

    @model_validator(mode="before")
    @classmethod
    def _mail_or_tables(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Without tables a listener is needed: the empty array is refused as one."""
        if not data.get("tables"):
            return {"listen": (), **data}
        return {key: value for key, value in data.items() if key != "listen" or value}

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if duplicate := _first_duplicate(listener.address for listener in self.listen):
            raise ValueError(f"listen: {duplicate} stands there twice")
        others = [*(listener.address for listener in self.listen), *([self.http.address] if self.http else [])]
        if duplicate := _first_duplicate([*others, *(table.address for table in self.tables)]):
            raise ValueError(f"tables: {duplicate} stands there twice")
        if duplicate := _first_duplicate(f"{key.selector}._domainkey.{key.domain}" for key in self.dkim):
            raise ValueError(f"dkim: there are two keys for {duplicate}")
        for listener in self.listen:
            if listener.tls not in (None, "none") and self.tls is None:
                raise ValueError(f'listen {listener.address}: tls = "{listener.tls}" needs the section [tls]')
            if listener.auth != "none" and self.auth is None:
                raise ValueError(f'listen {listener.address}: auth = "{listener.auth}" needs the section [auth]')
            if listener.auth != "none" and self.listener_tls(listener) == "none":
                raise ValueError(
                    f'listen {listener.address}: auth = "{listener.auth}" needs TLS: clients log in inside it'
                )
        self._check_destinations()
        try:
            _ = self.shaping
        except ValueError as error:
            raise ValueError(f"delivery.shaping.{error}") from None
        if self.limits.message_memory < self.receive.max_message_size:
            raise ValueError(
                "limits.message_memory has no room for one message of receive.max_message_size: "
                f"set it to {self.receive.max_message_size} (octets) or more, or set receive.max_message_size lower"
            )
        if self.srs.domain in self.routes.domains and self.routes.domains[self.srs.domain].recipients == "any":
            raise ValueError('srs.domain must not be a domain route with recipients = "any"')
        return self

    def _check_destinations(self) -> None:
        delivery = self.delivery
        if duplicate := _first_duplicate(name for entry in delivery.destinations for name in entry.domains):
            raise ValueError(f"delivery.destinations: {duplicate} stands there twice")
        for number, entry in enumerate(delivery.destinations):
            if entry.max_score is not None and self.filter.rspamd is None:
                raise ValueError(
                    f"delivery.destinations.{number}.max_score: it is rspamd that gives scores: set filter.rspamd"
                )
            if entry.smarthost is not None and entry.smarthost not in delivery.smarthosts:
                raise ValueError(
                    f"delivery.destinations.{number}.smarthost: there is no [delivery.smarthosts.{entry.smarthost}]"
                )
            for domain in entry.domains if entry.next_hop or entry.smarthost else ():
                route = self.routes.domains.get(domain)
                if route is not None and route.next_hop is not None:
                    raise ValueError(
                        f"delivery.destinations.{number}: the route of {domain} names a next hop already "
                        f"(routes.domains.{domain}.next_hop)"
                    )

    @property
    def takes_mail(self) -> bool:
        """Whether there is a listener. A configuration may have tables alone, and then there is no queue."""
        return bool(self.listen)

    @property
    def authserv(self) -> str:
        """The authserv-id of our Authentication-Results (RFC 8601 section 2.5)."""
        return self.authserv_id or self.hostname

    def listener_tls(self, listener: ListenSection) -> Literal["none", "starttls", "require", "implicit"]:
        """The TLS mode of a listener: by default STARTTLS where there is a certificate, otherwise none."""
        return listener.tls or ("starttls" if self.tls else "none")

    @cached_property
    def destinations(self) -> Destinations:
        """What `[[delivery.destinations]]` says, by domain."""
        return Destinations(self.delivery, self.hostname)

    @cached_property
    def shaping(self) -> ShapingRules:
        """The rules by which replies of providers slow down or pause mail."""
        return ShapingRules(self.delivery.shaping, with_package=self.delivery.shaping_defaults)

    def next_hop(self, domain: str) -> Endpoint | None:
        """The next hop that the route of a normal domain names, or its destination; None means a smarthost, or the
        domain's MX."""
        route = self.routes.domains.get(domain)
        if route is not None and route.next_hop is not None:
            return route.next_hop
        destination = self.destinations.of(domain)
        return None if destination is None else destination.next_hop

    def smarthost(self, domain: str) -> str:
        """The table of the smarthost that mail for a normal domain goes to, see `DeliverySection.smarthost_tables`;
        empty for mail that goes elsewhere."""
        if self.next_hop(domain) is not None:
            return ""
        destination = self.destinations.of(domain)
        if destination is not None and destination.by_mx:
            return ""
        if destination is not None and destination.smarthost is not None:
            return f"smarthosts.{destination.smarthost}"
        return "" if self.delivery.smarthost is None else "smarthost"

    def srs_mode(self, domain: str) -> SrsMode:
        """Whether senders are rewritten in mail for a normal domain."""
        route = self.routes.domains.get(domain)
        return "always" if route is None or route.srs is None else route.srs

    def delivery_mode(self, domain: str) -> DeliveryMode:
        """When mail for a normal domain is delivered: by its destination, then by its route."""
        destination, route = self.destinations.of(domain), self.routes.domains.get(domain)
        return (
            (destination.mode if destination is not None else None)
            or (route.mode if route is not None else None)
            or self.delivery.mode
        )

    def unforwardable(self, domain: str) -> Unforwardable:
        """What is done with mail for a normal domain that would fail DMARC behind us: by default it passes to a host
        that trusts us (`srs = false`)."""
        route = self.routes.domains.get(domain)
        if route is None:
            return self.dmarc.unforwardable
        return route.unforwardable or ("pass" if route.srs is False else self.dmarc.unforwardable)

    @property
    def table_sources(self) -> dict[str, tuple[TableSource, ...]]:
        """The sources of all tables of addresses and of access, by the keys that name them."""
        recipients = {
            f"routes.domains.{domain}.recipients": route.recipients
            for domain, route in self.routes.domains.items()
            if not isinstance(route.recipients, str)
        }
        return {**self.access_tables, "routes.aliases": self.routes.aliases, **recipients}

    @property
    def access_tables(self) -> dict[str, tuple[TableSource, ...]]:
        """The access tables, by the keys that name them."""
        named = {
            "clients.access": self.clients.access,
            "senders.access": self.senders.access,
            "routes.access": self.routes.access,
        }
        return {key: sources for key, sources in named.items() if sources}

    @property
    def own_domains(self) -> frozenset[str]:
        """The domains that only we may use as sender or author: local, SRS and signing domains."""
        return frozenset({*self.senders.local_domains, self.srs.domain, *(key.domain for key in self.dkim)})
