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

    def refuse_over_budget(self, queue_id: str, routes: Iterable[Routed], now: float, place: str = "") -> None:
        """Refuse doubtful mail that one of its destinations has no room for. Nothing is counted.

        Args:
            place: begins the text of the reply: the recipient, at RCPT.

        Raises:
            ComeAgain: 451 4.7.1, the budget of a destination is used up.
        """
        if self._budget is None:
            return
        for name in self._wanted(routes):
            if (what := self._budget.used_up(name, 0, now)) is not None:
                log.info("rate_used_up", id=queue_id, rate="doubtful", name=name, what=what)
                self._metrics.doubtful.add("put off")
                raise ComeAgain(451, "4.7.1", f"{place}too much doubtful mail goes there now, try again later")

    def count(self, arrival: Arrival, why: str, routes: Iterable[Routed]) -> None:
        """Count a doubtful message that is accepted."""
        log.info("doubtful", id=arrival.queue_id, reason=why)
        self._metrics.doubtful.add("accepted")
        if self._budget is not None:
            for name, recipients in self._wanted(routes).items():
                self._budget.charge(name, recipients, len(arrival.message.content), arrival.received)

    def _wanted(self, routes: Iterable[Routed]) -> Counter[str]:
        """The destinations of a message, each with its recipients. What comes back to a sender counts for nobody:
        providers do not take bounces for spam of ours."""
        return Counter(
            self._name(target.address) for routed in routes if not routed.persons for target in routed.targets
        )

    def _name(self, address: str) -> str:
        domain = domain_of(address)
        destination = self._destinations.of(domain)
        return domain if destination is None else destination.name
