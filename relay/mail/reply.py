"""SMTP replies that the relay gives to clients: code, enhanced status code (RFC 3463) and text."""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNPRINTABLE = re.compile("[^ -~]")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply to a command.

    Attributes:
        code: the reply code (RFC 5321 section 4.2).
        enhanced: `class.subject.detail` (RFC 3463); empty only where the protocol has none (220, 354, EHLO).
        text: one line of printable ASCII.
    """

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        if self.enhanced and self.text:
            return f"{self.code} {self.enhanced} {self.text}"
        return " ".join(filter(None, (str(self.code), self.enhanced, self.text)))

    @property
    def positive(self) -> bool:
        """Whether the reply accepts the command (2yz) or asks to go on (3yz)."""
        return self.code < 400

    @property
    def permanent(self) -> bool:
        """Whether the reply refuses the command for good (5yz)."""
        return self.code >= 500


class Refused(Exception):
    """A stage refuses the current command. The session answers with `reply` and goes on."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        self.reply = Reply(code, enhanced, printable(text))
        super().__init__(str(self.reply))

    @classmethod
    def of(cls, reply: Reply) -> Refused:
        """The refusal with a reply that was decided on before."""
        return cls(reply.code, reply.enhanced, reply.text)


class ComeAgain(Refused):
    """A recipient is refused because it is too many now: it is to come in another transaction, with the rest of them.
    That is no error of the client."""


def printable(text: str, limit: int = 400) -> str:
    """The text made safe for a reply line: printable ASCII, with `?` for other characters, at most `limit` long."""
    return _UNPRINTABLE.sub("?", text[:limit])
