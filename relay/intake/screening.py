"""What the access tables, the DNS lists and the filter say of the mail of one transaction.

At RCPT the tables are asked, those of the client, the sender and the recipient in this order, then what strangers have
to show, and the DNS lists; at the end of DATA the filter. They come after the router and SPF, and can only refuse,
hold, discard or doubt what would be taken otherwise: nothing here gives a right to send anywhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import structlog

from relay.authenticate.examination import Examination
from relay.authenticate.iprev import Iprev
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict
from relay.content_filter.scanned import Scanned
from relay.dns_lists.lists import Listed
from relay.intake.client_requirements import ClientRequirements
from relay.mail.address import domain_of, split
from relay.mail.envelope import Client
from relay.mail.reply import ComeAgain, Refused

log = structlog.get_logger()

Verb = Literal["OK", "REJECT", "DEFER", "HOLD", "DISCARD"]


@dataclass(frozen=True, slots=True)
class Action:
    """What an access table says.

    Attributes:
        text: behind the verb; may be empty.
        table: the key of the configuration that names the table, for the log.
    """

    verb: Verb
    text: str
    table: str


_NOT_ASKED = Action("DEFER", "", "")  # of a table that was not asked yet


class AccessTables(Protocol):
    """The access tables. Each method may raise Refused 451 4.3.5: the table cannot be read now, or its line is bad."""

    async def client(self, client: Client, name: Callable[[], Awaitable[str]]) -> Action | None:
        """What is said of a client; `name` finds the confirmed name of its address, empty where it has none."""
        ...

    async def sender(self, sender: str) -> Action | None: ...

    async def recipient(self, recipient: str) -> Action | None: ...


class DnsLists(Protocol):
    """The DNS lists of `[clients]`."""

    async def look_up(self, client: Client, sender: str) -> Listed: ...


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
    """What one worker asks; None for what is not configured."""

    access: AccessTables | None = None
    requirements: ClientRequirements | None = None
    lists: DnsLists | None = None
    content: ContentFilter | None = None

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


@dataclass(slots=True)
class Screen:
    """The screening of one transaction.

    Args:
        spf: the SPF verdict on the sender; asked only for a client that is not trusted.
        reverse: the look-up of the name of the client's address; None where the address is not known.
        queue_id: of the transaction, for the log.

    Attributes:
        held, discarded, doubt: what came of the accepted recipients, for the whole message; empty where nothing did.
    """

    _screening: Screening
    _client: Client
    _sender: str
    _spf: Callable[[], Awaitable[SpfVerdict]]
    _reverse: Callable[[], Awaitable[Iprev | None]]
    _queue_id: str
    held: str = ""
    discarded: str = ""
    doubt: str = ""
    _policy: Policy | None = None
    _of_client: Action | None = _NOT_ASKED
    _of_sender: Action | None = _NOT_ASKED
    _of_stranger: Refused | str | None = None

    async def recipient(self, recipient: str, targets: Sequence[str]) -> RcptVerdict:
        """What the tables and the lists say of a recipient.

        Raises:
            Refused: 550 5.7.1, 450 4.7.1; 451 4.3.5, a table cannot be asked now; as `ClientRequirements.check`.
            ComeAgain: 452 4.5.3, the recipient has another policy for the filter than those before it.
        """
        held, skips = "", False
        if self._screening.access is not None:
            for action in await self._actions(self._screening.access, recipient):
                if action.verb == "DISCARD":
                    return RcptVerdict(discarded=action.table)
                held = held or (action.table if action.verb == "HOLD" else "")
                skips = skips or action.verb == "OK"
        doubt = "" if skips else await self._doubt(recipient)
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
        return replace(scanned, held=self.held or scanned.held, doubt=scanned.doubt or self.doubt)

    async def _actions(self, access: AccessTables, recipient: str) -> list[Action]:
        """What the tables say that has to be done, down to the first `OK` or `DISCARD`.

        Raises:
            Refused: for `REJECT` and `DEFER`.
        """
        found = list[Action]()
        asked = (self._client_action, self._sender_action, lambda access: access.recipient(recipient))
        for ask in asked:
            action = await ask(access)
            if action is None:
                continue
            if action.verb == "REJECT":
                raise Refused(550, "5.7.1", action.text or "Access denied")
            if action.verb == "DEFER":
                raise Refused(450, "4.7.1", action.text or "Access denied, try again later")
            found.append(action)
            if action.verb in ("OK", "DISCARD"):
                break
        return found

    async def _client_action(self, access: AccessTables) -> Action | None:
        if self._of_client is _NOT_ASKED:
            self._of_client = await access.client(self._client, self._name)
        return self._of_client

    async def _sender_action(self, access: AccessTables) -> Action | None:
        """What is said of the sender; without an `OK` for one that may be forged."""
        if self._of_sender is _NOT_ASKED:
            self._of_sender = await access.sender(self._sender)
        action = self._of_sender
        if action is None or action.verb != "OK" or self._client.user:
            return action
        return action if not self._client.trusted and (await self._spf()).result == "pass" else None

    def _sender_may_pass(self, verdict: Verdict) -> bool:
        """Whether the `OK` of a sender counts after the message was examined: SPF passes, or DMARC does for it."""
        if self._of_sender is None or self._of_sender.verb != "OK":
            return False
        if verdict.spf is not None and verdict.spf.result == "pass":
            return True
        dmarc = verdict.dmarc
        return dmarc is not None and dmarc.result == "pass" and dmarc.domain == domain_of(self._sender)

    async def _doubt(self, recipient: str) -> str:
        """Why the mail of a stranger is doubtful; empty where it is not. One answer serves all recipients.

        Raises:
            Refused: the client does not show what it has to, or the DNS lists refuse it.
        """
        if self._client.trusted or split(recipient).local.lower() == "postmaster":
            return ""
        if self._of_stranger is None:
            try:
                self._of_stranger = await self._look_at_stranger()
            except Refused as refused:
                self._of_stranger = refused
        if isinstance(self._of_stranger, Refused):
            raise Refused.of(self._of_stranger.reply)
        return self._of_stranger

    async def _look_at_stranger(self) -> str:
        """As `_doubt`, of the client alone."""
        requirements, lists = self._screening.requirements, self._screening.lists
        if requirements is not None:
            await requirements.check(self._client, self._reverse)
        if lists is None:
            return ""
        listed = await lists.look_up(self._client, self._sender)
        if listed.refusal or listed.doubt:
            does = "refused" if listed.refusal else "doubtful"
            log.info(
                "dns_listed", id=self._queue_id, ip=self._client.ip, lists=listed.zones, score=listed.score, mail=does
            )
        if listed.refusal:
            code, enhanced = (450, "4.7.1") if listed.may_change else (550, "5.7.1")
            raise Refused(code, enhanced, listed.refusal)
        return listed.doubt

    async def _name(self) -> str:
        """The confirmed name of the client's address; empty where it has none."""
        found = await self._reverse()
        return "" if found is None else found.name

    def _policy_for(self, targets: Sequence[str], *, skips: bool) -> Policy:
        content = self._screening.content
        if content is None:
            return Policy()
        return Policy(True) if skips else Policy(False, content.max_score(targets))
