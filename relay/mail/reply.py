"""An SMTP reply as the relay itself gives it: code, enhanced status code (RFC 3463) and text."""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNPRINTABLE = re.compile("[^ -~]")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply.

    Attributes:
        code: three digits of RFC 5321 section 4.2.
        enhanced: `class.subject.detail` of RFC 3463; empty only where the protocol allows none (220, 354, EHLO).
        text: printable ASCII, one line an element.
    """

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        return " ".join(filter(None, (str(self.code), self.enhanced, self.text)))

    @property
    def positive(self) -> bool:
        return self.code < 400

    @property
    def permanent(self) -> bool:
        return self.code >= 500


class Refused(Exception):
    """A stage refuses the command at hand; the session answers with `reply` and goes on."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        self.reply = Reply(code, enhanced, printable(text))
        super().__init__(str(self.reply))


def printable(text: str, limit: int = 400) -> str:
    """Text from elsewhere made safe for a reply line: printable ASCII, `?` for the rest, at most `limit` octets."""
    return _UNPRINTABLE.sub("?", text[:limit])
