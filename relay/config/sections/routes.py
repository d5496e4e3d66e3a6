"""The tables about recipients: which of them are ours, and where their mail goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from relay.config.sections.base import Section
from relay.config.table_sources import TableSource, TableSources, table_sources
from relay.config.values import DeliveryMode, DomainName, Duration, NextHop, Unforwardable
from relay.mail.address import BadAddress, parse

SrsMode = Literal[False, "when-needed", "always"]


def recipients_of_domain(value: object, info: ValidationInfo) -> object:
    """`callout`, `any` or sources. Raises ValueError: as `table_sources`, or there is none."""
    if value in ("callout", "any"):
        return value
    if not (sources := table_sources(value, info)):
        raise ValueError('"callout", "any", the path of a file, or another table')
    return sources


Recipients = Annotated[Literal["callout", "any"] | tuple[TableSource, ...], BeforeValidator(recipients_of_domain)]


class DomainRouteSection(Section):
    """A whole domain that goes to a mailbox host."""

    next_hop: NextHop | None = Field(None, examples=["lmtp://10.0.0.5:24"])
    """The mailbox host: `smtp://host:25`, `smtps://host:465`, `lmtp://host:24`, or `lmtp:///path/of/the/socket`.
    Default: that of the destination, the smarthost, or the MX of the domain."""

    recipients: Recipients = Field(examples=["callout"])
    """Which users exist, so that all others are refused in the session: "callout" asks `next_hop`; a file lists one
    address a line (or a local part, or @domain for the whole domain), or it is another table as in
    `routes.aliases`, where an address that has any value is a user; "any" accepts all. There is no default. A client
    that is not trusted may ask for 100 unknown users at once, and then 30 a minute; after that `next_hop` is not asked
    any more, and the client gets 450 4.7.1."""

    srs: SrsMode | None = Field(None, examples=[False])
    """Whether senders are rewritten: false never, for a mailbox host that trusts us; "when-needed" leaves a sender
    alone whose SPF passes for every address that our mail leaves from (`source_ipv4` and `source_ipv6` of the
    destination or of `[delivery]`, or the kernel's choice and those of the host name), and rewrites it in any doubt and
    behind a smarthost; "always", or true, rewrites every sender that is not ours. Default: "always"."""

    mode: DeliveryMode | None = Field(None, examples=["in-session"])
    """When mail for this domain is delivered, with the values of `delivery.mode`. "in-session" lets the mailbox host
    refuse mail while its sender is still there. Default: as `delivery.mode`, where "auto" queues it."""

    unforwardable: Unforwardable | None = Field(None, examples=["pass"])
    """What to do with mail for this domain that would fail DMARC behind us: "rewrite-from", "reject" or "pass".
    Default: "pass" with `srs = false`, otherwise as `dmarc.unforwardable` says."""

    @field_validator("srs", mode="before")
    @classmethod
    def _srs_mode(cls, value: object) -> object:
        if value not in (True, False, "always", "when-needed", "true", "false"):
            raise ValueError('false, "when-needed" or "always"')
        return False if value in (False, "false") else "when-needed" if value == "when-needed" else "always"

    @model_validator(mode="after")
    def _callout_has_a_host(self) -> DomainRouteSection:
        if self.recipients == "callout" and self.next_hop is None:
            raise ValueError('recipients = "callout" needs next_hop: the host that is asked which users exist')
        return self


class RoutesSection(Section):
    """Which recipients are ours, and where their mail goes."""

    aliases: TableSources = Field((), examples=["aliases"])
    """The file of addresses that forward to others, in the format of Postfix's virtual(5), or in TOML where its name
    ends in .toml:

        alice@fwd.example   alice@mailbox.example
        bob@fwd.example     REJECT Bob has left

    It is read again when it changes. A line that is wrong is named in the log, and its address gets 451 4.3.5 until it
    is mended. `"regexp:virtual.re"` is a table of regular expressions as in regexp_table(5), and
    `{ url = "postgresql://user@host/db", password_file = "db.password", query = "SELECT target FROM aliases WHERE
    address = '%s'" }` one in a database; `sqlite:///path` is a file of SQLite. An array names several of them: the
    first that has an entry answers. Mail for an address whose database is away gets 451. Default: no aliases."""

    alias_domains: tuple[DomainName, ...] = Field((), examples=[["fwd.example"]])
    """The domains that `aliases` serves besides those in its files, because a database and a regexp table cannot be
    listed: unknown users there hear 550 5.1.1. It is needed beside such a table, which is asked about these domains
    alone, and those in the files. Default: the domains in the files."""

    postmaster: str = Field("", examples=["admin@mailbox.example"])
    """Who reads mail to `<postmaster>`, and to postmaster@, abuse@ and mailer-daemon@ (whom people reply to who got a
    bounce) of every domain that we serve, of the host name and of our addresses (`postmaster@[192.0.2.25]`), unless
    `[routes]` has these addresses anyway. RFC 5321 section 4.5.1 demands it. Default: nobody, and the log says so at
    the start."""

    callout_cache: Duration = 3600.0
    """How long the answer of a callout is remembered (see `routes.domains.recipients`)."""

    access: TableSources = Field((), examples=["recipients.access"])
    """The table of what is said of recipients, as the client gives them, in the format of `clients.access` and with the
    keys of `senders.access`. Recipients that are unknown here, or not ours, are refused before. Default: none."""

    domains: dict[DomainName, DomainRouteSection] = Field({}, examples=["example.org"])

    @property
    def alias_file(self) -> Path | None:
        """The first file of `aliases`; None where it names none."""
        return next((source for source in self.aliases if isinstance(source, Path)), None)

    @model_validator(mode="after")
    def _domains_are_named(self) -> RoutesSection:
        if not self.alias_domains and any(not isinstance(source, Path) for source in self.aliases):
            raise ValueError(
                "aliases has a table that cannot be listed: name the domains that it serves, "
                'like alias_domains = ["fwd.example"]'
            )
        return self

    @field_validator("postmaster")
    @classmethod
    def _full_address(cls, value: str) -> str:
        try:
            return str(parse(value)) if value else ""
        except BadAddress as error:
            raise ValueError(f"a full address, like admin@mailbox.example: {error}") from None
