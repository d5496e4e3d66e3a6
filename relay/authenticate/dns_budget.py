"""Limits the DNS questions that one message may cause, so that a few kilobytes cannot make us ask hundreds.

All checks of a transaction share one budget. A question counts once, also if the answer comes from the cache, so that
the same message always has the same result. Each check stops at a limit of its own, and the more important checks may
go further: what is above a limit is left for the checks that follow. In their order:

    SPF       to 75    ten look-ups take 10 to 40
    iprev     to 86    its 11 questions always fit
    ARC       to 90    what SPF leaves
    DKIM      to 100   the ten signatures that are verified always fit
    authors   to 150   policies, alignment, organizational domains: six tree walks, where one author needs one
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from relay.dns import Answer, DnsFailure, Resolver, TooManyQuestions
from relay.mail.address import normal_domain

SPF, IPREV, ARC, DKIM, QUESTIONS = 75, 86, 90, 100, 150

Question = tuple[str, str]  # a normal name, and a type


class BudgetedResolver(NamedTuple):
    """The `Resolver` of one check, which asks within the limit of that check."""

    budget: Budget
    limit: int

    async def query(self, name: str, rdtype: str) -> Answer:
        """The answer.

        Raises:
            DnsFailure: temporary.
            TooManyQuestions: the question is new, and the limit is reached.
        """
        return await self.budget.query(name, rdtype, self.limit)

    def count(self, questions: Collection[Question]) -> bool:
        """Counts questions whose answers are known already, as if they were asked now.

        Returns:
            Whether all of them would have been answered. If not, none is counted.
        """
        return self.budget.count(questions, self.limit)


class Budget:
    """Counts the questions of one transaction. A question that failed is not asked again in that transaction."""

    __slots__ = ("_failures", "_resolver")

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._failures: dict[Question, str] = {}  # for each question so far; empty if it was answered

    @property
    def spf(self) -> BudgetedResolver:
        return BudgetedResolver(self, SPF)

    @property
    def iprev(self) -> BudgetedResolver:
        return BudgetedResolver(self, IPREV)

    @property
    def arc(self) -> BudgetedResolver:
        return BudgetedResolver(self, ARC)

    @property
    def dkim(self) -> BudgetedResolver:
        return BudgetedResolver(self, DKIM)

    @property
    def authors(self) -> BudgetedResolver:
        return BudgetedResolver(self, QUESTIONS)

    @property
    def asked(self) -> int:
        """The number of questions so far."""
        return len(self._failures)

    async def query(self, name: str, rdtype: str, limit: int) -> Answer:
        """As `BudgetedResolver.query`."""
        key = normal_domain(name), rdtype
        if key not in self._failures:
            if len(self._failures) >= limit:
                raise TooManyQuestions(f"{name} {rdtype} was not asked for: the message has too many questions to DNS")
            self._failures[key] = ""
        elif self._failures[key]:
            raise DnsFailure(self._failures[key])
        try:
            return await self._resolver.query(name, rdtype)
        except DnsFailure as failure:
            self._failures[key] = str(failure)
            raise

    def count(self, questions: Collection[Question], limit: int) -> bool:
        """As `BudgetedResolver.count`."""
        if not self._failures.keys().isdisjoint(questions):
            if any(self._failures.get(question) for question in questions):
                return False
            questions = [question for question in questions if question not in self._failures]
        if len(self._failures) + len(questions) > limit:
            return False
        self._failures.update(dict.fromkeys(questions, ""))
        return True
