"""What the access tables decide for the mail of one transaction.

The tables of the client, the sender and the recipient are asked in this order, as far as the first `OK` or `DISCARD`.
The `OK` of a sender counts only where the sender cannot be forged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from relay.access.tables import AccessTables, Decision
from relay.authenticate.verdict import Verdict
from relay.intake.origin import Origin
from relay.mail.address import domain_of
from relay.mail.reply import Refused

log = structlog.get_logger()


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


@dataclass(slots=True)
class AccessDecisions:
    """The access tables, asked for one transaction: once for the client and the sender, and for each recipient.

    Args:
        watch: told of everything that a table says.
    """

    _tables: AccessTables
    _origin: Origin
    _watch: Callable[[Judged], None]
    _of_client: list[Decision | None] = field(default_factory=list)  # empty until it was asked for
    _of_sender: list[Decision | None] = field(default_factory=list)
    _sender_counts: bool = False

    async def of_recipient(self, recipient: str) -> list[Decision]:
        """What has to be done with the mail for a recipient, down to the first `OK` or `DISCARD`.

        Nothing is asked for `<postmaster>` without a domain: whoever is refused here can ask there why, as in Postfix
        (RFC 5321 section 4.5.1).

        Raises:
            Refused: for `REJECT` and `DEFER`, by default 550 5.7.1 and 450 4.7.1; 451 4.3.5, the table has a bad line;
                451 4.3.0, it cannot be asked now.
        """
        found = list[Decision]()
        if recipient.lower() == "postmaster":
            return found
        ask: Callable[[], Awaitable[Decision | None]]
        for ask in (self._client, self._sender, lambda: self._recipient(recipient)):
            decision = await ask()
            if decision is None:
                continue
            if decision.action.reply is not None:
                raise Refused.of(decision.action.reply)
            found.append(decision)
            if decision.action.verb in ("OK", "DISCARD"):
                break
        return found

    def sender_may_pass(self, verdict: Verdict) -> bool:
        """Whether the `OK` of a sender counts after the message was examined: SPF passes, or DMARC does for it."""
        decision = self._of_sender[0] if self._of_sender else None
        if decision is None or decision.action.verb != "OK":
            return False
        if verdict.spf is not None and verdict.spf.result == "pass":
            return True
        dmarc = verdict.dmarc
        return dmarc is not None and dmarc.result == "pass" and dmarc.domain == domain_of(self._origin.sender)

    async def _client(self) -> Decision | None:
        if not self._of_client:
            decision = await self._tables.client(self._origin.client, self._origin.reverse)
            self._tell(self._origin.client.ip, decision)
            self._of_client.append(decision)
        return self._of_client[0]

    async def _sender(self) -> Decision | None:
        """What is said of the sender; without an `OK` for one that may be forged."""
        if not self._of_sender:
            decision = await self._tables.sender(self._origin.sender)
            problem = "" if decision is None or decision.action.verb != "OK" else await self._why_uncertain()
            self._sender_counts = not problem
            self._tell(self._origin.sender, decision, problem)
            self._of_sender.append(decision)
        return self._of_sender[0] if self._sender_counts else None

    async def _recipient(self, recipient: str) -> Decision | None:
        decision = await self._tables.recipient(recipient)
        self._tell(recipient, decision)
        return decision

    def _tell(self, of: str, decision: Decision | None, problem: str = "") -> None:
        if decision is not None:
            self._watch(Judged(self._origin.queue_id, of, decision, problem))

    async def _why_uncertain(self) -> str:
        """Why the sender may be forged; empty where it cannot be: it is that of a user, or SPF passes for it."""
        if self._origin.client.user:
            return ""
        if self._origin.client.trusted:
            return "SPF is not checked for trusted clients"
        spf = await self._origin.spf()
        return "" if spf.result == "pass" else f"SPF {spf.result}"
