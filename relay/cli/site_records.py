"""The DNS records of a configuration: its domains, its keys, and the addresses that its mail leaves from."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from relay.check.leaving import leaving_addresses, smarthosts
from relay.cli import keys_view, records
from relay.cli.present_keys import MissingKey, missing_keys, read_present
from relay.cli.records import Group, Names, Record
from relay.config.model import Config
from relay.dns import DnsFailure, Resolver
from relay.route.tables import read_tables
from relay.sending_addresses import Family, is_private, sending_addresses
from relay.sign.keys import SigningKey
from relay.sign.rotation import record_needed_until
from relay.sign.signing_table import AUTHORS_DOMAIN

AddressType = Literal["A", "AAAA"]
RECORD_TYPES: dict[Family, AddressType] = {"ipv4": "A", "ipv6": "AAAA"}


def site_records(config: Config, addresses: Sequence[str], unknown: Sequence[AddressType] = ()) -> list[Group]:
    """All records to publish.

    Files that are missing are no error: what they would have said is named in `Group.missing`. With tables alone there
    are no records: another server has the names and the keys.

    Args:
        addresses: the public addresses that mail leaves from.
        unknown: the types of the address records that are missing.

    Raises:
        ConfigError: a key is there and cannot be used.
    """
    if not config.takes_mail:
        return [
            Group("mx", ("There is no [[listen]]: another server takes and sends mail, and has its own records.",), ())
        ]
    served, missing = _served(config)
    others = tuple(_of_destinations(config, addresses))
    names = Names(config.hostname, config.srs.domain, served, config.senders.local_domains, others)
    signing = key_group(read_present(config).keys, missing_keys(config), config.queue.retry_for, time.time())
    through = smarthosts(config)
    return list(records.groups(names, addresses, signing, unknown=unknown, smarthosts=through, missing=missing))


def _of_destinations(config: Config, addresses: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The public addresses that mail to some destinations alone leaves from, each with its name in EHLO."""
    for address in leaving_addresses(config):
        is_known = address.helo == config.hostname and (not address.configured or address.ip in addresses)
        if not (is_known or address.private or address.to_smarthost):
            yield address.ip, address.helo


async def addresses_to_publish(config: Config, resolver: Resolver) -> tuple[list[str], list[AddressType]]:
    """The public addresses that mail leaves from, and the types of address records that could not be found.

    Behind a NAT, and where this host has no route to the world, they are those that DNS has for the host name.
    """
    delivery = config.delivery
    sending = sending_addresses(delivery.families, delivery.source_ipv4, delivery.source_ipv6)
    public = [address.ip for address in sending if not address.private]
    hidden = [address.family for address in sending if address.private]
    unknown = list[AddressType]()
    for family in hidden or ([] if public else delivery.families):
        found = await _in_dns(resolver, config.hostname, RECORD_TYPES[family])
        public += found
        unknown += [] if found else [RECORD_TYPES[family]]
    if not hidden and public:
        unknown = []  # without a route to the world, one family is enough
    return public, unknown


async def _in_dns(resolver: Resolver, hostname: str, kind: AddressType) -> list[str]:
    try:
        answer = await resolver.query(hostname, kind)
    except DnsFailure:
        return []
    return [str(address) for address in answer.records if not is_private(ipaddress.ip_address(str(address)))]


def _served(config: Config) -> tuple[tuple[str, ...], list[str]]:
    """The domains whose mail comes in, and why some of them may be missing."""
    try:
        routes = config.routes.model_copy(update={"domains": {}})
        table = read_tables(routes, (*config.senders.local_domains, config.hostname)).aliases.listed
    except (OSError, ValueError) as error:
        problem = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        return tuple(config.routes.domains), [f"{problem}: the domains of its addresses are missing here."]
    users = [pattern for pattern in table.entries if "@" not in pattern]
    local = config.senders.local_domains if users else ()
    return (*config.routes.domains, *sorted({*table.domains, *local})), []


def key_group(keys: Iterable[SigningKey], missing: Iterable[MissingKey], retry_for: float, now: float) -> Group:
    """The records of the DKIM keys, those of retired keys too as long as their signatures may be verified.

    Args:
        retry_for: seconds for which a message may wait in our own queue.
        now: seconds since 1970.
    """
    comments = ["The public half of each DKIM key (RFC 6376)."]
    needed, to_complete = list[Record](), list[str]()
    for key in keys:
        comment = keys_view.standing(key, now, retry_for)
        if now >= record_needed_until(key, retry_for):
            comments.append(comment)
        elif key.domain == AUTHORS_DOMAIN:
            comments.append(comment)
            to_complete.append(f"{key.record_name} TXT {key.public_record()}")
        else:
            comment = "" if comment == keys_view.IN_USE else comment
            needed.append(Record(key.record_name, "TXT", key.public_record(), comment=comment))
    return Group("dkim", tuple(comments), tuple(needed), tuple(_not_made(missing)), tuple(to_complete))


def _not_made(missing: Iterable[MissingKey]) -> Iterator[str]:
    for key in missing:
        yield f"{key.record_name} has no key yet, since {key.path} is missing: `srs-relay keys new` makes it."
