"""Bounces of other hosts on their way home, where `srs.bounces = "rebuild"`: which of them become one of ours.

What cannot be read passes as it came, and the log says why. So does what would go round: an address to which bounces
go may lead back here, and since a new message has no hops to count, it bears a mark of that address.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from relay.bounce.multipart import Unreadable
from relay.bounce.rebuild import ReportingMta, rebuilt
from relay.mail.message import Message
from relay.mail.queue_id import text as id_text
from relay.queue.store import OURS, StoredMessage
from relay.route.loops import is_looping, kept_marks, mark_fields

log = structlog.get_logger()

OCTETS = 1 << 20  # of a report that is read: Postfix returns 50 kB of a message, Exim 100
AT_ONCE = 16 << 10  # octets that are read without a thread, in a few milliseconds whatever they are


class Returns:
    """Puts reports of ours in the place of others'."""

    def __init__(self, site: ReportingMta) -> None:
        self._site = site

    async def rebuilt(self, message: Message, number: int, home: str, now: float) -> StoredMessage | None:
        """Our report, as it is stored; None for a message that passes as it came.

        Args:
            number: the queue id of what came; it becomes that of the report.
            home: the sender behind the SRS address that it came to.
            now: seconds since 1970.
        """
        octets = len(message.content)
        work = partial(self._content, message, number, home, now)
        try:
            if octets > OCTETS:
                raise Unreadable(f"larger than {OCTETS} octets")
            content = await asyncio.to_thread(work) if octets > AT_ONCE else work()
        except Unreadable as error:
            log.info("bounce_passed", id=id_text(number), reason=str(error))
            return None
        log.info("bounce_rebuilt", id=id_text(number), home=home, size=octets)
        trace = kept_marks(message) + mark_fields([[home]], self._site.secrets)
        report = Message(content)
        return StoredMessage(number, now, "", trace, report, dict(OURS), smtputf8=report.has_utf8_header)

    def _content(self, message: Message, number: int, home: str, now: float) -> bytes:
        if is_looping(message, [[home]], self._site.secrets):
            raise Unreadable("it has been rebuilt for the same sender before")
        return rebuilt(message, self._site, to=home, unique=id_text(number), now=now)
