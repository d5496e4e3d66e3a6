"""The filter of `[filter]`: whether rspamd and clamd answer, and whether the relay may connect to their sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from relay.check.finding import Finding, Level
from relay.check.service_user import refused, service_user
from relay.check.site import Site
from relay.config.values import Service
from relay.content_filter.clamd import Clamd
from relay.content_filter.scanned import NoOpinion


async def check(site: Site) -> list[Finding]:
    """A finding for each program; none where no filter is configured."""
    findings = []
    if (rspamd := site.config.filter.rspamd) is not None:
        from relay.content_filter.rspamd import Rspamd  # and with it aiohttp

        mend = "start rspamd, or set filter.rspamd to where its normal worker listens (bind_socket, port 11333)"
        findings.append(await _look(site, "rspamd", rspamd, Rspamd(rspamd, site.resolver).ping, mend))
    if (clamd := site.config.filter.clamav) is not None:
        mend = "start clamd, or set filter.clamav to where it listens (LocalSocket or TCPSocket in clamd.conf)"
        findings.append(await _look(site, "clamd", clamd, Clamd(clamd, site.resolver).ping, mend))
    return findings


async def _look(site: Site, name: str, service: Service, ping: Callable[[], Awaitable[None]], mend: str) -> Finding:
    lost = "mail passes unfiltered" if site.config.filter.on_failure == "accept" else "all mail is deferred"
    try:
        async with asyncio.timeout(site.config.filter.timeout):
            await ping()
    except TimeoutError:
        return Finding("filter", str(service), "error", f"{name} does not answer: {lost}", mend)
    except NoOpinion as error:
        return Finding("filter", str(service), "error", f"{name} does not answer ({error}): {lost}", mend)
    user = await asyncio.to_thread(service_user, site.config) if service.path else None
    closed = await asyncio.to_thread(refused, user, {Path(service.path): "w"}) if user is not None else []
    if user is not None and closed:
        level: Level = "error" if user.certain else "warning"
        mend = (
            f"add {user.name} to the group of the socket, or set the mode of the socket in the configuration of {name}"
        )
        return Finding("filter", str(service), level, f"{user.name} may not connect to {name}: {lost}", mend)
    return Finding("filter", str(service), "ok", f"{name} answers")
