"""What a delivery status notification is about: one message, and what became of its recipients."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Literal

from relay.mail.message import Message

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]  # RFC 3464 section 2.3.3

STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")  # RFC 3463 section 2


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """What became of one recipient. Times are seconds since 1970.

    Attributes:
        address: as the sender gave it, never what an alias expands to.
        code: the reply code of the last attempt; 0 where the remote gave none.
        enhanced: its enhanced status code, or ours where there was no reply.
        expired: failed because `retry_for` ran out.
        aliased: whether it leads to another address, which the codes are about.
        words: the text of the remote's reply, one line of printable ASCII; empty where the sender may not read it.
        orcpt: the ORCPT parameter, as received.
        retry_until: when a delayed delivery will be given up.
    """

    address: str
    action: Action
    code: int = 0
    enhanced: str = ""
    expired: bool = False
    aliased: bool = False
    words: str = ""
    orcpt: str = ""
    last_attempt: float | None = None
    retry_until: float | None = None

    @property
    def codes(self) -> str:
        """The remote's codes without its text; an enhanced code of another class than the reply is not its own."""
        if not self.code:
            return ""
        own = STATUS.fullmatch(self.enhanced) and self.enhanced[0] == str(self.code)[0]
        return f"{self.code} {self.enhanced}" if own else str(self.code)

    @property
    def reply(self) -> str:
        """The remote's codes, with its words where the sender may read them."""
        return f"{self.codes} {self.words}".strip()

    @property
    def status(self) -> str:
        """The Status field. An expired delivery shows the actual problem where it is known (RFC 3463, X.4.7)."""
        allowed = {"failed": "54", "delayed": "4"}.get(self.action, "2")
        if STATUS.fullmatch(self.enhanced) and self.enhanced[0] in allowed:
            return self.enhanced
        if self.action == "failed" and self.expired:
            return "4.4.7"
        return f"{allowed[0]}.0.0"


@dataclass(frozen=True, slots=True)
class Report:
    """One notification about one message.

    Attributes:
        hostname: the reporting MTA.
        from_domain: the domain of MAILER-DAEMON, in ASCII; one whose DKIM key we hold.
        to: the true sender of the message, never empty.
        arrived, now: seconds since 1970.
        original: the message as it was received.
        unique: the unique part of the Message-ID, of letters, digits and dots.
        ret, envid: the parameters of MAIL (RFC 3461 sections 4.3 and 4.4), as received.
        tls_required: the value of TLS-Required in the message (RFC 8689 section 3), which its notification repeats
            (section 6); empty where it has none.
    """

    hostname: str
    from_domain: str
    to: str
    queue_id: str
    arrived: float
    now: float
    original: Message
    unique: str
    recipients: tuple[RecipientReport, ...]
    ret: str = ""
    envid: str = ""
    tls_required: str = ""

    def with_action(self, action: Action) -> list[RecipientReport]:
        """The recipients with this action."""
        return [recipient for recipient in self.recipients if recipient.action == action]


def date_text(seconds: float) -> str:
    """Seconds since 1970 as a date of RFC 5322, in UTC."""
    return format_datetime(datetime.fromtimestamp(int(seconds), UTC))
