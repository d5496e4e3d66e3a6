"""The DNS lists that say of a client what is known of it elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from relay.config.sections.base import Section
from relay.config.values import DomainName, ListAnswers

_Weight = Annotated[int, Field(ge=1, le=1000)]


class DnsblSection(Section):
    """A DNS list (RFC 5782) of hosts or domains that send spam. Each list has a table of its own, also written as
    `dnsbl = [{ zone = "bl.example" }]` in `[clients]`. Strangers are looked up at RCPT, at all lists at once; trusted
    clients, users who have logged in, and mail to postmaster never are. A list that does not answer, refuses our
    resolver (127.255.255.x, as large lists answer public resolvers), answers with anything outside 127.0.0.0/8, or
    lists what is never listed (127.0.0.1; `invalid` for names) lists nobody: the log says `dns_list_failed`, and later
    `dns_list_recovered`. See docs/abuse.md#dns-lists. Default: no list."""

    zone: DomainName = Field(examples=["bl.example"])
    """The domain below which the list is asked: for 192.0.2.1 the name 1.2.0.192.bl.example."""

    weight: _Weight = 1
    """What a listing adds to the score of the client."""

    answers: tuple[ListAnswers, ...] = Field((), examples=[["127.0.0.2-11"]])
    """The answers that count as a listing: an address, or a range of its last octet, "127.0.0.2-11". A zone with
    several kinds of listings may have a table for each. Default: every answer but 127.0.0.1, 127.0.1.255 and
    127.255.255.x."""

    names: bool = False
    """Whether the list has names of domains, and not addresses: the domain of MAIL FROM and the name in HELO are
    looked up in it. One listing counts, where both are listed."""


class DnswlSection(Section):
    """A DNS list of hosts that send no spam, written as `[[clients.dnsbl]]` is. While it has a fault, a client that it
    might have spared gets 450 4.7.1 and comes again. Names cannot be vouched for: anyone can claim them in HELO and
    MAIL FROM. Default: no list."""

    zone: DomainName = Field(examples=["wl.example"])
    """The domain below which the list is asked."""

    weight: _Weight = 1
    """What a listing takes from the score of the client."""

    answers: tuple[ListAnswers, ...] = Field((), examples=[["127.0.10.1-3"]])
    """The answers that count as a listing, as those of `[[clients.dnsbl]]`. Default: every answer, likewise."""

    @model_validator(mode="before")
    @classmethod
    def _no_names(cls, value: Any) -> Any:
        if isinstance(value, dict) and "names" in value:
            raise ValueError("names is for dnsbl only: anyone can claim a name of a dnswl in HELO and MAIL FROM")
        return value
