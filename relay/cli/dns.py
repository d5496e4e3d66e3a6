"""`srs-relay dns`: prints the DNS records of the configuration, as `init` printed them on the first day."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated

import typer

from relay import log as logging
from relay.cli.options import ConfigFile
from relay.cli.record_view import objects, zone
from relay.cli.site_records import AddressType, addresses_to_publish, site_records
from relay.config.file import load
from relay.config.model import Config
from relay.dns import CachingResolver
from relay.mail.visible import visible


def dns(
    config: ConfigFile = None, as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False
) -> None:
    """Print the DNS records to publish: MX, addresses, SPF, DKIM, DMARC.

    They are lines for a zone file. The addresses are those that mail leaves from; behind a NAT, those that DNS has for
    the host name.
    """
    loaded = load(config, require_files=False)
    logging.configure("json", "error", sys.stderr)
    groups = site_records(loaded, *asyncio.run(look_up_addresses(loaded)))
    if not as_json:
        print("\n".join(map(visible, zone(groups))))
        return
    print(json.dumps(objects(groups), indent=2))
    for problem in (problem for group in groups for problem in group.missing):
        print(visible(problem), file=sys.stderr)


async def look_up_addresses(config: Config) -> tuple[list[str], list[AddressType]]:
    """`addresses_to_publish`, with the resolver of the configuration."""
    resolver = CachingResolver(config.dns.nameservers, config.dns.timeout, config.dns.cache_entries)
    try:
        return await addresses_to_publish(config, resolver)
    finally:
        await resolver.close()
