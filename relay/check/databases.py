"""The databases that have tables of the configuration: whether they answer."""

from __future__ import annotations

import asyncio

from relay.check.finding import Finding
from relay.check.site import Site
from relay.lookup.source import BadKey, Remembering, SourceUnavailable


async def look(site: Site) -> list[Finding]:
    """A finding for each database; none where there is none."""
    try:
        return list(await asyncio.gather(*[_ask(database, site) for database in site.files.opened.databases]))
    finally:
        await site.files.opened.close()


async def _ask(database: Remembering, site: Site) -> Finding:
    mend = "until it answers, mail for what it is asked about waits (451 4.3.0): see docs/tables.md"
    try:
        await database.get(f"postmaster@{site.config.hostname or site.config.srs.domain}")
    except BadKey as error:
        return Finding(
            "files", database.name, "warning", f"it cannot be asked for an address: {_why(error, database)}", mend
        )
    except SourceUnavailable as error:
        return Finding("files", database.name, "error", f"it cannot be asked: {_why(error, database)}", mend)
    return Finding("files", database.name, "ok", "the table in this database answers")


def _why(error: SourceUnavailable, database: Remembering) -> str:
    return str(error).removeprefix(f"{database.name}: ")
