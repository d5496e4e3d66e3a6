"""The mend of an SPF record (RFC 7208): one record that lets our addresses pass and that has what the old ones say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from relay.check.seen_addresses import smarthost
from relay.check.spf_name import SpfName
from relay.check.spf_record import merged, sources, without
from relay.mail.reply import printable
from relay.sign.keys import zone_line

# Addresses that no mail comes from: "this network" (RFC 791), link-local (RFC 3927), benchmarks (RFC 2544, RFC 5180),
# reserved (RFC 1112 section 4), and the discard prefix (RFC 6666). A record is evaluated to its end for them, and one
# that lets one of them pass has a network that is far too large.
NOBODY = ("240.0.0.1", "100::1", "0.0.0.1", "169.254.0.1", "198.18.0.1", "2001:2::1")
_DOUBT = "whoever else sends for the name must be in it, too"


async def record_to_publish(name: SpfName, seen: Sequence[str], verb: str, records: Sequence[str]) -> str:
    """The mend: a record to publish, as a line of a zone file.

    Args:
        seen: the addresses that we send from.
        verb: what to do with the record.
        records: the SPF records that the name has.
    """
    host = smarthost(name.site)
    if host and not records:
        return f"publish an SPF record with the include: that the provider of {host} names"
    ips = () if host else seen
    if not records and not ips:
        best = "v=spf1 a -all" if name.is_host else "v=spf1 mx -all"
    else:
        kept = [without(record, await too_wide(name, record)) for record in records]
        best = merged(kept, await _uncovered(name, merged(kept, ()), ips))
        if await _uncovered(name, best, ips):
            best = merged(kept, ips, first=True)
        if await _uncovered(name, best, ips) or await _lets_others_pass(name, best):
            return "write the record anew, without the terms that do this"
    return f"{verb} ({_DOUBT}):\n{zone_line(name.name, printable(best, 8192))}"


async def too_wide(name: SpfName, record: str) -> list[str]:
    """The terms of a record that let nearly everyone pass, without `all`."""
    terms = sources(record)
    wide = await asyncio.gather(*(_lets_others_pass(name, f"v=spf1 {term}") for term in terms))
    return [term for term, is_wide in zip(terms, wide, strict=True) if is_wide]


async def _lets_others_pass(name: SpfName, record: str) -> bool:
    verdicts = await asyncio.gather(*(name.verdict(ip, record) for ip in NOBODY))
    return any(verdict.result == "pass" for verdict in verdicts)


async def _uncovered(name: SpfName, record: str, ips: Sequence[str]) -> list[str]:
    """The addresses that the record does not let pass."""
    verdicts = await asyncio.gather(*(name.verdict(ip, record) for ip in ips))
    return [ip for ip, verdict in zip(ips, verdicts, strict=True) if verdict.result != "pass"]
