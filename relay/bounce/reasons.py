"""Why a delivery did not succeed, for the person who wrote the message.

Each kind of enhanced status code (RFC 3463) has a sentence on the cause and one on what to do. They do not depend on
the text of the remote's reply, which may name the mailbox behind an alias; `letter` quotes it where that is not so.
"""

from __future__ import annotations

from typing import NamedTuple


class Reason(NamedTuple):
    """One sentence on what happened, one on what the sender can do."""

    cause: str
    remedy: str


_ANOTHER_WAY = "Please reach the recipient in another way."
_LATER = "Please try again later, or reach the recipient in another way."
_TOO_LARGE = Reason(
    "The message is larger than the receiving system accepts.",
    "Please send it without large attachments, or send a link to them.",
)
_NOT_ASCII = Reason(
    "A receiving system does not support addresses or headers with characters beyond ASCII.",
    "Please use an address made of plain ASCII characters, if the recipient has one.",
)
_INSECURE = Reason(
    "No connection to the receiving system could be made that is as safe as it has to be: its encryption or its "
    "certificate is at fault.",
    _LATER,
)
_NO_TLS_ALL_THE_WAY = Reason(
    "The message asks for encryption all the way (REQUIRETLS), and a mail system on the way does not promise that.",
    "Please send it without that demand, or reach the recipient in another way.",
)

# By subject, or subject and detail, of RFC 3463 section 3 and the registry of RFC 5248; the more specific counts.
_REASONS = {
    "0": Reason("The receiving system refused the message and gave no particular reason.", _ANOTHER_WAY),
    "1": Reason(
        "The address does not exist, or no longer does.",
        "Please check its spelling, or ask the recipient for the current address.",
    ),
    "1.2": Reason(
        "The domain of the address cannot be found, or does not take mail.",
        "Please check the spelling of what follows the @ sign.",
    ),
    "1.7": Reason(
        "The receiving system does not accept your own address as the sender.",
        "Please check how your mail program writes it, or ask your mail provider.",
    ),
    "2": Reason("The mailbox cannot take messages at present.", _LATER),
    "2.1": Reason("The mailbox is switched off, or takes no messages.", _ANOTHER_WAY),
    "2.2": Reason("The mailbox is full.", _LATER),
    "2.3": _TOO_LARGE,
    "3": Reason("The receiving system has a problem of its own.", _LATER),
    "3.4": _TOO_LARGE,
    "4": Reason("The receiving system could not be reached.", _LATER),
    "4.6": Reason(
        "The message went round in a circle between mail systems.",
        "This has to be mended by those who run them; please reach the recipient in another way.",
    ),
    "5": Reason("The mail systems on the way did not understand each other.", _ANOTHER_WAY),
    "5.3": Reason("The message has too many recipients.", "Please send it to fewer people at a time."),
    "6": Reason(
        "The receiving system cannot take a message of this form.",
        "Please send it as plain text, without special formatting or attachments.",
    ),
    "6.7": _NOT_ASCII,
    "6.9": _NOT_ASCII,
    "7.4": _INSECURE,
    "7.5": _INSECURE,
    "7.10": _NO_TLS_ALL_THE_WAY,
    "7.30": _NO_TLS_ALL_THE_WAY,
    "7": Reason(
        "The receiving system refused the message by its own rules, for example as unwanted mail or because it could "
        "not confirm where it came from.",
        "Please reach the recipient in another way, or ask your mail provider to look into it.",
    ),
}
_ALIASED = Reason("The mailbox behind the address does not exist, or no longer does.", _ANOTHER_WAY)
_REASONS["1.8"] = _REASONS["1.7"]
_REASONS["1.10"] = _REASONS["4.4"] = _REASONS["1.2"]
_OF_THE_RECIPIENT = (_REASONS["1"], _REASONS["1.2"])


def reason(status: str, aliased: bool = False) -> Reason:
    """The reason for an enhanced status code such as `5.1.1`; an unknown subject counts as 0, which gives none.

    Args:
        aliased: whether the code is about an address behind an alias. The alias, which the sender knows, exists.
    """
    detail = status.partition(".")[2]
    known = _REASONS.get(detail) or _REASONS.get(detail.partition(".")[0]) or _REASONS["0"]
    return _ALIASED if aliased and known in _OF_THE_RECIPIENT else known


def span(seconds: float) -> str:
    """A length of time in everyday units: `5 days`, `1 hour`, `20 minutes`."""
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = round(seconds / length)
        if count >= 1 and seconds >= length * 0.95:
            return f"{count} {unit}" + "s" * (count > 1)
    return "a moment"
