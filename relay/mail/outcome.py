"""The outcome of an attempt for one recipient: delivered, deferred or failed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from relay.mail.reply import printable

Status = Literal["delivered", "deferred", "failed"]

NO_CONNECTION = "4.4.1"  # RFC 3463 section 3.5: no answer from host


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt for one recipient.

    Attributes:
        status: `delivered` and `failed` are final; `deferred` is tried again.
        code: the reply code of the server, or ours where it gave none.
        enhanced: the enhanced status code (RFC 3463), always of the class of `status`, even where `code` is not.
        text: one line of printable ASCII, without the codes.
        host, address: name and IP address of the server; empty where none was reached or tried.
        tls: protocol version and cipher; empty without TLS.
        policy: the TLS policy that held (`deliver.tls_policy.PolicyName`); empty where no host was tried.
        dsn: whether the server accepted the DSN parameters (RFC 3461 section 5.2.2).
        remote: whether code and text are those of the server (RFC 3464 section 2.3.6, Diagnostic-Code) and not ours.
        unreachable: whether no host of the next hop answered MAIL: then the outcome is about the next hop as a whole.
        words: the text of the server's reply alone, for a bounce; `text` may have words of ours as well.
        individual: whether the server has replied about this recipient alone, and not about the transaction.
        phase: what the server's reply was to (`deliver.classify.Phase`); empty where it is not that of the server.
    """

    status: Status
    code: int
    enhanced: str
    text: str
    host: str = ""
    address: str = ""
    tls: str = ""
    dsn: bool = False
    remote: bool = False
    unreachable: bool = False
    words: str = field(default="", compare=False)
    individual: bool = field(default=False, compare=False)
    policy: str = ""
    phase: str = field(default="", compare=False)


def deferral(enhanced: str, text: str) -> Outcome:
    """A deferral that we decided ourselves, without a reply."""
    return Outcome("deferred", 451, enhanced, printable(text))


def failure(code: int, enhanced: str, text: str) -> Outcome:
    """A failure that we decided ourselves, without a reply."""
    return Outcome("failed", code, enhanced, printable(text))


def temporary(outcome: Outcome) -> Outcome:
    """The outcome with a failure turned into a deferral, for failures that are not about the recipient."""
    if outcome.status != "failed":
        return outcome
    return replace(outcome, status="deferred", enhanced="4" + outcome.enhanced[1:])
