"""Where recipients lead, with the metrics about SRS and reply addresses; also for own messages, which have no
client."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from relay.mail.address import domain_of
from relay.mail.reply import Refused
from relay.metrics import Metrics
from relay.route.router import Routed, Router, TableAway, Target
from relay.route.srs_reverse import RouteRequest
from relay.srs.reply_address import is_reply

log = structlog.get_logger()


class Recipients:
    """The router of one worker, with the metrics about return addresses."""

    def __init__(self, router: Router, metrics: Metrics) -> None:
        self.router = router
        self._metrics = metrics

    def count_refused(self, request: RouteRequest) -> None:
        """Count a refused recipient, where it is a return address."""
        if self.router.is_return_address(request.recipient):
            (self._metrics.replies if is_reply(request.recipient) else self._metrics.srs).add("rejected")

    def count_accepted(self, routed: Routed) -> None:
        """Count an accepted recipient, where it is a return address."""
        if routed.kind == "srs":
            self._metrics.srs.add("rejected" if routed.returned is not None and routed.returned.forged else "reversed")
        elif routed.kind == "reply":
            self._metrics.replies.add("reversed")

    async def targets_of_sender(self, sender: str) -> Sequence[Target]:
        """Where mail for a sender goes: to one of our own domains by its route, to others as anywhere; empty where it
        would be refused.

        Raises:
            TableAway: it is one of ours, and the tables that know the way cannot be asked now.
        """
        request = RouteRequest(sender, "", None, time.time())
        try:
            routed = await self.router.route(request, await self.router.reverse(request))
        except TableAway:
            if self.router.is_own(domain_of(sender)):
                raise
            return (Target(sender),)
        except Refused as refused:
            self.count_refused(request)
            log.info("sender_unreachable", sender=sender, reply=str(refused.reply))
            return ()
        self.count_accepted(routed)
        return routed.targets
