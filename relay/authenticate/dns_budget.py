"""How many questions to DNS one message may cost, so that nobody makes us ask hundreds for a few kilobytes.

One budget serves all checks of a transaction. A question counts once, whether the answer is in the cache or not, so
that the same message always comes to the same end. What counts for more may go further: each check stops at a mark of
its own, and what is above it is left for those that follow. In that order:

    SPF       to 75    ten look-ups take 10 to 40
    iprev     to 86    its 11 questions always fit
    ARC       to 90    what SPF leaves
    DKIM      to 100   the ten signatures that are looked at always fit
    authors   to 150   their policies, then alignment and kinship: six walks up the tree, where one author has one
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.dns import Answer, DnsFailure, Resolver, TooManyQuestions
from relay.mail.address import normal_domain

SPF, IPREV, ARC, DKIM, QUESTIONS = 75, 86, 90, 100, 150


@dataclass(frozen=True, slots=True)
class Share:
    """What one check may ask; a `Resolver`."""

    budget: Budget
    mark: int

    async def query(self, name: str, rdtype: str) -> Answer:
        """The answer.

        Raises:
            DnsFailure: temporary.
            TooManyQuestions: it is a new question past the mark.
        """
        return await self.budget.query(name, rdtype, self.mark)


class Budget:
    """Counts the questions of one transaction. A question that failed is not asked again for it."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._asked: dict[tuple[str, str], str] = {}  # and why there was no answer
        self.spf = Share(self, SPF)
        self.iprev = Share(self, IPREV)
        self.arc = Share(self, ARC)
        self.dkim = Share(self, DKIM)
        self.authors = Share(self, QUESTIONS)

    @property
    def asked(self) -> int:
        """Questions so far."""
        return len(self._asked)

    async def query(self, name: str, rdtype: str, mark: int) -> Answer:
        """As `Share.query`."""
        key = normal_domain(name), rdtype
        if key not in self._asked:
            if len(self._asked) >= mark:
                raise TooManyQuestions(f"{name} {rdtype} was not asked for: the message has too many questions to DNS")
            self._asked[key] = ""
        elif self._asked[key]:
            raise DnsFailure(self._asked[key])
        try:
            return await self._resolver.query(name, rdtype)
        except DnsFailure as failure:
            self._asked[key] = str(failure)
            raise
