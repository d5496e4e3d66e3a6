"""Asks the mailbox host whether a user exists, before we accept mail for it; otherwise we would have to bounce later.

Whether a user exists is kept, so that a busy mailbox costs one question an hour, and a host that does not answer costs
one timeout, not one for every recipient. A refusal for another reason, such as a full mailbox, is passed on in our own
text and not kept, since it may be over soon. A client that asks for many unknown users soon gets no more questions
asked, and the number of questions at once is limited, so that the host has connections left for the mail.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable

import structlog

from relay.mail.address import lookup_key
from relay.mail.outcome import Outcome, deferral
from relay.mail.reply import Refused
from relay.network import Endpoint
from relay.rate import TokenBuckets

log = structlog.get_logger()

Probe = Callable[[Endpoint, str], Awaitable[Outcome]]
"""MAIL FROM:<>, RCPT, RSET at a next hop; `failed` means that RCPT was refused for good, and nothing else."""

TIMEOUT = 60.0  # seconds for one question; the client that waits for its RCPT has five minutes (RFC 5321 4.5.3.2.3)
UNKNOWN_FOR = 300.0  # seconds for which a user stays unknown: a new mailbox should not have to wait long
SILENT_FOR = 30.0  # seconds for which a host that did not answer is not asked again
ENTRIES = 10_000  # answers kept at most
AT_ONCE = 10  # questions to one host: half of the connections that mail for it may take by default
WAITING = 1000  # questions that wait for their turn, with those of clients that have left meanwhile

_Key = tuple[Endpoint, str]
_Answer = bool | Outcome | None
"""Whether the user exists; the host's refusal for another reason; None where it was not asked or has not answered."""

# Statuses of RFC 3463 sections 3.2 and 3.3. A reply without one gets it by its code: 550, 551 and 553 mean the first.
_UNKNOWN = ("5.1.1", "5.1.3", "5.1.6", "5.1.10")  # no such mailbox, no address at all, moved, null MX (RFC 7505)
_STATES = {
    "2.1": "this mailbox is disabled",
    "2.2": "this mailbox is full",
    "2.3": "this mailbox takes no message of this size",
    "2.4": "this mailing list cannot be expanded",
}
_REFUSED = ("5.1.0", "5.1.4", "5.4.1")  # this address only; Exchange Online says 5.4.1 for users that are not listed
_MAILBOX_FULL = 552  # in reply to the only recipient; in a delivery it means too many recipients


class Callout:
    """Asks mailbox hosts, and keeps their answers and which hosts are silent.

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
        self._asking: dict[_Key, asyncio.Task[_Answer]] = {}
        self._turns: defaultdict[Endpoint, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._unknown = unknown

    async def exists(self, next_hop: Endpoint, address: str, stranger: str) -> bool:
        """Whether the host takes mail for the address.

        Args:
            stranger: the client, as rates count it; empty for a client without a limit.

        Raises:
            Refused: 451 4.4.1, the host cannot be asked now, or gives no answer yet; the host's own code and status for
                a mailbox that takes no mail; 450 4.7.1, the client has asked for too many users that do not exist.
        """
        key = (next_hop, lookup_key(address))
        answer: _Answer = self._remembered(key)
        if answer is None:
            if stranger and not self._unknown.has(stranger, self._clock()):
                raise Refused(450, "4.7.1", f"<{address}>: too many unknown users from {stranger}, try later")
            answer = await self._asked(key, address)
            if stranger and answer is False:
                self._unknown.take(stranger, self._clock())
        if isinstance(answer, bool):
            return answer
        if answer is not None and (status := _passed_on(answer)):
            text = _STATES.get(status[2:], "the mailbox host takes no mail for this address")
            raise Refused(answer.code, status, f"<{address}>: {text}")
        raise Refused(451, "4.4.1", f"<{address}>: the mailbox host does not answer for this user now, try later")

    def _is_silent(self, next_hop: Endpoint) -> bool:
        return self._silent_until.get(next_hop, 0.0) > self._clock()

    def _remembered(self, key: _Key) -> bool | None:
        exists, until = self._answers.get(key, (False, 0.0))
        if until <= self._clock():
            return None
        self._answers.move_to_end(key)
        return exists

    async def _asked(self, key: _Key, address: str) -> _Answer:
        """The answer to a question; clients that ask the same at once share it, even where one of them leaves."""
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
            return None  # the question goes on, and the answer may be there when the client comes again

    async def _in_turn(self, key: _Key, address: str) -> _Answer:
        async with self._turns[key[0]]:
            return None if self._is_silent(key[0]) else await self._ask(key, address)

    async def _ask(self, key: _Key, address: str) -> _Answer:
        next_hop = key[0]
        try:
            async with asyncio.timeout(TIMEOUT):
                outcome = await self._probe(next_hop, address)
        except TimeoutError:
            outcome = deferral("4.4.1", f"no answer within {TIMEOUT:g} s")
        exists = outcome.status == "delivered"
        if exists or (outcome.status == "failed" and outcome.enhanced in _UNKNOWN):
            self._remember(key, exists)
            return exists
        log.warning(
            "callout_refused" if _passed_on(outcome) else "callout_deferred",
            next_hop=str(next_hop),
            recipient=address,
            answer=f"{outcome.code} {outcome.enhanced} {outcome.text}",
        )
        if not outcome.remote and outcome.enhanced.startswith("4.4."):
            self._silent_until[next_hop] = self._clock() + SILENT_FOR
        return outcome

    def _remember(self, key: _Key, exists: bool) -> None:
        self._answers[key] = (exists, self._clock() + (self._known_for if exists else UNKNOWN_FOR))
        self._answers.move_to_end(key)
        if len(self._answers) > ENTRIES:
            self._answers.popitem(last=False)


def _passed_on(outcome: Outcome) -> str:
    """The status for the client, where the host refuses this mailbox only, for good or for now.

    Empty for a refusal that may concern any mailbox: policy, our session, a problem of the host.
    """
    status = outcome.enhanced
    if not outcome.remote:
        return ""
    if outcome.code == _MAILBOX_FULL and status.startswith(("4.2.", "4.5.3")):
        return f"5.{status[2:]}" if status.startswith("4.2.") else "5.2.2"
    of_mailbox = status[1:4] == ".2." and status[0] == str(outcome.code)[0]
    return status if of_mailbox or (outcome.status == "failed" and status in _REFUSED) else ""
