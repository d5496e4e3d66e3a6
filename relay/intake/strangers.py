"""What is asked of strangers at RCPT: what they have to show, and what the DNS lists say of them.

One answer serves all recipients of a transaction. Trusted clients and users are not asked, and mail to postmaster comes
in without it, so that a host that is refused can ask why (RFC 5321 section 4.5.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import structlog

from relay.dns_lists.lists import Listed
from relay.intake.client_requirements import ClientRequirements
from relay.intake.origin import Origin
from relay.mail.address import split
from relay.mail.envelope import Client
from relay.mail.reply import Refused

log = structlog.get_logger()


class DnsLists(Protocol):
    """The DNS lists of `[clients]`."""

    async def look_up(self, client: Client, sender: str) -> Listed: ...


@dataclass(slots=True)
class StrangerCheck:
    """What is asked of the client of one transaction; None for what is not configured."""

    _requirements: ClientRequirements | None
    _lists: DnsLists | None
    _origin: Origin
    _found: Refused | str | None = None

    async def doubt(self, recipient: str) -> str:
        """Why the mail of the client is doubtful; empty where it is not.

        Raises:
            Refused: as `ClientRequirements.check`; 550 5.7.1, the DNS lists refuse the client, or 450 4.7.1 while it is
                not certain that they do.
        """
        if self._origin.client.trusted or split(recipient).local.lower() == "postmaster":
            return ""
        if self._found is None:
            try:
                self._found = await self._look()
            except Refused as refused:
                self._found = refused
        if isinstance(self._found, Refused):
            raise Refused.of(self._found.reply)
        return self._found

    async def _look(self) -> str:
        origin = self._origin
        if self._requirements is not None:
            await self._requirements.check(origin.client, origin.reverse)
        if self._lists is None:
            return ""
        listed = await self._lists.look_up(origin.client, origin.sender)
        if listed.refusal or listed.doubt:
            does = "refused" if listed.refusal else "doubtful"
            log.info(
                "dns_listed", id=origin.queue_id, ip=origin.client.ip, lists=listed.zones, score=listed.score, mail=does
            )
        if listed.refusal:
            code, enhanced = (450, "4.7.1") if listed.may_change else (550, "5.7.1")
            raise Refused(code, enhanced, listed.refusal)
        return listed.doubt
