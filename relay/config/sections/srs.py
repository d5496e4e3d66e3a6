"""The table about sender rewriting (SRS)."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from relay.config.sections.base import Section
from relay.config.values import DomainName, Duration, File, PointInTime


class SrsSection(Section):
    """The Sender Rewriting Scheme: a rewritten sender looks like `SRS0=HHHH=TT=their.domain=user@fwd.example`."""

    domain: DomainName = Field(examples=["fwd.example"])
    """The domain of rewritten senders. Its MX must lead to this relay: that is how bounces come back."""

    secrets_file: File = Field(examples=["srs.secret"])
    """The file of the secrets, one a line: the first line signs, every line verifies. A new secret goes on top, and
    after `srs.max_age` the old one may be removed. Reply addresses have no age: those that an old secret signed work
    until it is removed."""

    separator: Literal["=", "+", "-"] = "="
    """The character after `SRS0` and `SRS1`: "=", "+" or "-". All three are read."""

    hash_length: Annotated[int, Field(ge=4, le=27)] = 4
    """How many characters the hash has that we write. To get longer hashes, raise this first, wait `srs.max_age`, then
    raise `srs.hash_min`. `srs-relay init` writes 8 for both, because 4 characters can be found by trying."""

    hash_min: Annotated[int, Field(ge=4, le=27)] = 4
    """The fewest characters of a hash that we accept. It is not larger than `srs.hash_length`."""

    max_age: Duration = 21 * 86400.0
    """How long a rewritten address can be answered, from "1d" to "512d"."""

    alphabet: Literal["base64", "url"] = "base64"
    """The characters of the hash: "base64", or "url" for receivers that refuse "/" and "+" in it. Both are read."""

    hash: Literal["compatible", "framed"] = Field("compatible", examples=["framed"])
    """What the hash covers. "compatible", the default, is the format of PostSRSd and others: keep it where you share
    the secret with one of them. It does not divide the fields, so that an address of joe@victim.com is good for
    mjoe@victim.co as well. An address with a "framed" hash is good for one sender only; `srs-relay init` writes
    that."""

    framed_since: PointInTime | None = Field(None, examples=[date(2026, 12, 1)])
    """The first day (UTC) with framed hashes, where compatible ones were sent before: addresses of earlier days work
    until they are `srs.max_age` old. The day may be in the future, so that several hosts change together. Default:
    none, and only framed hashes are good."""

    accept: Literal["any", "null"] = "any"
    """Who may write to an SRS address: "any" sender, or only the "null" sender, which means bounces. Reply addresses
    take mail from anyone."""

    reverse_rate: Annotated[int, Field(ge=1)] = 100
    """Messages a minute that one client may send from other senders than the null sender to one sender or author behind
    addresses of ours. All clients together may send four times as many. A message counts when it is accepted. Past the
    rate the client gets 450 4.7.1, and the rest comes later. All rates are counted over the processes of a host."""

    bounce_rate: Annotated[int, Field(ge=1)] = 600
    """The same for messages from the null sender. It is high because a newsletter that meets a mailbox that is gone
    makes many bounces. It has a limit because a mail bomb can be sent from the null sender, too."""

    forged_rate: Annotated[int, Field(ge=1)] = 2
    """Forged SRS and reply addresses a minute that one client may try, after 20 at once. An IPv6 client is its /64, and
    counts for the networks around it as `limits.connections_per_client` says. Past the rate, good and bad addresses get
    the same reply, so that nobody finds a hash by trying: 450 4.7.1. A bounce (`MAIL FROM:<>`) is accepted even then,
    and is kept as a dead letter if its address was forged, so that nobody can keep the bounces of that client away. The
    client may send `srs.bounce_rate` of these a minute. Reply addresses and hashes of 8 characters are too long to be
    found: their replies stay true. Trusted clients may try any number."""

    bounces: Literal["pass", "rebuild"] = "pass"
    """What to do with bounces of other hosts on their way to the true sender: "pass" leaves them as they are, and they
    show the mailbox behind an alias; "rebuild" replaces them by a bounce of ours with the same outcome, which names the
    alias. A bounce that is no report of RFC 3464, or is over 1 MiB, passes; the log says why (`bounce_passed`)."""

    @field_validator("max_age")
    @classmethod
    def _refuse_unwritable_age(cls, value: float) -> float:
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
    def _consistent(self) -> SrsSection:
        if self.hash_min > self.hash_length:
            raise ValueError("hash_min is larger than hash_length")
        if self.framed_since is not None and self.hash != "framed":
            raise ValueError('framed_since needs hash = "framed"')
        return self
