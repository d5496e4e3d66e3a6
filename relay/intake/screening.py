"""What the access tables, the DNS lists and the filter say of the mail of one transaction.

At RCPT the access tables are asked, then what strangers have to show, and the DNS lists; at the end of DATA the filter.
They come after the router and SPF, and can only refuse, hold, discard or doubt what would be taken otherwise: nothing
here gives a right to send anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from relay.access.tables import AccessTables, Decision
from relay.authenticate.examination import Examination
from relay.content_filter.scanned import Scanned
from relay.intake.access_decisions import AccessDecisions, Judged, report
from relay.intake.client_requirements import ClientRequirements
from relay.intake.origin import Origin
from relay.intake.strangers import DnsLists, StrangerCheck
from relay.mail.reply import ComeAgain


class ContentFilter(Protocol):
    """The filter of `[filter]`."""

    def max_score(self, addresses: Sequence[str]) -> float | None:
        """The lowest `max_score` of the destinations of these addresses; None where there is none."""
        ...

    async def scan(self, examination: Examination, max_score: float | None) -> Scanned:
        """Raises Refused: 550 5.7.1, 451 4.7.1, or 451 4.3.0 where the filter cannot be asked."""
        ...


@dataclass(frozen=True, slots=True)
class Screening:
    """What one worker asks; None for what is not configured.

    Attributes:
        watch: told of everything that an access table says; by default it is logged.
    """

    access: AccessTables | None = None
    requirements: ClientRequirements | None = None
    lists: DnsLists | None = None
    content: ContentFilter | None = None
    watch: Callable[[Judged], None] = report

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to ask."""
        asks_of_client = self.requirements is not None or self.lists is not None
        return asks_of_client or self.access is not None or self.content is not None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the filter is to do for a recipient; all recipients of a transaction have the same.

    Attributes:
        skips: whether an access table lets the recipient's mail pass the filter.
        max_score: over which the recipient's mail is refused; None without a limit.
    """

    skips: bool = False
    max_score: float | None = None


@dataclass(frozen=True, slots=True)
class RcptVerdict:
    """What was found at the RCPT of a recipient that may be accepted. Each text is empty where there is nothing."""

    policy: Policy = Policy()
    held: str = ""
    discarded: str = ""
    doubt: str = ""


class Screen:
    """The screening of one transaction.

    Attributes:
        held, discarded, doubt: what came of the accepted recipients, for the whole message; empty where nothing did.
    """

    def __init__(self, screening: Screening, origin: Origin) -> None:
        self._content = screening.content
        access = screening.access
        self._access = None if access is None else AccessDecisions(access, origin, screening.watch)
        self._strangers = StrangerCheck(screening.requirements, screening.lists, origin)
        self._policy: Policy | None = None
        self.held = self.discarded = self.doubt = ""

    async def recipient(self, recipient: str, targets: Sequence[str]) -> RcptVerdict:
        """What the tables and the lists say of a recipient.

        Raises:
            Refused: as `AccessDecisions.of_recipient` and `StrangerCheck.doubt`.
            ComeAgain: 452 4.5.3, the recipient has another policy for the filter than those before it.
        """
        held, skips = "", False
        for decision in () if self._access is None else await self._access.of_recipient(recipient):
            verb = decision.action.verb
            if verb == "DISCARD":
                return RcptVerdict(discarded=_reason(decision))
            held = held or (_reason(decision) if verb == "HOLD" else "")
            skips = skips or verb == "OK"
        doubt = "" if skips else await self._strangers.doubt(recipient)
        policy = self._policy_for(targets, skips=skips)
        if self._policy is not None and policy != self._policy:
            raise ComeAgain(452, "4.5.3", "this recipient has another policy for the message, send it on its own")
        return RcptVerdict(policy, held, "", doubt)

    def accept(self, verdict: RcptVerdict) -> None:
        """The recipient of this verdict was accepted."""
        self.held = self.held or verdict.held
        self.discarded = self.discarded or verdict.discarded
        self.doubt = self.doubt or verdict.doubt
        if not verdict.discarded:
            self._policy = verdict.policy

    async def message(self, examination: Examination) -> Scanned:
        """What the filter makes of the message, and what the tables and lists have said of it before.

        Raises:
            Refused: as `ContentFilter.scan`.
        """
        policy = self._policy or Policy()
        scanned = Scanned()
        sender_passes = self._access is not None and self._access.sender_may_pass(examination.verdict)
        if self._content is not None and not policy.skips and not sender_passes:
            scanned = await self._content.scan(examination, policy.max_score)
        return replace(scanned, held=self.held or scanned.held, doubt=scanned.doubt or self.doubt)

    def _policy_for(self, targets: Sequence[str], *, skips: bool) -> Policy:
        if self._content is None:
            return Policy()
        return Policy(True) if skips else Policy(False, self._content.max_score(targets))


def _reason(decision: Decision) -> str:
    return ": ".join(filter(None, (f"{decision.table} {decision.key}", decision.action.text)))
