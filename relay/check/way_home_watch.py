"""What `serve` does about the way home: it is tried soon after the start and daily, and a break is said loudly.

One worker of one host does it. It is a task of its own, and mail never waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from relay.check import way_home
from relay.check.finding import Finding
from relay.check.leaving import leaving_addresses
from relay.check.site import Site
from relay.dns import Resolver
from relay.metrics import WAY_HOME, Metrics
from relay.process.supervisor import WorkerSetup
from relay.queue.database import QueueUnavailable
from relay.queue.store import Store

log = structlog.get_logger()

START_AFTER = 5.0  # seconds; all workers of this host listen by then
EVERY = 86400.0  # seconds
WHILE_BROKEN = 3600.0  # seconds: what is mended is seen within an hour
TURN = 60.0  # seconds between two looks whether this host is the one that does it, on PostgreSQL
APART = 600.0  # seconds between two trials at least, over reloads and dead workers
SECOND_TRY = APART  # seconds after a trial that proved nothing: DNS and hosts may come up after the relay does
AT_MOST = 150.0  # seconds for one trial; each host has 60, and DNS comes before that

_RESULTS = {"ok": "ok", "warning": "unproven", "error": "broken"}


def watch_way_home(setup: WorkerSetup, resolver: Resolver, store: Store) -> asyncio.Task[None] | None:
    """Begin to watch, in the first worker of a host; None in every other one."""
    if setup.index != 0:
        return None
    config = setup.config

    def site() -> Site:
        return Site(config, setup.files, resolver, leaving_addresses(config), time.time())

    watch = WayHomeWatch(site, setup.metrics, lambda: store.claims("way-home"))
    return asyncio.create_task(watch.run(), name="way-home")


class WayHomeWatch:
    """Tries the way home again and again.

    Args:
        site: what to look at, as it is at the moment.
        claim: whether this host is the one that does it; may raise QueueUnavailable.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        site: Callable[[], Site],
        metrics: Metrics,
        claim: Callable[[], Awaitable[bool]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._site = site
        self._metrics = metrics
        self._claim = claim
        self._clock = clock
        self._last = ""

    async def run(self) -> None:
        """Repeat it until the task is cancelled. Whatever goes wrong is logged."""
        pause = START_AFTER
        while True:
            await asyncio.sleep(max(pause, self._rest()))
            pause = WHILE_BROKEN
            try:
                pause = await self._try() if await self._claim() else TURN
            except QueueUnavailable as error:
                log.error("queue_unavailable", problem=str(error))
            except Exception:  # mail goes on without it
                log.exception("way_home_failed")

    def _rest(self) -> float:
        """Seconds until the next trial may be, after one of an earlier worker; the clock may have jumped back."""
        since = self._clock() - self._metrics.way_home_checked.get()
        return APART - since if 0 <= since < APART else 0.0

    async def _try(self) -> float:
        """One trial. Returns the seconds until the next one."""
        self._metrics.way_home_checked.set(self._clock())
        async with asyncio.timeout(AT_MOST):
            findings = await way_home.check(self._site())
        result = max((_RESULTS[finding.level] for finding in findings), key=WAY_HOME.index)
        for value in WAY_HOME:
            self._metrics.way_home.set(float(value == result), value)
        is_new = result != self._last
        for finding in findings:
            self._say(finding, again=is_new)
        self._last = result
        if result == "broken":
            return WHILE_BROKEN
        return SECOND_TRY if result == "unproven" and is_new else EVERY

    @staticmethod
    def _say(finding: Finding, *, again: bool) -> None:
        """Log it. What cannot be told from here is said `again` only after another result."""
        if finding.level == "error":
            log.error("way_home_broken", domain=finding.subject, problem=finding.text, mend=finding.mend)
        elif finding.level == "ok":
            log.info("way_home", domain=finding.subject, found=finding.text)
        elif again:
            log.warning("way_home_unproven", domain=finding.subject, problem=finding.text, mend=finding.mend)
