"""The tables about mail that leaves, and about bounces of our own."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from relay.config.sections.base import Section
from relay.config.sections.shaping import ShapingSection
from relay.config.values import (
    DeliveryMode,
    Destination,
    Duration,
    File,
    HostName,
    Limits,
    NextHop,
    NextHopOrMx,
    Score,
    Timeout,
)
from relay.network import Endpoint

BouncesTo = Literal["verified", "all"]
TlsLevel = Literal["none", "may", "require", "verify"]
Families = tuple[Literal["ipv4", "ipv6"], ...]
_BY_MX = frozenset({"domains", "concurrency", "rate", "source_ipv4", "source_ipv6", "families", "helo"})


class BouncesSection(Section):
    """Bounces of our own."""

    to: BouncesTo = "verified"
    """Who is told when mail cannot be delivered. "verified" tells the sender if the client is trusted, SPF passed, or a
    DKIM signature of the sender's domain is valid, and ten senders an hour of each domain without SPF. Other failed
    mail is kept as dead letters. "all" tells whoever is in MAIL FROM, forged or not: this makes us a source of
    backscatter, and is only for hosts that get mail from known hosts alone. The null sender is never told. A sender
    whose client is not trusted gets only the header of the message back, whatever it asked for."""


class SmarthostSection(Section):
    """The relay of a provider. `[delivery.smarthost]` takes all mail without a next hop of its own; without that table
    such mail goes to the MX of its domain. `[delivery.smarthosts.NAME]` takes the mail of the destinations that name
    it.
    """

    url: NextHop = Field(examples=["smtp://smtp.provider.example:587"])
    """The smarthost: `smtp://host:587` or `smtps://host:465`."""

    user: str = Field("", examples=["fwd"])
    """The user name to log in with. It is set together with `password_file`. Default: no login."""

    password_file: File | None = Field(None, examples=["smarthost.password"])
    """The file of the password. Default: no login."""

    tls: TlsLevel | None = Field(None, examples=["verify"])
    """TLS towards the smarthost, with the values of `delivery.tls`. Default: "verify" where a password is sent,
    otherwise "may"."""

    null_sender: str = Field("", examples=["bounces@fwd.example"])
    """The sender to use in place of `<>`, for providers that refuse bounces. Default: `<>`."""

    @field_validator("url")
    @classmethod
    def _no_socket(cls, url: Endpoint) -> Endpoint:
        if url.path:
            raise ValueError("a smarthost is a host: smtp://host:587 or smtps://host:465")
        return url

    @field_validator("password_file", mode="before")
    @classmethod
    def _empty_means_none(cls, value: object) -> object:
        return None if value == "" else value

    @model_validator(mode="after")
    def _credentials(self) -> SmarthostSection:
        if bool(self.user) != bool(self.password_file):
            raise ValueError("user and password_file belong together")
        if self.user and self.tls in ("none", "may"):
            raise ValueError('tls must be "verify" or "require" where credentials are sent')
        return self

    @property
    def tls_level(self) -> TlsLevel:
        """What `tls` means: the certificate is verified where a password is sent."""
        return self.tls or ("verify" if self.user else "may")


def _at_least_one_family(value: Families | None) -> Families | None:
    if value == ():
        raise ValueError('at least one of "ipv4" and "ipv6"')
    return value


class DestinationSection(Section):
    """How mail to some domains leaves, where that differs from `[delivery]`. Each group of domains has a table of its
    own. For a domain the table holds that names it; if none does, the one with the longest suffix; and only if there is
    none of these, and its mail goes to its MX, the first with a matching `mx:`. `concurrency` and `rate` count for all
    domains of a table together, over all processes of a host."""

    domains: tuple[Destination, ...] = Field(min_length=1, examples=[["example.net", ".example.org"]])
    """The domains: "example.net" is that domain, ".example.org" all below that one. "mx:mx1.mail.example" and
    "mx:*.mail.example" (all hosts below) stand for every domain whose most preferred MX is such a host; as it is the
    owner of the domain who chooses the host, a table with `mx:` has no other keys than `concurrency`, `rate`,
    `source_ipv4`, `source_ipv6`, `families` and `helo`."""

    next_hop: NextHopOrMx | None = Field(None, examples=["smtp://10.0.0.7:25"])
    """Where the mail goes: `smtp://host:25`, `smtps://host:465`, `lmtp://host:24`, `lmtp:///path/of/the/socket`, or
    "mx" for the MX of the domain, although there is a smarthost for all other mail. The `next_hop` of a domain route
    goes before it. Default: the smarthost, or the MX of the domain."""

    smarthost: str | None = Field(None, examples=["backup"])
    """The smarthost that the mail goes to, by its name in `[delivery.smarthosts]`. Default: as for `next_hop`."""

    tls: TlsLevel | None = Field(None, examples=["verify"])
    """TLS towards these domains, with the values of `delivery.tls`. Where their mail leaves by a smarthost, its table
    counts, and this can only ask for more. Through a Unix socket every value counts as met. Default: as
    `delivery.tls`."""

    mta_sts: bool | None = Field(None, examples=[False])
    """As `delivery.mta_sts`, for a domain whose policy is known to be wrong. Default: as `delivery.mta_sts`."""

    dane: Literal["auto", "off"] | None = Field(None, examples=["off"])
    """As `delivery.dane`, for a domain whose TLSA records are known to be wrong. Default: as `delivery.dane`."""

    mode: DeliveryMode | None = Field(None, examples=["in-session"])
    """When mail is delivered, with the values of `delivery.mode`. It goes before the `mode` of a route. Default: as the
    route of the domain, or `delivery.mode`."""

    concurrency: Annotated[int, Field(ge=1)] | None = Field(None, examples=[2])
    """Transactions at a time, over all domains of the table and all processes of the host. With `mx:` a single domain
    has no more than `delivery.concurrency` of them in each process. Default: `delivery.concurrency` with each next hop
    and in each process."""

    rate: Annotated[int, Field(ge=1)] | None = Field(None, examples=[60])
    """Messages a minute, counted as `concurrency` is. A message to several recipients at one domain counts once for
    each hundred of them, each attempt counts anew. What a second brings may leave at once, and always one message. Mail
    past it waits in the queue, without an attempt. Default: no limit."""

    max_score: Score | None = Field(None, examples=[6.0])
    """The highest score that mail to these domains may have from rspamd (`filter.rspamd`), for providers that blame the
    forwarder for spam. A message with a higher one gets 550 5.7.1; recipients whose limit differs are taken in a
    transaction of their own. Default: rspamd's actions alone."""

    source_ipv4: ipaddress.IPv4Address | None = Field(None, examples=["192.0.2.26"])
    """The IPv4 address to send from. Default: as `delivery.source_ipv4`."""

    source_ipv6: ipaddress.IPv6Address | None = Field(None, examples=["2001:db8:7::26"])
    """The IPv6 address to send from. Default: as `delivery.source_ipv6`."""

    families: Annotated[Families | None, AfterValidator(_at_least_one_family)] = Field(None, examples=[["ipv4"]])
    """The address families to use, the preferred one first. Default: as `delivery.families`."""

    helo: HostName | None = Field(None, examples=["mx2.fwd.example"])
    """The name that EHLO says. It should lead to the source address, and back; `srs-relay dns` prints the records.
    Default: `hostname`."""

    @model_validator(mode="after")
    def _consistent(self) -> DestinationSection:
        if self.next_hop is not None and self.smarthost is not None:
            raise ValueError("next_hop and smarthost exclude each other")
        if self.smarthost is not None and self.tls is not None:
            raise ValueError(f"tls: it is set for the smarthost, at delivery.smarthosts.{self.smarthost}.tls")
        if any(name.startswith("mx:") for name in self.domains):
            for key in sorted(self.model_fields_set - _BY_MX):
                raise ValueError(f"{key}: a table with mx: cannot have this key, since others choose their MX hosts")
        return self


class DoubtfulSection(Section):
    """How doubtful mail leaves: mail that the filter (`X-Spam: Yes`) or the DNS lists (a score above 0) find bad and do
    not refuse. It has a source address of its own, so that a provider that slows or blocks that one still takes other
    mail. It also has connections, a pace (`[[delivery.shaping]]`) and suspensions of its own. Default: it leaves like
    all other mail."""

    source_ipv4: ipaddress.IPv4Address | None = Field(None, examples=["192.0.2.27"])
    """The IPv4 address to send from, for every destination. Where only one of the two source addresses is set, doubtful
    mail goes to hosts of that family, and to others only where a next hop has none. Default: as for other mail."""

    source_ipv6: ipaddress.IPv6Address | None = Field(None, examples=["2001:db8:7::27"])
    """The IPv6 address to send from, likewise. Default: as for other mail."""

    helo: HostName | None = Field(None, examples=["mx3.fwd.example"])
    """The name that EHLO says. It should lead to the source address, and back; `srs-relay dns` prints the records.
    Default: as for other mail."""

    concurrency: Annotated[int, Field(ge=1)] | None = Field(None, examples=[2])
    """Transactions with doubtful mail at a time, over all destinations and all processes of the host. If it or `rate`
    is set, both take the place of those of `[[delivery.destinations]]`. Default: as for other mail."""

    rate: Annotated[int, Field(ge=1)] | None = Field(None, examples=[60])
    """Doubtful messages a minute, counted as `concurrency` is; more waits in the queue. Default: as for other mail."""

    budget: Limits | None = Field(None, examples=[{"messages": 30}])
    """How much doubtful mail is accepted for each destination within a minute, in the form of `[limits.rates]`; a
    number alone is one of messages. A destination is a table of `[[delivery.destinations]]`, or else the domain that
    the mail leaves for. Past it the client gets 451 4.7.1, and comes again: at RCPT where DNS lists find its mail
    doubtful, otherwise after DATA. Default: no limit."""

    @field_validator("budget", mode="before")
    @classmethod
    def _messages_alone(cls, value: object) -> object:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return {"messages": value} if is_number or (isinstance(value, str) and value.isdecimal()) else value


class DeliverySection(Section):
    """Delivery to the next hops."""

    mode: DeliveryMode = "queue"
    """When mail is delivered. "queue" stores a message, acknowledges it, and delivers it from the queue. "in-session"
    offers a message that leads to a single address to the next hop while its sender waits, at most 20 seconds: if the
    next hop takes it, it is acknowledged and was never stored; if the next hop refuses it for good, the sender is
    refused in the same session, and there is no bounce; in every other case it is stored, acknowledged and delivered
    from the queue. Only next hops that have answered lately are asked. "auto" does so for mail of strangers that goes
    to other hosts than those of `[routes.domains]`, and queues the rest."""

    public_addresses_only: bool = True
    """Whether mail that is routed by MX never goes to loopback, link-local, private or our own addresses. A configured
    next hop may be such an address."""

    families: Annotated[Families, AfterValidator(_at_least_one_family)] = ("ipv6", "ipv4")
    """The address families to use, the preferred one first."""

    source_ipv4: ipaddress.IPv4Address | None = Field(None, examples=["192.0.2.25"])
    """The IPv4 address to send from, where the host has several. It belongs into your SPF record. Default: the system
    chooses."""

    source_ipv6: ipaddress.IPv6Address | None = Field(None, examples=["2001:db8:7::25"])
    """The IPv6 address to send from, where the host has several. It belongs into your SPF record. Default: the system
    chooses."""

    tls: TlsLevel = "may"
    """TLS towards MX hosts: "may" uses it where it is offered, with any certificate; "require" sends nothing without
    TLS; "verify" also demands a certificate that matches; "none" does not use it, whatever a domain publishes. DANE and
    MTA-STS may ask for more than this level, and never for less."""

    concurrency: Annotated[int, Field(ge=1)] = 20
    """Transactions at a time with one next hop, in each process. A next hop begins with five places and gets one more
    with every answer."""

    concurrency_total: Annotated[int, Field(ge=1)] = 400
    """Transactions at a time in all, in each process. Next hops that do not answer share half of these places,
    transactions that have lasted 30 seconds a quarter, and what the relay writes itself (bounces, notices) a tenth."""

    connect_timeout: Timeout = 30.0
    """How long to wait for a connection."""

    helo_timeout: Timeout = 300.0
    """How long to wait for the reply to EHLO (RFC 5321 section 4.5.3.2)."""

    command_timeout: Timeout = 300.0
    """How long to wait for the reply to MAIL and to RCPT (RFC 5321 section 4.5.3.2)."""

    data_timeout: Timeout = 180.0
    """How long to wait until a block of DATA is sent (RFC 5321 section 4.5.3.2)."""

    final_timeout: Timeout = 600.0
    """How long to wait for the reply at the end of DATA (RFC 5321 section 4.5.3.2)."""

    attempt_timeout: Timeout = 600.0
    """How long a whole attempt may take, over all hosts of a next hop, until its final dot is sent. A host that takes
    the message has one second more for each 8 KiB of it. The wait for the reply to the final dot has
    `delivery.final_timeout`."""

    idle_timeout: Duration = 5.0
    """How long an idle connection is kept for the next message."""

    messages_per_connection: Annotated[int, Field(ge=1)] = 100
    """How many messages one connection is used for."""

    port: Annotated[int, Field(ge=1, le=65535)] = 25
    """The port of MX hosts."""

    mta_sts: bool = True
    """Whether policies of domains that publish MTA-STS (RFC 8461) are followed: mail goes only to the hosts that an
    enforced policy names, and only with a certificate that is good for them. Policies are fetched over HTTPS (port 443
    outwards) and kept in the queue until they end. The log and `queue show` name the policy that held."""

    dane: Literal["auto", "off"] = "auto"
    """Whether TLSA records of MX hosts are followed (DANE, RFC 7672): "auto" does so where DNSSEC proves them. That
    takes a resolver that validates, on this host, or `dns.trust_ad`. Where a host has usable records, they alone decide
    about its certificate. If it shows another one, the next host is tried, and after the last one the mail waits."""

    smarthost: SmarthostSection | None = None
    smarthosts: dict[Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")], SmarthostSection] = Field(
        {}, examples=["backup"]
    )
    destinations: tuple[DestinationSection, ...] = ()

    doubtful: DoubtfulSection | None = None

    shaping_defaults: bool = True
    """Whether the rules of the package hold, by which mail to large providers slows down or waits where they ask for
    that. `[[delivery.shaping]]` changes single ones, and adds others."""

    shaping: tuple[ShapingSection, ...] = ()

    @property
    def smarthost_tables(self) -> dict[str, SmarthostSection]:
        """All smarthosts by their tables: "smarthost", and "smarthosts.NAME" for those that destinations name."""
        tables = {} if self.smarthost is None else {"smarthost": self.smarthost}
        return tables | {f"smarthosts.{name}": section for name, section in self.smarthosts.items()}
