"""Replaces bounces of other hosts that come back to a sender, where `srs.bounces = "rebuild"`, by bounces of ours.

A bounce that cannot be read passes as it came, and the log says why. So does one that would loop: the sender's address
may lead back here. A new message has no Received fields to count, so it bears a loop mark of the sender's address.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from relay.bounce.multipart import Unreadable
from relay.bounce.rebuild import ReportingMta, rebuilt
from relay.mail.message import Message
from relay.mail.queue_id import id_text
from relay.queue.store import StoredMessage
from relay.queue.stored_verdict import OWN_MESSAGE
from relay.route.loops import is_looping, kept_marks, mark_fields

log = structlog.get_logger()

OCTETS = 1 << 20  # of a report that is read: Postfix returns 50 kB of a message, Exim 100
AT_ONCE = 16 << 10  # octets that are read without a thread, in a few milliseconds whatever they are


class Returns:
    """Rebuilds the bounces that come back through one worker."""

    def __init__(self, site: ReportingMta) -> None:
        self._site = site

    async def rebuilt(self, message: Message, number: int, person: str, now: float) -> StoredMessage | None:
        """Our bounce, as it is stored; None for a message that passes as it came.

        Args:
            number: the id of the bounce that came; it becomes that of ours.
            person: the sender behind the SRS address that it came to.
            now: seconds since 1970.
        """
        octets = len(message.content)
        work = partial(self._content, message, number, person, now)
        try:
            if octets > OCTETS:
                raise Unreadable(f"larger than {OCTETS} octets")
            content = await asyncio.to_thread(work) if octets > AT_ONCE else work()
        except Unreadable as error:
            log.info("bounce_passed", id=id_text(number), reason=str(error))
            return None
        log.info("bounce_rebuilt", id=id_text(number), home=person, size=octets)
        trace = kept_marks(message) + mark_fields([[person]], self._site.secrets)
        report = Message(content)
        return StoredMessage(number, now, "", trace, report, OWN_MESSAGE, smtputf8=report.has_utf8_header)

    def _content(self, message: Message, number: int, person: str, now: float) -> bytes:
        if is_looping(message, [[person]], self._site.secrets):
            raise Unreadable("it has been rebuilt for the same sender before")
        return rebuilt(message, self._site, to=person, unique=id_text(number), now=now)
