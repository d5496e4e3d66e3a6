"""The whole configuration, and what has to hold between its tables; `config_file` reads it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from relay.config.sections import (
    ArcSection,
    BouncesSection,
    ClientsSection,
    DeliverySection,
    DkimSection,
    DmarcSection,
    DnsSection,
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
    TlsSection,
    Unforwardable,
)
from relay.config.values import AuthservId, DomainName
from relay.network import Endpoint


class ConfigError(Exception):
    """The configuration cannot be used; the text names each key and says what is wrong with it, one line a key."""


def _twice(names: Iterable[str]) -> str:
    """The first name that is there a second time; empty where there is none."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), "")  # type: ignore[func-returns-value]


class Config(Section):
    """The whole configuration; every relative path is already resolved against the file's folder."""

    hostname: DomainName
    authserv_id: AuthservId | Literal[""] = ""
    workers: Annotated[int, Field(ge=1)] = Field(default_factory=lambda: len(os.sched_getaffinity(0)))
    listen: Annotated[tuple[ListenSection, ...], Field(min_length=1)]
    tls: TlsSection | None = None
    dns: DnsSection = DnsSection()
    receive: ReceiveSection = ReceiveSection()
    limits: LimitsSection = LimitsSection()
    clients: ClientsSection = ClientsSection()
    senders: SendersSection = SendersSection()
    srs: SrsSection
    spf: SpfSection = SpfSection()
    dkim: tuple[DkimSection, ...] = ()
    signing: SigningSection = SigningSection()
    dmarc: DmarcSection = DmarcSection()
    arc: ArcSection = ArcSection()
    bounces: BouncesSection = BouncesSection()
    routes: RoutesSection = RoutesSection()
    delivery: DeliverySection = DeliverySection()
    queue: QueueSection = QueueSection()
    http: HttpSection | None = None
    log: LogSection = LogSection()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if twice := _twice(listener.address for listener in self.listen):
            raise ValueError(f"listen: {twice} stands there twice")
        if twice := _twice(f"{key.selector}._domainkey.{key.domain}" for key in self.dkim):
            raise ValueError(f"dkim: there are two keys for {twice}")
        for listener in self.listen:
            if listener.tls not in (None, "none") and self.tls is None:
                raise ValueError(f'listen {listener.address}: tls = "{listener.tls}" needs the section [tls]')
        if self.limits.message_memory < self.receive.max_message_size:
            raise ValueError("limits.message_memory has no room for one message of receive.max_message_size")
        if self.srs.domain in self.routes.domains and self.routes.domains[self.srs.domain].recipients == "any":
            raise ValueError('srs.domain must not be a domain route with recipients = "any"')
        return self

    @property
    def authserv(self) -> str:
        """The authserv-id of our Authentication-Results (RFC 8601 section 2.5)."""
        return self.authserv_id or self.hostname

    def listener_tls(self, listener: ListenSection) -> Literal["none", "starttls", "require", "implicit"]:
        """The listener's TLS mode: STARTTLS is offered wherever there is a certificate and nothing else was said."""
        return listener.tls or ("starttls" if self.tls else "none")

    def next_hop(self, domain: str) -> Endpoint | None:
        """Where the route of a normal domain leads; None leaves its mail to the smarthost, or to its MX."""
        route = self.routes.domains.get(domain)
        return None if route is None else route.next_hop

    def leaves_by_smarthost(self, domain: str) -> bool:
        """Whether mail for a normal domain goes to the smarthost."""
        return self.delivery.smarthost is not None and self.next_hop(domain) is None

    def srs_mode(self, domain: str) -> SrsMode:
        """Whether senders are rewritten in mail for a normal domain."""
        route = self.routes.domains.get(domain)
        return "always" if route is None or route.srs is None else route.srs

    def unforwardable(self, domain: str) -> Unforwardable:
        """What becomes of mail for a normal domain that DMARC would fail behind us: a host that trusts us wants it as
        it is."""
        route = self.routes.domains.get(domain)
        if route is None:
            return self.dmarc.unforwardable
        return route.unforwardable or ("pass" if route.srs is False else self.dmarc.unforwardable)

    @property
    def own_domains(self) -> frozenset[str]:
        """Domains under whose name only we may speak: local, SRS and signing domains (DESIGN 3.3, forgeries)."""
        return frozenset({*self.senders.local_domains, self.srs.domain, *(key.domain for key in self.dkim)})
