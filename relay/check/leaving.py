"""How mail leaves by the configuration: the addresses of `[delivery]` and of each destination, and the smarthosts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from relay.config.destinations import Leaving
from relay.config.model import Config
from relay.sending_addresses import SendingAddress, sending_addresses


def leaving_addresses(config: Config) -> tuple[SendingAddress, ...]:
    """Each address once for each name that EHLO says from it; those of `[delivery]` come first. Of doubtful mail only
    those that it leaves apart by."""
    found: dict[tuple[str, str], SendingAddress] = {}
    for leaving, to_smarthost in _ways(config).items():
        families = leaving.apart or leaving.families
        for address in sending_addresses(families, leaving.source_ipv4, leaving.source_ipv6):
            known = found.get((address.ip, leaving.helo))
            hidden = to_smarthost and (known is None or known.to_smarthost)
            found[address.ip, leaving.helo] = replace(address, helo=leaving.helo, to_smarthost=hidden)
    return tuple(found.values())


def leaves_directly(config: Config) -> bool:
    """Whether some mail does not leave by a smarthost, and other hosts see our address."""
    return not all(_ways(config).values())


def smarthosts(config: Config) -> tuple[str, ...]:
    """The smarthosts that mail leaves by, each once; that of all mail without a next hop of its own comes first."""
    tables = config.delivery.smarthost_tables
    used = ["smarthost"] if config.delivery.smarthost is not None else []
    used += [f"smarthosts.{each.smarthost}" for each in config.destinations if each.smarthost is not None]
    return tuple(dict.fromkeys(tables[table].url.host for table in used))


def _ways(config: Config) -> dict[Leaving, bool]:
    """How mail leaves, and whether all of it that leaves like this goes to smarthosts."""
    ways = {config.destinations.leaving: config.delivery.smarthost is not None}
    for leaving, to_smarthost in _of_destinations(config):
        ways[leaving] = to_smarthost and ways.get(leaving, True)
    return ways


def _of_destinations(config: Config) -> Iterator[tuple[Leaving, bool]]:
    for destination in (*config.destinations, *config.destinations.doubtful):
        if destination.next_hop is None:
            to_smarthost = not destination.by_mx and bool(destination.smarthost or config.delivery.smarthost)
            yield destination.leaving, to_smarthost
        elif destination.leaving != config.destinations.leaving:
            # A configured host needs no SPF; where an address is chosen for it, that is for a host outside.
            yield destination.leaving, False
