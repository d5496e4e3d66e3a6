"""The DNS records of a relay, which `init` and `dns` print and the administrator publishes.

Here is which records there are. `record_view` writes them for a zone file and as JSON.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Purpose = Literal["mx", "address", "spf", "dkim", "dmarc"]
RecordType = Literal["MX", "A", "AAAA", "PTR", "TXT"]

MAIL_EXCHANGER_PREFERENCE = 10
_PLACEHOLDERS = {"A": "192.0.2.1", "AAAA": "2001:db8::1"}  # RFC 5737, RFC 3849
_FAMILIES = {"A": "IPv4", "AAAA": "IPv6"}


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        name: without a final dot.
        value: as a zone file has it; for TXT the whole text, without quotes.
        elsewhere: whether it belongs into a zone that is not ours: that of the provider of the address.
        comment: what the administrator should know about this record; empty for nothing.
    """

    name: str
    type: RecordType
    value: str
    elsewhere: bool = False
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """The records for one purpose.

    Attributes:
        comments: why they are there, for a person.
        missing: what is not known here or not there yet, a sentence for each thing.
        to_complete: lines of a zone file with a placeholder.
    """

    purpose: Purpose
    comments: tuple[str, ...]
    records: tuple[Record, ...]
    missing: tuple[str, ...] = ()
    to_complete: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Names:
    """The domains of a relay, each in its normal form.

    Attributes:
        served: those whose mail comes in here, apart from `srs_domain`.
        local: those that we may send for.
        others: the addresses that mail leaves from for some destinations alone, each with its name in EHLO.
    """

    hostname: str
    srs_domain: str
    served: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()

    @property
    def receiving(self) -> tuple[str, ...]:
        """The domains whose MX leads here: bounces come to the SRS domain."""
        return tuple(dict.fromkeys((self.srs_domain, *self.served)))

    @property
    def sending(self) -> tuple[str, ...]:
        """The domains that are senders or authors of our mail."""
        return tuple(dict.fromkeys((self.srs_domain, *self.local)))


def groups(
    names: Names,
    addresses: Sequence[str],
    keys: Group,
    *,
    unknown: Sequence[Literal["A", "AAAA"]] = (),
    smarthosts: Sequence[str] = (),
    missing: Sequence[str] = (),
) -> Iterator[Group]:
    """All records, in the order in which they are printed.

    Args:
        addresses: the public addresses that mail leaves from.
        keys: the records of the DKIM keys.
        unknown: the types of the address records that are missing, because a NAT hides the address.
        smarthosts: the hosts that mail leaves through.
        missing: why domains whose mail comes in may be missing.
    """
    yield _mx(names, missing)
    yield _addresses(names, addresses, unknown)
    yield _spf(names, addresses, smarthosts)
    yield keys
    yield _dmarc(names)


def _mx(names: Names, missing: Sequence[str]) -> Group:
    not_served = (
        f"{domain} is in senders.local_domains, but has no alias and no domain route here: its MX stays as it is."
        for domain in names.local
        if domain not in names.receiving
    )
    return Group(
        "mx",
        ("Mail for the domains, and the bounces of what is forwarded, come to this host.",),
        tuple(
            Record(domain, "MX", f"{MAIL_EXCHANGER_PREFERENCE} {names.hostname}.")
            for domain in names.receiving
            if not domain.startswith("[")  # an address literal
        ),
        (*missing, *not_served),
    )


def _addresses(names: Names, addresses: Sequence[str], unknown: Sequence[Literal["A", "AAAA"]]) -> Group:
    comment = "The PTR record of each address must lead back to the name. The provider of the address sets it."
    missing = [
        f"The public {_FAMILIES[kind]} address of this host is not known here: the {kind} record and its PTR record are"
        " missing."
        for kind in unknown
    ]
    return Group(
        "address",
        (comment,),
        tuple(_of_addresses([*((names.hostname, ip) for ip in addresses), *((helo, ip) for ip, helo in names.others)])),
        tuple(missing),
        tuple(f"{names.hostname}. 3600 IN {kind} {_PLACEHOLDERS[kind]}" for kind in unknown),
    )


def _of_addresses(addresses: Iterable[tuple[str, str]]) -> Iterator[Record]:
    for name, text in dict.fromkeys(addresses):
        ip = ipaddress.ip_address(text)
        yield Record(name, "A" if ip.version == 4 else "AAAA", str(ip))
        yield Record(ip.reverse_pointer, "PTR", f"{name}.", elsewhere=True)


def _spf(names: Names, addresses: Sequence[str], smarthosts: Sequence[str]) -> Group:
    comments = [
        "SPF (RFC 7208): the hosts that may send for a domain. Bounces have no sender, so the host name has a record.",
        "A name may have only one such record: if there is one already, add these terms to it, such as mx.",
    ]
    if smarthosts:
        through = ", ".join(smarthosts)
        comments.append(f"Mail leaves through {through}: what its operator says (include:...) belongs into each.")
    records = []
    terms = [
        f"ip{ipaddress.ip_address(ip).version}:{ip}"
        for ip in dict.fromkeys(ip for ip, _ in names.others if ip not in addresses)
    ]
    for domain in dict.fromkeys((*names.sending, names.hostname)):
        has_mx = domain in names.receiving
        if domain == names.hostname:
            mechanisms = "a mx" if has_mx and domain in names.sending else "a"
        else:
            mechanisms = "mx" if has_mx else f"a:{names.hostname}"
        if terms:
            mechanisms += " " + " ".join(terms)
        ours_alone = domain in (names.srs_domain, names.hostname)
        records.append(Record(domain, "TXT", f"v=spf1 {mechanisms} {'-all' if ours_alone else '~all'}"))
    in_ehlo = dict.fromkeys(helo for _, helo in names.others if helo not in (*names.sending, names.hostname))
    records += [Record(helo, "TXT", "v=spf1 a -all") for helo in in_ehlo]
    return Group("spf", tuple(comments), tuple(records))


def _dmarc(names: Names) -> Group:
    comments = [
        "DMARC (RFC 9989): nobody else may use the domain in From. If others send mail for it, begin with p=none."
    ]
    if any(domain != names.srs_domain for domain in names.sending):
        comments.append("p=none refuses nothing: change it to p=reject when all mail of the domain is signed.")
    records = (
        Record(f"_dmarc.{domain}", "TXT", f"v=DMARC1; p={'reject' if domain == names.srs_domain else 'none'}")
        for domain in names.sending
    )
    return Group("dmarc", tuple(comments), tuple(records))
