"""One DNS list, asked as long as it can be believed.

Lists die, refuse resolvers that ask too often, and in the end list everybody. So a list is tested with what is never
listed (RFC 5782 section 5) before it is asked for the first time, and again from time to time. A list with a fault is
not asked, and nobody waits for it, but for one look-up now and then that finds out whether it has recovered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from relay.dns import DnsFailure, Resolver
from relay.dns_lists import answers
from relay.mail.reply import printable

log = structlog.get_logger()

PATIENCE = 4.0  # seconds for a question; a lost datagram is sent again by then
LONGEST = 8.0  # seconds for a look-up that waits for a test, or for others; that is no fault of the list
TEXT_PATIENCE = 2.0  # seconds more for the words of the list about a listing
TESTED_FOR = 60.0  # seconds that a test holds
PAUSE, LONGEST_PAUSE = 5.0, 300.0  # seconds until a list with a fault is asked again; doubled each time
QUESTIONS = 100  # in flight at most; others wait
TEXT = 200  # octets of the words of a list


class Fault(Exception):
    """The list cannot be believed; the text says why."""


class ListZone:
    """A zone of a DNS list, for one worker. Answers are kept by the resolver, and shared by those who wait for them.

    Args:
        names: whether it lists names; otherwise addresses.
        count: is told what came of each look-up: `listed`, `clean`, or `failed`, also where the list was not asked.
        clock: monotonic seconds.

    Attributes:
        problem: why the list is not believed now; empty where it is.
    """

    def __init__(
        self,
        zone: str,
        *,
        names: bool,
        resolver: Resolver,
        count: Callable[[str], None] = lambda outcome: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.zone = zone
        self.problem = ""
        self._points = answers.NEVER_LISTED_NAMES if names else answers.NEVER_LISTED
        self._resolver = resolver
        self._count = count
        self._clock = clock
        self._tested_until = 0.0
        self._test = asyncio.Lock()
        self._trial = asyncio.Lock()
        self._pause = PAUSE
        self._asked_again = 0.0  # when a list with a fault is
        self._room = asyncio.Semaphore(QUESTIONS)

    async def look_up(self, subject: str) -> Sequence[str] | None:
        """The answers of the list for an address or a name, none where it is not listed; None: the list has a fault."""
        found: Sequence[str] | None = None
        if not self.problem:
            found = await self._ask(subject, is_trial=False)
            if self.problem:  # found by another look-up meanwhile
                found = None
        elif not self._trial.locked() and self._clock() >= self._asked_again:
            async with self._trial:
                found = await self._ask(subject, is_trial=True)
                if found is not None:
                    self._recover()
        self._count("failed" if found is None else "listed" if found else "clean")
        return found

    async def text(self, subject: str) -> str:
        """The words of the list about a listing (RFC 5782 section 2.1), printable and short; empty without any."""
        try:
            async with asyncio.timeout(TEXT_PATIENCE):
                records = (await self._resolver.query(answers.question(self.zone, subject), "TXT")).records
        except (DnsFailure, TimeoutError):
            return ""
        words = " ".join(b"".join(strings).decode("latin-1") for strings in records[:1])
        return printable(" ".join(words.split()), TEXT)

    async def _ask(self, subject: str, *, is_trial: bool) -> Sequence[str] | None:
        """The answers; None where the list has a fault, or too many questions are under way."""
        try:
            async with asyncio.timeout(LONGEST):
                await self._ensure_tested(is_trial=is_trial)
                async with self._room:
                    if self.problem and not is_trial:
                        return None
                    return await self.answers(subject)
        except Fault as fault:
            self._fail(str(fault), is_trial=is_trial)
        except TimeoutError:  # it waited for the questions of others; whether these are answered, they find out
            pass
        return None

    async def _ensure_tested(self, *, is_trial: bool) -> None:
        """Test the list where that is due; look-ups at the same time wait for one test. Raises Fault."""
        if self._clock() < self._tested_until:
            return
        async with self._test:
            if self._clock() < self._tested_until or (self.problem and not is_trial):
                return
            await self.test()
            self._tested_until = self._clock() + TESTED_FOR

    async def test(self) -> None:
        """Look whether the list has what is never listed. Raises Fault."""
        for point, found in zip(self._points, await asyncio.gather(*map(self.answers, self._points)), strict=True):
            if found:
                raise Fault(f"it lists everything, {point} too ({found[0]})")

    async def answers(self, subject: str) -> Sequence[str]:
        """The answers for a subject, without a look at the state of the list. Raises Fault."""
        try:
            async with asyncio.timeout(PATIENCE):
                records = (await self._resolver.query(answers.question(self.zone, subject), "A")).records
        except DnsFailure as failure:
            raise Fault(f"no answer: {failure}") from None
        except TimeoutError:
            raise Fault(f"no answer within {PATIENCE:g} s") from None
        found = [str(record) for record in records]
        for answer in found:
            if answers.is_refusal(answer):
                raise Fault(f"it refuses our resolver ({answer})")
            if not answers.is_answer(answer):
                raise Fault(f"it answers {answer}, as no list does: the zone is gone, or the resolver is not honest")
        return found

    def _fail(self, problem: str, *, is_trial: bool) -> None:
        """The list has a fault. Of look-ups that were under way together, the first to find it counts."""
        if self.problem and not is_trial:
            return
        if not self.problem:
            log.error("dns_list_failed", zone=self.zone, problem=problem, effect="it lists nobody until it recovers")
        self.problem = problem
        self._tested_until = 0.0
        self._asked_again = self._clock() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _recover(self) -> None:
        log.info("dns_list_recovered", zone=self.zone)
        self.problem = ""
        self._pause = PAUSE
