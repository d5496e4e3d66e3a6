"""What follows from what the filters say of a message: a refusal, or what becomes of it on its way.

A virus goes before everything. The actions of rspamd mean what they mean to its milter, with two exceptions: no
existing field is changed, a subject neither; and its action "greylist" asks the client to come again. (Where rspamd
has Redis it does its greylisting itself, and says "soft reject". Without Redis it says "greylist" of the same message
each time, so that we have to know who has waited.)
"""

from __future__ import annotations

from collections.abc import Callable

from relay.content_filter.rspamd_answer import Opinion
from relay.content_filter.scanned import Scanned
from relay.content_filter.spam_fields import spam_fields
from relay.mail.reply import Refused

SOURCE = "filter.rspamd"  # the key that the log names
_SPAM = ("add header", "rewrite subject", "quarantine")


def refuse_virus(name: str) -> None:
    """Raises Refused 550 5.7.1, if there is a virus of this name."""
    if name:
        raise Refused(550, "5.7.1", f"the message has a virus: {name}")


def is_over(opinion: Opinion, max_score: float | None) -> bool:
    """Whether a message has a higher score than its recipients allow."""
    return max_score is not None and opinion.score is not None and opinion.score > max_score


def decide(opinion: Opinion, max_score: float | None, has_waited: Callable[[], bool]) -> Scanned:
    """What follows from an opinion of rspamd. An action that is not known lets the message pass, as it does in
    rspamd's milter.

    Args:
        max_score: over which the message is refused; None without a limit.
        has_waited: whether the client has come again after it was told to.

    Raises:
        Refused: 550 5.7.1 or 451 4.7.1.
    """
    action, text = opinion.action, " ".join(opinion.text.split())
    if action == "reject":
        raise Refused(550, "5.7.1", text or "the message was found to be spam")
    if action == "soft reject":
        raise Refused(451, "4.7.1", text or "the message cannot be taken now, try again later")
    if action == "discard":
        return Scanned(discarded=SOURCE)
    if is_over(opinion, max_score):
        raise Refused(550, "5.7.1", "the message looks too much like spam to be forwarded")
    if action == "greylist" and not has_waited():
        raise Refused(451, "4.7.1", text or "greylisted, try again in some minutes")
    is_spam = action in _SPAM
    return Scanned(
        fields=spam_fields(opinion.score, is_spam=is_spam),
        held=SOURCE if action == "quarantine" else "",
        doubt=f"rspamd: {action}" if is_spam else "",
    )
