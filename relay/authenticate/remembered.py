"""Remembers the results of checks that ask DNS, each for as long as every answer behind it holds.

What a check finds depends on its arguments and on the answers of DNS, and on nothing else. While none of these answers
has expired, the same arguments lead to the same result, without evaluating records again.

A result from memory counts its questions against the budget of the message as if they were asked. So a message has the
same results whatever is remembered, and its limits are the same. A result behind which a question got no answer is not
remembered: the next message may have one.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from relay.authenticate.dns_budget import BudgetedResolver, Question
from relay.dns import Answer, Resolver
from relay.mail.address import normal_domain

# Of all results of one kind in a worker: some 2,000 usual ones. Clients choose how many questions a result has, and how
# long the names in it are.
OCTETS = 2 << 20
_ENTRY_OCTETS = 500  # of one result, besides its text
_QUESTION_OCTETS = 150  # of one of its questions, likewise

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class NotedQuestions:
    """Passes the questions of one check on to a resolver, and notes what the check rests on.

    Attributes:
        questions: those that were asked, each once, in their order.
        expires: until when all answers hold, by the clock of the resolver; 0 if one of them does not outlast the check,
            or is missing.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self.questions: dict[Question, None] = {}
        self.expires = math.inf

    async def query(self, name: str, rdtype: str) -> Answer:
        """As any `Resolver`. Raises DnsFailure."""
        self.questions[normal_domain(name), rdtype] = None
        try:
            answer = await self._resolver.query(name, rdtype)
        except BaseException:  # also where the check does not wait any longer
            self.expires = 0.0
            raise
        self.expires = min(self.expires, answer.expires)
        return answer


class _Entry(NamedTuple, Generic[T]):
    result: T
    questions: tuple[Question, ...]
    expires: float
    octets: int


class Remembered(Generic[K, T]):
    """The results of one kind of check, by its arguments. The results that were not used for longest are dropped first.

    Args:
        clock: of the resolver: monotonic seconds.
        octets: what all results may take, roughly.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, octets: int = OCTETS) -> None:
        self._clock = clock
        self._limit = octets
        self._octets = 0
        self._entries: OrderedDict[K, _Entry[T]] = OrderedDict()

    def find(self, key: K, resolver: BudgetedResolver) -> T | None:
        """The result for these arguments, whose questions are counted; None where the check has to be made."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= self._clock():
            self._forget(key)
            return None
        if not resolver.count(entry.questions):
            return None
        self._entries.move_to_end(key)
        return entry.result

    def keep(self, key: K, result: T, noted: NotedQuestions) -> None:
        """Remember the result of a check that has asked through `noted`, if its answers outlast it."""
        if not self._clock() < noted.expires < math.inf:
            return
        self._forget(key)
        questions = tuple(noted.questions)
        octets = _ENTRY_OCTETS + len(repr((key, result))) + sum(_QUESTION_OCTETS + len(name) for name, _ in questions)
        self._entries[key] = _Entry(result, questions, noted.expires, octets)
        self._octets += octets
        while self._octets > self._limit:
            self._forget(next(iter(self._entries)))

    def _forget(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._octets -= entry.octets
