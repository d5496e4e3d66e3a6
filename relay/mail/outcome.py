"""What became of one recipient in one attempt: delivered, deferred or failed, and what the server said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from relay.mail.reply import printable

Status = Literal["delivered", "deferred", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient in one attempt.

    Attributes:
        status: final (`delivered`, `failed`) or to be tried again (`deferred`).
        code: the remote's reply code; ours where it gave none.
        enhanced: RFC 3463 status, its class always that of `status`, whatever class `code` is of.
        text: one line of printable ASCII without the codes.
        host, address: the name and IP address of the server; empty where none was reached or tried.
        tls: protocol version and cipher; empty in clear.
        dsn: whether the server has taken over the DSN parameters (RFC 3461 section 5.2.2).
        remote: whether code and text are the server's words (RFC 3464 section 2.3.6, Diagnostic-Code) or ours.
        unreachable: whether it speaks of the next hop as a whole, no host of which got as far as answering MAIL.
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


def deferral(enhanced: str, text: str) -> Outcome:
    """A temporary condition that we found ourselves."""
    return Outcome("deferred", 451, enhanced, printable(text))


def failure(code: int, enhanced: str, text: str) -> Outcome:
    """A permanent condition that we found ourselves."""
    return Outcome("failed", code, enhanced, printable(text))


def temporary(outcome: Outcome) -> Outcome:
    """The same outcome, a failure taken as a deferral: it speaks of something that is not the recipient's fault."""
    if outcome.status != "failed":
        return outcome
    return replace(outcome, status="deferred", enhanced="4" + outcome.enhanced[1:])
