"""Who is told of a failure, a delay or a success: the sender who can be believed, and nobody else.

A notification to a forged sender is spam of our own making (backscatter). The envelope sender is believed where the
client is trusted, SPF passed, or a signature speaks for it; a domain that publishes no SPF gets a few, by an allowance.
What proves the author (DMARC) proves nothing here: whoever owns a domain can sign for it under anyone's MAIL FROM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from relay.bounce.dsn import Action
from relay.config.sections import BouncesTo
from relay.mail.address import domain_of

Fate = Literal["send", "dead", "none"]

_KEYWORDS: dict[Action, str] = {
    "failed": "FAILURE",
    "delayed": "DELAY",
    "delivered": "SUCCESS",
    "relayed": "SUCCESS",
    "expanded": "SUCCESS",
}


def fate(
    action: Action,
    *,
    sender: str,
    notify: str,
    verdict: Mapping[str, Any],
    to: BouncesTo,
    allowance: Callable[[str], bool],
) -> Fate:
    """What becomes of the notification about one recipient.

    Args:
        sender: the envelope sender as received, empty for the null sender.
        notify: the NOTIFY parameter of the recipient (RFC 3461 section 4.1), empty where there was none.
        verdict: what is stored of the message's checks (`Verdict.to_json`); a key that is missing proves nothing.
        to: `bounces.to`.
        allowance: whether a sender domain without SPF may have one more; asked only where the answer decides.

    Returns:
        `send` it; keep the message as `dead`, since it failed and nobody may be told (the null sender, RFC 5321
        section 4.5.5, or one that is not to be believed); or `none`, since nobody asked.
    """
    if sender and not _wanted(action, notify.upper(), bool(verdict.get("trusted"))):
        return "none"
    if sender and (to == "all" or _is_proven(verdict)):
        return "send"
    if sender and verdict.get("spf") == "none" and allowance(domain_of(sender)):
        return "send"
    return "dead" if action == "failed" else "none"


def _is_proven(verdict: Mapping[str, Any]) -> bool:
    """Whether the envelope sender is its owner's: by our trust, by SPF, or by a signature of a domain akin to it."""
    return bool(verdict.get("trusted") or verdict.get("spf") == "pass" or verdict.get("sender_aligned"))


def _wanted(action: Action, notify: str, trusted: bool) -> bool:
    """Without NOTIFY, everyone is told of failures and only our own clients of delays."""
    if notify:
        return _KEYWORDS[action] in notify.split(",")
    return action == "failed" or (action == "delayed" and trusted)
