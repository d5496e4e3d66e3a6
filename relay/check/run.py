"""Runs the checks, side by side. Whatever happens in one of them is a finding, and none of them holds up the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from relay.check import (
    address,
    certificate,
    clock,
    content_filter,
    dane,
    disk,
    dkim,
    dmarc,
    dnsbl,
    dnssec,
    files,
    mta_sts,
    mx,
    open_relay,
    port25,
    ptr,
    resolver,
    spf,
    tls_rpt,
    way_home,
)
from relay.check.finding import CheckName, Finding
from relay.check.look_ups import unanswered
from relay.check.site import Site
from relay.dns import DnsFailure

SECONDS = 90.0  # for each check; a person waits for them

# With tables alone this is no mail host: the server beside it has a name, keys and listeners that are not known here.
OF_A_MAIL_HOST: frozenset[CheckName] = frozenset(("dkim", "ptr", "address", "certificate", "dane", "open-relay"))

Check = Callable[[Site], Awaitable[list[Finding]]]

# In the order of `CheckName`, in which the findings are shown.
CHECKS: dict[CheckName, Check] = {
    "spf": spf.check,
    "dkim": dkim.check,
    "dmarc": dmarc.check,
    "mx": mx.check,
    "ptr": ptr.check,
    "address": address.check,
    "certificate": certificate.check,
    "mta-sts": mta_sts.check,
    "tls-rpt": tls_rpt.check,
    "dane": dane.check,
    "dnssec": dnssec.check,
    "resolver": resolver.check,
    "port25": port25.check,
    "dnsbl": dnsbl.check,
    "clock": clock.check,
    "disk": disk.check,
    "files": files.check,
    "filter": content_filter.check,
    "open-relay": open_relay.check,
    "way-home": way_home.check,
}


async def run(site: Site, names: Iterable[CheckName]) -> list[Finding]:
    """The findings of the checks of these names, in the order of `CHECKS`. Never raises for what a check does."""
    wanted = set(names)
    results = await asyncio.gather(*(_one(name, check, site) for name, check in CHECKS.items() if name in wanted))
    return [finding for findings in results for finding in findings]


async def _one(name: CheckName, check: Check, site: Site) -> list[Finding]:
    if name in OF_A_MAIL_HOST and not site.config.takes_mail:
        text = "does not count: without [[listen]] another server receives and sends the mail"
        return [Finding(name, site.config.srs.domain, "ok", text)]
    try:
        async with asyncio.timeout(SECONDS):
            return await check(site)
    except TimeoutError:
        mend = f"`srs-relay check --only resolver` says whether DNS answers; `--skip {name}` leaves this check out"
        return [Finding(name, site.machine, "error", f"not finished within {SECONDS:g} s", mend)]
    except DnsFailure as failure:
        return [unanswered(name, site.machine, failure)]
    except Exception as error:
        text = f"the check itself failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        mend = f"please report it; `--skip {name}` leaves this check out"
        return [Finding(name, site.machine, "error", text, mend)]
