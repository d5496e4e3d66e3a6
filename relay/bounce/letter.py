"""The text for people in a delivery status notification, and its subject."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from relay.bounce.mime_part import MimePart
from relay.bounce.reasons import reason, span
from relay.bounce.report import Action, RecipientReport, Report, date_text

_OPENINGS: dict[Action, tuple[str, str]] = {
    "failed": ("Your message could not be delivered", "could not be delivered to:"),
    "delayed": ("Your message is delayed", "has not been delivered yet to:"),
    "delivered": ("Your message was delivered", "was delivered to:"),
    "relayed": ("Your message was passed on", "was passed on to a system that sends no confirmations, for:"),
    "expanded": ("Your message was passed on", "was passed on to the members of:"),
}


def subject(report: Report) -> str:
    """The subject of the notification, by its gravest action."""
    return next(subject for action, (subject, _) in _OPENINGS.items() if report.with_action(action))


def letter(report: Report, returned: MimePart) -> Iterator[str]:
    """The lines of the text.

    Args:
        returned: the part with the message that comes back, or its header; its body may be empty.
    """
    yield f"This is the mail system at {report.hostname}."
    for action, (_, opening) in _OPENINGS.items():
        recipients = report.with_action(action)
        if recipients:
            yield ""
            yield from textwrap.wrap(f"Your message of {date_text(report.arrived)} {opening}", 76)
        for recipient in recipients:
            yield ""
            yield f"    {recipient.address}"
            for sentences in _explanation(recipient, report):
                yield from _wrapped(sentences, indent=" " * 8)
    yield ""
    yield from _wrapped(
        f"Questions? Write to postmaster@{report.from_domain}, and quote {report.queue_id} at {report.hostname}. "
        f"For mail programs and administrators, the details{_also_attached(returned)} follow."
    )


def _wrapped(text: str, indent: str = "") -> list[str]:
    """The text in lines of 76 characters; an address or URL that is longer stays whole."""
    return textwrap.wrap(
        text, 76, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _also_attached(returned: MimePart) -> str:
    if not returned.body:
        return ""
    return " and its header" if "headers" in returned.content_type else " and your message"


def _explanation(recipient: RecipientReport, report: Report) -> Iterator[str]:
    if recipient.action not in ("failed", "delayed"):
        return
    why = reason(recipient.status, recipient.aliased)
    codes = recipient.codes
    yield f"{why.cause[:-1]} ({codes})." if codes else why.cause
    if codes and recipient.words:
        yield f'The receiving system said: "{recipient.words}"'
    if recipient.expired:
        yield f"This was tried again and again for {span(report.now - report.arrived)}, and is now given up."
    if recipient.action == "failed":
        yield why.remedy
    elif recipient.retry_until is not None:
        yield f"Attempts go on until {date_text(recipient.retry_until)}; you need not send it again."
    else:
        yield "Attempts go on; you need not send it again."
