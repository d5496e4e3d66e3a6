"""What becomes of doubtful mail where `[delivery.doubtful]` keeps it apart: a budget for each destination.

Doubtful is what the filter or the DNS lists find bad and do not refuse. It leaves by the source address of that table
(`queue.hop_keys.doubtful_hop`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from relay.config.destinations import Destinations
from relay.mail.address import domain_of
from relay.mail.arrival import Arrival
from relay.mail.reply import ComeAgain
from relay.metrics import Metrics
from relay.rate.traffic import Meter
from relay.route.router import Routed

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DoubtfulMail:
    """The doubtful mail that is taken in; `_budget` is None without a limit."""

    _destinations: Destinations
    _budget: Meter | None
    _metrics: Metrics

    def accept(self, arrival: Arrival, why: str, routes: Iterable[Routed]) -> None:
        """Count a doubtful message that is about to be accepted; all of its destinations have room, or none counts.

        What comes back to a sender counts for nobody: a bounce is not what a provider is angry about.

        Raises:
            ComeAgain: 451 4.7.1, the budget of a destination is used up.
        """
        log.info("doubtful", id=arrival.queue_id, reason=why)
        if self._budget is not None:
            wanted = Counter(
                self._name(target.address) for routed in routes if not routed.persons for target in routed.targets
            )
            for name in wanted:
                if (what := self._budget.used_up(name, 0, arrival.received)) is not None:
                    log.info("rate_used_up", id=arrival.queue_id, rate="doubtful", name=name, what=what)
                    self._metrics.doubtful.add("put off")
                    raise ComeAgain(451, "4.7.1", "too much doubtful mail for this recipient now, try again later")
            for name, recipients in wanted.items():
                self._budget.charge(name, recipients, len(arrival.message.content), arrival.received)
        self._metrics.doubtful.add("accepted")

    def _name(self, address: str) -> str:
        domain = domain_of(address)
        destination = self._destinations.of(domain)
        return domain if destination is None else destination.name
