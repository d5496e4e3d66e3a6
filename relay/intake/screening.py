"""What the access tables, the DNS lists and the filter say of the mail of one transaction.

At RCPT the tables are asked, those of the client, the sender and the recipient in this order, then the DNS lists; at
the end of DATA the filter. They come after the router and SPF, and can only refuse, hold, discard or doubt what would
be taken otherwise: nothing here gives a right to send anywhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from relay.access.tables import AccessTables, Decision
from relay.authenticate.examination import Examination
from relay.authenticate.iprev import Iprev
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict
from relay.mail.address import domain_of, split
from relay.mail.envelope import Client
from relay.mail.queue_id import id_text
from relay.mail.reply import ComeAgain, Refused

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Listed:
    """What the DNS lists say of a client.

    Attributes:
        refusal: the text of the refusal; empty where they do not refuse it.
        doubt: which lists make its mail doubtful; empty where none does.
    """

    refusal: str = ""
    doubt: str = ""


class DnsLists(Protocol):
    """The DNS lists of `[clients]`."""

    async def look_up(self, client: Client, sender: str) -> Listed: ...


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the filter makes of a message that it does not refuse.

    Attributes:
        fields: header fields to put on top.
        held: why it is to be held; empty otherwise.
        doubt: why it is doubtful; empty otherwise.
    """

    fields: bytes = b""
    held: str = ""
    doubt: str = ""


class ContentFilter(Protocol):
    """The filter of `[filter]`."""

    def max_score(self, addresses: Sequence[str]) -> float | None:
        """The lowest `max_score` of the destinations of these addresses; None where there is none."""
        ...

    async def scan(self, examination: Examination, max_score: float | None) -> Scanned:
        """Raises Refused: 550 5.7.1, 451 4.7.1, or 451 4.3.0 where the filter cannot be asked."""
        ...


@dataclass(frozen=True, slots=True)
class Judged:
    """What an access table says, for the log and for `explain`.

    Attributes:
        of: the client's address, the sender, or the recipient.
        problem: why the action does not count; empty where it does.
    """

    queue_id: str
    of: str
    decision: Decision
    problem: str = ""


def report(judged: Judged) -> None:
    """Logs what an access table says."""
    decision = judged.decision
    log.info(
        "access",
        id=judged.queue_id,
        table=decision.table,
        of=judged.of,
        matched=decision.key,
        action=decision.action.verb,
        text=decision.action.text or None,
        problem=judged.problem or None,
    )


@dataclass(frozen=True, slots=True)
class Screening:
    """What one worker asks; None for what is not configured.

    Attributes:
        watch: told of everything that an access table says; by default it is logged.
    """

    access: AccessTables | None = None
    lists: DnsLists | None = None
    content: ContentFilter | None = None
    watch: Callable[[Judged], None] = report

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to ask."""
        return self.access is not None or self.lists is not None or self.content is not None


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


@dataclass(slots=True)
class Screen:
    """The screening of one transaction.

    Args:
        id: of the message.
        spf: the SPF verdict on the sender; asked only for a client that is not trusted.
        name: looks for the confirmed name of the client's address.

    Attributes:
        held, discarded, doubt: what came of the accepted recipients, for the whole message; empty where nothing did.
    """

    _screening: Screening
    _id: int
    _client: Client
    _sender: str
    _spf: Callable[[], Awaitable[SpfVerdict]]
    _name: Callable[[], Awaitable[Iprev]]
    held: str = ""
    discarded: str = ""
    doubt: str = ""
    _policy: Policy | None = None
    _of_client: list[Decision | None] = field(default_factory=list)  # empty until it was asked for
    _of_sender: list[Decision | None] = field(default_factory=list)
    _sender_counts: bool = False

    async def recipient(self, recipient: str, targets: Sequence[str]) -> RcptVerdict:
        """What the tables and the lists say of a recipient.

        Raises:
            Refused: 550 5.7.1, 450 4.7.1, or as the table says; 451 4.3.5, it has a bad line; 451 4.3.0, it cannot be
                asked now.
            ComeAgain: 452 4.5.3, the recipient has another policy for the filter than those before it.
        """
        held, skips = "", False
        if self._screening.access is not None:
            for decision in await self._decisions(self._screening.access, recipient):
                verb = decision.action.verb
                if verb == "DISCARD":
                    return RcptVerdict(discarded=_reason(decision))
                held = held or (_reason(decision) if verb == "HOLD" else "")
                skips = skips or verb == "OK"
        doubt = "" if skips else await self._listed(recipient)
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
        content, policy = self._screening.content, self._policy or Policy()
        scanned = Scanned()
        if content is not None and not policy.skips and not self._sender_may_pass(examination.verdict):
            scanned = await content.scan(examination, policy.max_score)
        return Scanned(scanned.fields, self.held or scanned.held, scanned.doubt or self.doubt)

    async def _decisions(self, access: AccessTables, recipient: str) -> list[Decision]:
        """What the tables say that has to be done, down to the first `OK` or `DISCARD`.

        Raises:
            Refused: for `REJECT` and `DEFER`.
        """
        found = list[Decision]()
        for ask in (self._client_decision, self._sender_decision, partial(self._recipient_decision, recipient)):
            decision = await ask(access)
            if decision is None:
                continue
            if decision.action.reply is not None:
                raise Refused.of(decision.action.reply)
            found.append(decision)
            if decision.action.verb in ("OK", "DISCARD"):
                break
        return found

    async def _client_decision(self, access: AccessTables) -> Decision | None:
        if not self._of_client:
            decision = await access.client(self._client, self._name)
            self._tell(self._client.ip, decision)
            self._of_client.append(decision)
        return self._of_client[0]

    async def _sender_decision(self, access: AccessTables) -> Decision | None:
        """What is said of the sender; without an `OK` for one that may be forged."""
        if not self._of_sender:
            decision = await access.sender(self._sender)
            problem = "" if decision is None or decision.action.verb != "OK" else await self._why_uncertain()
            self._sender_counts = not problem
            self._tell(self._sender, decision, problem)
            self._of_sender.append(decision)
        return self._of_sender[0] if self._sender_counts else None

    async def _recipient_decision(self, recipient: str, access: AccessTables) -> Decision | None:
        decision = await access.recipient(recipient)
        self._tell(recipient, decision)
        return decision

    def _tell(self, of: str, decision: Decision | None, problem: str = "") -> None:
        if decision is not None:
            self._screening.watch(Judged(id_text(self._id), of, decision, problem))

    async def _why_uncertain(self) -> str:
        """Why the sender may be forged; empty where it cannot be: it is that of a user, or SPF passes for it."""
        if self._client.user:
            return ""
        if self._client.trusted:
            return "SPF is not checked for trusted clients"
        spf = await self._spf()
        return "" if spf.result == "pass" else f"SPF {spf.result}"

    def _sender_may_pass(self, verdict: Verdict) -> bool:
        """Whether the `OK` of a sender counts after the message was examined: SPF passes, or DMARC does for it."""
        decision = self._of_sender[0] if self._of_sender else None
        if decision is None or decision.action.verb != "OK":
            return False
        if verdict.spf is not None and verdict.spf.result == "pass":
            return True
        dmarc = verdict.dmarc
        return dmarc is not None and dmarc.result == "pass" and dmarc.domain == domain_of(self._sender)

    async def _listed(self, recipient: str) -> str:
        """Which DNS lists make the client's mail doubtful. Raises Refused 550 5.7.1, they refuse it."""
        lists = self._screening.lists
        if lists is None or self._client.trusted or split(recipient).local.lower() == "postmaster":
            return ""
        listed = await lists.look_up(self._client, self._sender)
        if listed.refusal:
            raise Refused(550, "5.7.1", listed.refusal)
        return listed.doubt

    def _policy_for(self, targets: Sequence[str], *, skips: bool) -> Policy:
        content = self._screening.content
        if content is None:
            return Policy()
        return Policy(True) if skips else Policy(False, content.max_score(targets))


def _reason(decision: Decision) -> str:
    return ": ".join(filter(None, (f"{decision.table} {decision.key}", decision.action.text)))
