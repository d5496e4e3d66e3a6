"""Asking the mailbox host whether a user exists, before we take mail for it: accepting first would mean bouncing later.

The answer is kept, so that a busy mailbox costs one question an hour, and a host that does not answer costs one
timeout, not one for every recipient. Who tries name after name soon gets no more questions asked, and however many
come, the mailbox host has its connections for the mail.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable

import structlog

from relay.address import lookup_key
from relay.deliver.reply import Outcome
from relay.network import Endpoint
from relay.rate import TokenBuckets
from relay.reply import Refused

log = structlog.get_logger()

Probe = Callable[[Endpoint, str], Awaitable[Outcome]]
"""MAIL FROM:<>, RCPT, RSET at a next hop: `failed` says that RCPT was refused for good, never anything before it."""

TIMEOUT = 60.0  # seconds for one question; the client that waits for its RCPT has five minutes (RFC 5321 4.5.3.2.3)
UNKNOWN_FOR = 300.0  # seconds for which a user stays unknown: a new mailbox should not have to wait
SILENT_FOR = 30.0  # seconds for which a host that did not answer is not asked again
ENTRIES = 10_000  # answers kept at most
AT_ONCE = 10  # questions to one host: half of the connections that mail for it may take by default
WAITING = 1000  # questions that wait for their turn, also those of clients that have gone meanwhile

_Key = tuple[Endpoint, str]


class Callout:
    """The questions, their answers, and the hosts that are silent.

    Args:
        probe: asks one host about one address.
        unknown: the rate of unknown users that a client may ask for.
        known_for: seconds for which a user stays known (`routes.callout_cache`).
        clock: monotonic seconds.
    """

    def __init__(
        self, probe: Probe, unknown: TokenBuckets, known_for: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._probe = probe
        self._known_for = known_for
        self._clock = clock
        self._answers: OrderedDict[_Key, tuple[bool, float]] = OrderedDict()
        self._silent_until: dict[Endpoint, float] = {}
        self._asking: dict[_Key, asyncio.Task[bool | None]] = {}
        self._turns: defaultdict[Endpoint, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._unknown = unknown

    async def exists(self, next_hop: Endpoint, address: str, stranger: str) -> bool:
        """Whether the host takes mail for the address.

        Args:
            stranger: the client that wants to know, as rates count it; empty for one that may ask without end.

        Raises:
            Refused: 451 4.4.1, it cannot be asked right now, or will not say yet; 450 4.7.1, it is not asked, because
                the client has asked for too many users that do not exist.
        """
        key = (next_hop, lookup_key(address))
        answer = self._remembered(key)
        if answer is None:
            if stranger and not self._unknown.has(stranger, self._clock()):
                raise Refused(450, "4.7.1", f"<{address}>: too many unknown users from {stranger}, try later")
            answer = await self._asked(key, address)
            if stranger and answer is False:
                self._unknown.take(stranger, self._clock())
        if answer is None:
            raise Refused(451, "4.4.1", f"<{address}>: the mailbox host does not answer for this user now, try later")
        return answer

    def _is_silent(self, next_hop: Endpoint) -> bool:
        return self._silent_until.get(next_hop, 0.0) > self._clock()

    def _remembered(self, key: _Key) -> bool | None:
        exists, until = self._answers.get(key, (False, 0.0))
        if until <= self._clock():
            return None
        self._answers.move_to_end(key)
        return exists

    async def _asked(self, key: _Key, address: str) -> bool | None:
        """The answer to the one question in flight; a client that hangs up does not take it from the others."""
        task = self._asking.get(key)
        if task is None:
            if self._is_silent(key[0]) or len(self._asking) >= WAITING:
                return None
            task = self._asking[key] = asyncio.create_task(self._in_turn(key, address))
            task.add_done_callback(lambda _: self._asking.pop(key))
        try:
            async with asyncio.timeout(TIMEOUT):
                return await asyncio.shield(task)
        except TimeoutError:
            return None  # it may still have its turn, and the answer is there when the client comes again

    async def _in_turn(self, key: _Key, address: str) -> bool | None:
        async with self._turns[key[0]]:
            return None if self._is_silent(key[0]) else await self._ask(key, address)

    async def _ask(self, key: _Key, address: str) -> bool | None:
        next_hop = key[0]
        try:
            async with asyncio.timeout(TIMEOUT):
                outcome = await self._probe(next_hop, address)
        except TimeoutError:
            silent, text = True, f"no answer within {TIMEOUT:g} s"
        else:
            if outcome.status != "deferred":
                self._remember(key, outcome.status == "delivered")
                return outcome.status == "delivered"
            silent, text = outcome.enhanced.startswith("4.4."), f"{outcome.code} {outcome.enhanced} {outcome.text}"
        log.warning("callout_deferred", next_hop=str(next_hop), recipient=address, answer=text)
        if silent:
            self._silent_until[next_hop] = self._clock() + SILENT_FOR
        return None

    def _remember(self, key: _Key, exists: bool) -> None:
        self._answers[key] = (exists, self._clock() + (self._known_for if exists else UNKNOWN_FOR))
        self._answers.move_to_end(key)
        if len(self._answers) > ENTRIES:
            self._answers.popitem(last=False)
