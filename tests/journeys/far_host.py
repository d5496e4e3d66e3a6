"""The world on the other end of a wire: `python -m tests.journeys.far_host ZONE ADDRESS…` in a network namespace.

It serves a zone file on port 53 of its first address and takes mail on port 25 of each. For every message it prints a
JSON object: where it came from, its envelope, and what pyspf says of its sender.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import dns.resolver
import dns.zone
import spf
from aiosmtpd.smtp import SMTP, Envelope, Session

from relay.cli.zone import ZoneServer


class Mailbox:
    """Takes every message and prints what is known about it."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        ip, sender, helo = (
            str((session.peer or ("",))[0]),
            (envelope.mail_from or "").strip("<>"),
            str(session.host_name),
        )
        asker = sender or f"postmaster@{helo}"
        result, *_ = await asyncio.to_thread(spf.check2, i=ip, s=asker, h=helo)
        seen = {"ip": ip, "helo": helo, "sender": sender, "recipients": envelope.rcpt_tos, "spf": result}
        print(json.dumps(seen), flush=True)
        return "250 2.0.0 Ok"


def records(text: str) -> dict[tuple[str, str], list[str]]:
    """The records of a zone file, for `ZoneServer`."""
    zone = dns.zone.from_text(text, origin=".", relativize=False, check_origin=False)
    return {
        (name.to_text(), rdataset.rdtype.name): [record.to_text() for record in rdataset]
        for name, rdataset in zone.iterate_rdatasets()
    }


async def main(zone_file: str, addresses: list[str]) -> None:
    """Serve until the process is ended."""
    await ZoneServer(records(Path(zone_file).read_text(encoding="utf-8"))).start(addresses[0], 53)
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [addresses[0]]
    dns.resolver.default_resolver = resolver
    loop = asyncio.get_running_loop()
    for address in addresses:
        await loop.create_server(lambda: SMTP(Mailbox(), hostname="mx.mailbox.example"), address, 25)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
