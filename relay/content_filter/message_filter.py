"""Asks rspamd and clamd about a message, at the same time and within one time limit, and follows what they say.

A filter that fails must not stop mail, or let nothing of it be seen: `filter.on_failure` decides about the message, and
the log and the metrics name each failure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog

from relay.authenticate.examination import Examination
from relay.config.model import Config
from relay.content_filter.clamd import Clamd, TooLarge
from relay.content_filter.decision import decide, is_over, refuse_virus
from relay.content_filter.rspamd_answer import Opinion
from relay.content_filter.rspamd_request import request_headers
from relay.content_filter.scanned import NoOpinion, Scanned, Unreachable
from relay.dns import Resolver
from relay.mail.address import domain_of
from relay.mail.arrival import Arrival
from relay.mail.reply import Refused
from relay.metrics import Metrics
from relay.rate.greylist import Greylist

if TYPE_CHECKING:
    from relay.content_filter.rspamd import Rspamd

log = structlog.get_logger()

CONCURRENT = 64  # messages of one process that are with the filters at a time; others wait, within the time limit
UNREACHABLE_SECONDS = 5.0  # for which a filter to whose host no connection came about is not asked again

T = TypeVar("T")


class MessageFilter:
    """The filter of one worker.

    Args:
        greylist: who has come again after "greylist".
    """

    def __init__(self, config: Config, resolver: Resolver, metrics: Metrics, greylist: Greylist) -> None:
        self._config = config
        self._metrics = metrics
        self._greylist = greylist
        section = config.filter
        self._rspamd: Rspamd | None = None
        if section.rspamd is not None:
            from relay.content_filter.rspamd import Rspamd  # and with it aiohttp

            self._rspamd = Rspamd(section.rspamd, resolver)
        self._clamd = None if section.clamav is None else Clamd(section.clamav, resolver)
        self._places = asyncio.Semaphore(CONCURRENT)
        self._unreachable_until: dict[str, float] = {}

    def max_score(self, addresses: Sequence[str]) -> float | None:
        """The lowest `max_score` of the destinations of these addresses; None where there is none."""
        found = (self._config.destinations.of(domain_of(address)) for address in addresses)
        limits = [table.max_score for table in found if table is not None and table.max_score is not None]
        return min(limits, default=None)

    async def scan(self, examination: Examination, max_score: float | None) -> Scanned:
        """Have a message read.

        Raises:
            Refused: 550 5.7.1, 451 4.7.1; 451 4.3.0, a filter failed, and `filter.on_failure` is "defer".
        """
        arrival, loop = examination.arrival, asyncio.get_running_loop()
        began = loop.time()
        content, judge, find_virus = arrival.message.content, None, None
        if self._rspamd is not None:
            judge = partial(self._rspamd.judge, content, request_headers(arrival, self._config.hostname))
        if self._clamd is not None:
            find_virus = partial(self._clamd.find_virus, content)
        opinion, virus = await asyncio.gather(
            self._within_time("rspamd", arrival, judge),
            self._within_time("clamd", arrival, find_virus),
        )
        self._report(arrival, opinion, virus, max_score, loop.time() - began)
        refuse_virus(virus if isinstance(virus, str) else "")
        scanned = Scanned()
        if isinstance(opinion, Opinion):
            scanned = decide(opinion, max_score, lambda: self._has_waited(arrival))
        failures = [one for one in (opinion, virus) if isinstance(one, NoOpinion) and not isinstance(one, TooLarge)]
        if failures and self._config.filter.on_failure == "defer":
            raise Refused(451, "4.3.0", "the message cannot be checked now, try again later")
        return scanned

    async def _within_time(
        self, name: str, arrival: Arrival, ask: Callable[[], Awaitable[T]] | None
    ) -> T | NoOpinion | None:
        """What a filter says, or why it says nothing; None for one that is not configured."""
        if ask is None:
            return None
        seconds, loop = self._config.filter.timeout, asyncio.get_running_loop()
        try:
            if loop.time() < self._unreachable_until.get(name, 0.0):
                raise NoOpinion("no connection came about a moment ago")
            async with asyncio.timeout(seconds), self._places:
                return await ask()
        except TimeoutError:
            failure = NoOpinion(f"no answer within {seconds:g} s")
        except NoOpinion as error:
            failure = error
            if isinstance(error, Unreachable):
                self._unreachable_until[name] = loop.time() + UNREACHABLE_SECONDS
        too_large = isinstance(failure, TooLarge)
        effect = "accept" if too_large else self._config.filter.on_failure
        log.warning("filter_failed", id=arrival.queue_id, filter=name, problem=str(failure), effect=effect)
        self._metrics.filter_failures.add(name)
        return failure

    def _has_waited(self, arrival: Arrival) -> bool:
        if arrival.client.user:
            return True  # a mail program shows its user the refusal, and does not come again by itself
        recipients = sorted(rcpt.recipient for rcpt in arrival.recipients)
        return self._greylist.passes("\n".join((arrival.sender, *recipients)), time.time())

    def _report(
        self,
        arrival: Arrival,
        opinion: Opinion | NoOpinion | None,
        virus: str | NoOpinion | None,
        max_score: float | None,
        seconds: float,
    ) -> None:
        said = opinion if isinstance(opinion, Opinion) else None
        found = virus if isinstance(virus, str) else ""
        if found:
            outcome = "virus"
        elif said is not None:
            outcome = "max_score" if is_over(said, max_score) else said.action
        else:
            outcome = "failed" if isinstance(opinion or virus, NoOpinion) else "clean"
        self._metrics.filtered.add(outcome)
        log.info(
            "filtered",
            id=arrival.queue_id,
            action=None if said is None else said.action,
            score=None if said is None or said.score is None else round(said.score, 2),
            required=None if said is None else said.required,
            max_score=max_score,
            symbols=(list(said.symbols) or None) if said is not None else None,
            virus=found or None,
            seconds=round(seconds, 3),
        )
