"""TLS reports (RFC 8460): whether the record that asks for them is good, for each domain that we receive for."""

from __future__ import annotations

import re

from relay.check.domains import receiving_domains
from relay.check.finding import Finding
from relay.check.look_ups import for_each, malformed, texts
from relay.check.site import Site
from relay.mail.reply import printable
from relay.mail.tag_list import Unverified, tag_list
from relay.sign.keys import zone_line

_URI = re.compile(r"mailto:[^\s@,;]+@[^\s@,;]+\Z|https://[^\s,;]+\Z", re.IGNORECASE)


async def check(site: Site) -> list[Finding]:
    """What the TLSRPT records say."""

    async def look(domain: str) -> list[Finding]:
        name = f"_smtp._tls.{domain}"
        line = zone_line(name, f"v=TLSRPTv1; rua=mailto:tls-reports@{domain}")
        records = await texts(site.resolver, name, "v=TLSRPTv1")
        fault = fault_of(records)
        if not records and (record := await malformed(site.resolver, name, "v=TLSRPTv1")):
            fault = f"the record does not begin with v=TLSRPTv1: {printable(record, 80)}"
        if not records and not fault:
            hint = f"with this record (and that mailbox) senders report daily where TLS fails\n{line}"
            return [Finding("tls-rpt", domain, "ok", "no reports are asked for", hint)]
        if fault:
            return [
                Finding(
                    "tls-rpt", domain, "warning", f"{fault}, so that no reports come", f"publish one, such as\n{line}"
                )
            ]
        return [Finding("tls-rpt", domain, "ok", f"reports are asked for: {printable(records[0])}")]

    return await for_each("tls-rpt", receiving_domains(site), look)


def fault_of(records: list[str]) -> str:
    """What is wrong with the TLSRPT records of a name (RFC 8460 section 3); empty where nothing is."""
    if not records:
        return ""
    if len(records) > 1:
        return f"there are {len(records)} TLSRPT records, and more than one count as none"
    try:
        rua = tag_list(records[0]).get("rua", "")
    except Unverified as error:
        return f"the TLSRPT record cannot be read ({error})"
    if not rua:
        return "the TLSRPT record has no rua="
    bad = [uri.strip() for uri in rua.split(",") if not _URI.match(uri.strip())]
    return f"rua={printable(bad[0])} is neither a mailto: nor an https: address" if bad else ""
