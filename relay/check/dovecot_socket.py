"""The socket of the Dovecot that checks logins: whether the relay may connect to it, and what Dovecot offers there."""

from __future__ import annotations

import asyncio

from relay.accounts.dovecot_connection import DovecotConnection
from relay.accounts.dovecot_unreachable import Unreachable, unix_listener
from relay.check.finding import Finding
from relay.check.service_user import refused, service_user
from relay.check.site import Site


async def look(site: Site) -> list[Finding]:
    """A finding for the socket; none where no Dovecot checks logins."""
    if site.config.auth is None or site.config.auth.dovecot is None:
        return []
    path = site.config.auth.dovecot
    user = await asyncio.to_thread(service_user, site.config)
    name = "" if user is None else user.name
    try:
        connection = await DovecotConnection.connect(path, name)
    except Unreachable as error:
        return [Finding("files", str(path), "error", f"no login can be checked: {error}", error.mend)]
    connection.end("the check is done")
    closed = await asyncio.to_thread(refused, user, {path: "w"}) if user is not None else []
    if user is not None and closed:
        text, mend = f"{name} may not connect to it", f"let Dovecot have: {unix_listener(path, name)}"
        return [Finding("files", str(path), "error" if user.certain else "warning", text, mend)]
    if not connection.mechanisms:
        mend = "set auth_mechanisms in dovecot.conf, such as `auth_mechanisms = plain login`"
        return [Finding("files", str(path), "error", "Dovecot has no mechanism that can be offered", mend)]
    return [Finding("files", str(path), "ok", f"Dovecot checks logins here: {', '.join(connection.mechanisms)}")]
