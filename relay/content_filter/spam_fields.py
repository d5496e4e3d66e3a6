"""The fields in which the filter tells later readers what it found: X-Spam and X-Spam-Score.

What comes in under these names is not ours, and whoever sorts by them would believe it: it is removed, however it is
written. Nothing else of a header changes.
"""

from __future__ import annotations

from relay.authenticate.lenient_from import lenient_name
from relay.mail.message import HeaderField, Message

NAMES = ("x-spam", "x-spam-score")

_LENIENT_NAMES = tuple(lenient_name(name) for name in NAMES)


def spam_fields(score: float | None, *, is_spam: bool) -> bytes:
    """Our fields.

    Args:
        score: None where there is none.
    """
    verdict = b"X-Spam: Yes\r\n" if is_spam else b""
    if score is None:
        return verdict
    return verdict + b"X-Spam-Score: %.2f\r\n" % (round(score, 2) + 0.0)  # no "-0.00"


def strip_spam_fields(message: Message) -> tuple[Message, tuple[HeaderField, ...]]:
    """The message without the fields of others under our names, and these fields.

    A name counts also with what some readers drop from it: white space, control characters and octets beyond ASCII.
    """
    foreign = tuple(field for field in message.fields if _is_ours(field))
    return message.without(foreign), foreign


def _is_ours(field: HeaderField) -> bool:
    return field.name in NAMES or (not field.name and any(name.match(field.raw) for name in _LENIENT_NAMES))
