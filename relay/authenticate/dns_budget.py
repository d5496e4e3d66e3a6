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

from dataclasses import dataclass

from relay.dns import Answer, DnsFailure, Resolver, TooManyQuestions
from relay.mail.address import normal_domain

SPF, IPREV, ARC, DKIM, QUESTIONS = 75, 86, 90, 100, 150


@dataclass(frozen=True, slots=True)
class BudgetedResolver:
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


class Budget:
    """Counts the questions of one transaction. A question that failed is not asked again in that transaction."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._failures: dict[tuple[str, str], str] = {}  # for each question so far; empty if it was answered
        self.spf = BudgetedResolver(self, SPF)
        self.iprev = BudgetedResolver(self, IPREV)
        self.arc = BudgetedResolver(self, ARC)
        self.dkim = BudgetedResolver(self, DKIM)
        self.authors = BudgetedResolver(self, QUESTIONS)

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
