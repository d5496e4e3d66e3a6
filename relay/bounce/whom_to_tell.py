"""Decides who is told of a failure, a delay or a success: a sender who is proven, and nobody else.

A notification to a forged sender is backscatter. The envelope sender is proven where the client is trusted, SPF passed,
or a DKIM signature has the sender's organizational domain. A domain without SPF gets a few notifications, by an
allowance. DMARC proves the author, and not the sender: the owner of a domain can sign mail under anybody's MAIL FROM.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from relay.bounce.dsn import Action
from relay.config.sections import BouncesTo
from relay.mail.address import domain_of
from relay.queue.stored_verdict import StoredVerdict

Telling = Literal["send", "dead", "none"]

_KEYWORDS: dict[Action, str] = {
    "failed": "FAILURE",
    "delayed": "DELAY",
    "delivered": "SUCCESS",
    "relayed": "SUCCESS",
    "expanded": "SUCCESS",
}


def whom_to_tell(
    action: Action,
    *,
    sender: str,
    notify: str,
    verdict: StoredVerdict,
    to: BouncesTo,
    allowance: Callable[[str], bool],
) -> Telling:
    """What becomes of the notification about one recipient.

    Args:
        sender: the envelope sender as received, empty for the null sender.
        notify: the NOTIFY parameter of the recipient (RFC 3461 section 4.1), empty where there was none.
        verdict: what is stored of the message's examination.
        to: `bounces.to`.
        allowance: whether a sender domain without SPF may have one more; asked only where the answer decides.

    Returns:
        `send` it; keep the message as `dead`, since it failed and nobody may be told (the null sender, RFC 5321
        section 4.5.5, or one that is not proven); or `none`, since nobody asked.
    """
    if sender and not _wanted(action, notify.upper(), verdict.trusted):
        return "none"
    if sender and (to == "all" or verdict.sender_proven):
        return "send"
    if sender and verdict.spf == "none" and allowance(domain_of(sender)):
        return "send"
    return "dead" if action == "failed" else "none"


def _wanted(action: Action, notify: str, trusted: bool) -> bool:
    """Whether the sender wants to know. Without NOTIFY all senders hear of failures, and trusted clients of delays."""
    if notify:
        return _KEYWORDS[action] in notify.split(",")
    return action == "failed" or (action == "delayed" and trusted)
