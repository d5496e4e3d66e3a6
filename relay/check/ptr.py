"""To be written."""

from __future__ import annotations

from relay.check.finding import Finding
from relay.check.site import Site


async def check(site: Site) -> list[Finding]:
    return []
