"""The tables of the configuration: every key, its type, its bounds and its default stand here once.

`config/relay.toml` documents the same keys for the administrator.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from relay.config.values import (
    Action,
    AuthservId,
    DomainName,
    DomainPattern,
    Duration,
    File,
    HostPattern,
    Moment,
    Network,
    NextHop,
    Size,
    SocketAddress,
    Timeout,
    resolved,
)
from relay.mail.address import BadAddress, parse
from relay.network import IPNetwork, host_port, too_wide


class Section(BaseModel):
    """A table of the file: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _not_everyone(value: tuple[IPNetwork, ...]) -> tuple[IPNetwork, ...]:
    if (one := too_wide(value)) is not None:
        raise ValueError(f"{one} would make this an open relay; name the networks that are yours")
    return value


OwnNetworks = Annotated[tuple[Network, ...], AfterValidator(_not_everyone)]


class ListenSection(Section):
    """One listener. `proxy_protocol` is believed only from `proxies`, which may claim to be any client."""

    address: SocketAddress
    tls: Literal["none", "starttls", "require", "implicit"] | None = None
    proxy_protocol: bool = False
    proxies: OwnNetworks = (ipaddress.ip_network("127.0.0.1/32"),)


class TlsSection(Section):
    """The certificate that listeners show; read again when the file changes."""

    certificate: File
    private_key: File


class DnsSection(Section):
    """Where names are looked up. No nameservers: the system's resolv.conf. `timeout` bounds one whole question."""

    nameservers: tuple[str, ...] = ()
    timeout: Timeout = 5.0
    cache_entries: Annotated[int, Field(ge=0)] = 20_000

    @field_validator("nameservers")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for server in value:
            try:
                ipaddress.ip_address(server)
            except ValueError:
                host_port(server)
        return value


class ReceiveSection(Section):
    """What a message may look like."""

    bare_newline: Literal["reject", "normalize"] = "reject"
    nul: Literal["pass", "reject"] = "pass"
    max_message_size: Annotated[Size, Field(ge=1)] = 25 * 10**6
    max_header_size: Size = 256 * 2**10
    max_hops: Annotated[int, Field(ge=1)] = 50


class LimitsSection(Section):
    """Bounds on what clients can take. Timeouts are those of RFC 5321 section 4.5.3.2.7."""

    connections: Annotated[int, Field(ge=1)] = 1000
    connections_per_client: Annotated[int, Field(ge=1)] = 50
    recipients: Annotated[int, Field(ge=100)] = 1000
    errors: Annotated[int, Field(ge=1)] = 20
    command_timeout: Timeout = 300.0
    data_timeout: Timeout = 300.0
    message_memory: Size = 512 * 10**6
    min_rate: Annotated[Size, Field(ge=1)] = 2**10


class ClientsSection(Section):
    """Clients that may send to any recipient; under `authserv_ids` they say what they know of their mail."""

    trusted: OwnNetworks = ()
    authserv_ids: tuple[AuthservId, ...] = ()


class SendersSection(Section):
    """Domains that we are authorised to send for."""

    local_domains: tuple[DomainName, ...] = ()


class SrsSection(Section):
    """The Sender Rewriting Scheme; the first line of the secrets file signs, every line verifies."""

    domain: DomainName
    secrets_file: File
    separator: Literal["=", "+", "-"] = "="
    hash_length: Annotated[int, Field(ge=4, le=27)] = 4
    hash_min: Annotated[int, Field(ge=4, le=27)] = 4
    max_age: Duration = 21 * 86400.0
    alphabet: Literal["base64", "url"] = "base64"
    hash: Literal["compatible", "framed"] = "compatible"
    framed_since: Moment | None = None
    accept: Literal["any", "null"] = "any"
    reverse_rate: Annotated[int, Field(ge=1)] = 100
    bounce_rate: Annotated[int, Field(ge=1)] = 600
    forged_rate: Annotated[int, Field(ge=1)] = 2
    bounces: Literal["pass", "rebuild"] = "pass"

    @field_validator("max_age")
    @classmethod
    def _within_the_wheel(cls, value: float) -> float:
        if not 86400 <= value <= 512 * 86400:
            raise ValueError('between "1d" and "512d" (the timestamp counts 1024 days round)')
        return value

    @field_validator("framed_since")
    @classmethod
    def _whole_day(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.timestamp() % 86400:
            raise ValueError("a day, like 2026-12-01: addresses bear no time of day (UTC counts)")
        return value

    @model_validator(mode="after")
    def _minimum(self) -> SrsSection:
        if self.hash_min > self.hash_length:
            raise ValueError("hash_min is larger than hash_length")
        if self.framed_since is not None and self.hash != "framed":
            raise ValueError('framed_since needs hash = "framed"')
        return self


class SpfSection(Section):
    """What an SPF result does. A result that is tagged is only written into Authentication-Results."""

    fail: Literal["reject-unless-dkim", "reject", "defer", "tag"] = "reject-unless-dkim"
    softfail: Literal["reject-unless-dkim", "reject", "defer", "tag"] = "tag"
    permerror: Action = "tag"
    temperror: Action = "defer"
    skip: tuple[Network, ...] = ()


class DkimSection(Section):
    """One signing key, when it signs (`active_until` is the first moment when it does not), and for which From domains
    (its own where none are named). Several keys for one From domain sign several times.
    """

    domain: DomainName
    selector: DomainName
    private_key: File
    sign: tuple[DomainPattern, ...] = ()
    active_from: Moment | None = None
    active_until: Moment | None = None

    @model_validator(mode="after")
    def _some_time(self) -> DkimSection:
        if self.active_from and self.active_until and self.active_from >= self.active_until:
            raise ValueError("active_until has to be later than active_from")
        return self


SrsMode = Literal[False, "when-needed", "always"]
Unforwardable = Literal["rewrite-from", "reject", "pass"]
BouncesTo = Literal["verified", "all"]


class SigningSection(Section):
    """Keys that OpenDKIM has, in the folder of its tables."""

    opendkim: File | None = None


class DmarcSection(Section):
    """What a DMARC failure does under each policy, and what is done with mail that forwarding would make fail."""

    reject: Action = "reject"
    quarantine: Action = "tag"
    temperror: Literal["defer", "tag"] = "defer"
    unforwardable: Unforwardable = "rewrite-from"
    skip: tuple[HostPattern, ...] = ()

    @field_validator("skip")
    @classmethod
    def _not_the_internet(cls, value: tuple[IPNetwork | str, ...]) -> tuple[IPNetwork | str, ...]:
        for one in value:
            if not isinstance(one, str) and one.prefixlen < (8 if one.version == 4 else 16):
                raise ValueError(f"{one} would turn DMARC off; name the hosts that you know")
        return value


class ArcSection(Section):
    """ARC seals (RFC 8617): whether we make them, with comments or without, with which key (without one: a DKIM key),
    and whose are believed."""

    seal: bool = True
    comments: bool = False
    domain: DomainName | None = None
    selector: DomainName | None = None
    private_key: File | None = None
    trusted_sealers: tuple[DomainName, ...] = ()

    @model_validator(mode="after")
    def _whole_key(self) -> ArcSection:
        if len({self.domain is None, self.selector is None, self.private_key is None}) > 1:
            raise ValueError("domain, selector and private_key belong together")
        return self


class BouncesSection(Section):
    """Who is told of failures: senders that something vouches for, or whoever stands in MAIL FROM."""

    to: BouncesTo = "verified"


class DomainRouteSection(Section):
    """A domain whose mail goes to a mailbox host. `recipients`: a file, `callout`, or `any`."""

    next_hop: NextHop | None = None
    recipients: str
    srs: SrsMode | None = None
    unforwardable: Unforwardable | None = None

    @field_validator("srs", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        if value not in (True, False, "always", "when-needed", "true", "false"):
            raise ValueError('false, "when-needed" or "always"')
        return False if value in (False, "false") else "when-needed" if value == "when-needed" else "always"

    @field_validator("recipients")
    @classmethod
    def _file(cls, value: str, info: ValidationInfo) -> str:
        return value if value in ("callout", "any") else str(resolved(Path(value), info))

    @model_validator(mode="after")
    def _someone_to_ask(self) -> DomainRouteSection:
        if self.recipients == "callout" and self.next_hop is None:
            raise ValueError('recipients = "callout" needs next_hop: the host that is asked which users exist')
        return self


class RoutesSection(Section):
    """Which recipients are ours, and where their mail goes."""

    aliases: File | None = None
    postmaster: str = ""
    domains: dict[DomainName, DomainRouteSection] = {}
    callout_cache: Duration = 3600.0

    @field_validator("postmaster")
    @classmethod
    def _full_address(cls, value: str) -> str:
        try:
            return str(parse(value)) if value else ""
        except BadAddress as error:
            raise ValueError(f"a full address, like admin@mailbox.example: {error}") from None


class SmarthostSection(Section):
    """The relay for everything without a next hop of its own. `tls` is `verify` where credentials are sent."""

    url: NextHop
    user: str = ""
    password_file: File | None = None
    tls: Literal["none", "may", "require", "verify"] | None = None
    null_sender: str = ""

    @field_validator("password_file", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return None if value == "" else value

    @model_validator(mode="after")
    def _credentials(self) -> SmarthostSection:
        if bool(self.user) != bool(self.password_file):
            raise ValueError("user and password_file belong together")
        if self.user and self.tls in ("none", "may"):
            raise ValueError('tls must be "verify" or "require" where credentials are sent')
        return self

    @property
    def tls_level(self) -> Literal["none", "may", "require", "verify"]:
        return self.tls or ("verify" if self.user else "may")


class DeliverySection(Section):
    """How mail leaves. Timeouts are those of RFC 5321 section 4.5.3.2."""

    mode: Literal["queue"] = "queue"
    public_addresses_only: bool = True
    families: tuple[Literal["ipv4", "ipv6"], ...] = ("ipv6", "ipv4")
    source_ipv4: ipaddress.IPv4Address | None = None
    source_ipv6: ipaddress.IPv6Address | None = None
    tls: Literal["none", "may", "require", "verify"] = "may"
    concurrency: Annotated[int, Field(ge=1)] = 20
    concurrency_total: Annotated[int, Field(ge=1)] = 400
    connect_timeout: Timeout = 30.0
    helo_timeout: Timeout = 300.0
    command_timeout: Timeout = 300.0
    data_timeout: Timeout = 180.0
    final_timeout: Timeout = 600.0
    attempt_timeout: Timeout = 600.0
    idle_timeout: Duration = 5.0
    messages_per_connection: Annotated[int, Field(ge=1)] = 100
    port: Annotated[int, Field(ge=1, le=65535)] = 25
    smarthost: SmarthostSection | None = None

    @field_validator("families")
    @classmethod
    def _one_at_least(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError('at least one of "ipv4" and "ipv6"')
        return value


class QueueSection(Section):
    """The durable queue and its patience."""

    url: Annotated[str, Field(validate_default=True)] = "sqlite:///queue.db"
    retry_for: Duration = 5 * 86400.0
    bounce_retry_for: Duration = 86400.0
    retry_min: Timeout = 300.0
    retry_max: Timeout = 68 * 60.0
    keep_dead: Duration = 7 * 86400.0
    max_dead: Size = 10**9
    min_free: Size = 256 * 10**6
    lease: Timeout = 120.0

    @field_validator("url")
    @classmethod
    def _url(cls, value: str, info: ValidationInfo) -> str:
        if value.startswith("sqlite:///"):
            path = value.removeprefix("sqlite:///")
            if not path or path == ":memory:":
                raise ValueError("the queue must be a file: it is what makes it durable")
            return "sqlite:///" + str(resolved(Path(path), info))
        if value.startswith(("postgresql://", "postgres://")):
            return "postgresql+asyncpg://" + value.partition("://")[2]
        raise ValueError("sqlite:///FILE or postgresql://USER@HOST/DATABASE")

    @property
    def folder(self) -> Path | None:
        """Where the file of an SQLite queue is; None for a database server, which looks after its own disk."""
        return Path(self.url.removeprefix("sqlite:///")).parent if self.url.startswith("sqlite:///") else None

    @model_validator(mode="after")
    def _order(self) -> QueueSection:
        if self.retry_min > self.retry_max:
            raise ValueError("retry_min is longer than retry_max")
        return self


class HttpSection(Section):
    """/metrics, /healthz and /readyz. No section: no HTTP."""

    address: SocketAddress = "127.0.0.1:8025"


class LogSection(Section):
    """`auto` is readable on a terminal and JSON elsewhere."""

    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
