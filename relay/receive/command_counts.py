"""Counts the commands of a session, and those that were good, for its `disconnect` line.

The form is Postfix's: `rcpt=1/3` for one good command of three, `rcpt=3` where all were good.
"""

from __future__ import annotations

UNKNOWN = "UNKNOWN"  # what a client says that is no command; its text may be anything, also a password

# The order of the line. A client cannot add names to it.
VERBS = (
    *("HELO", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "EXPN", "HELP"),
    *("ETRN", "QUIT", UNKNOWN),
)


def counted_as(verb: str) -> str:
    """The name under which a command is counted: its verb, or `UNKNOWN`."""
    return verb if verb in VERBS else UNKNOWN


class CommandCounts:
    """The commands of one session, by verb."""

    def __init__(self) -> None:
        self._all: dict[str, int] = {}
        self._good: dict[str, int] = {}

    def came(self, verb: str) -> None:
        """Counts a command that came in."""
        self._all[verb] = self._all.get(verb, 0) + 1

    def was_good(self, verb: str) -> None:
        """Counts it as good, once it has a positive final reply."""
        self._good[verb] = self._good.get(verb, 0) + 1

    def fields(self) -> dict[str, str]:
        """The fields of the log line: each verb that came, in lower case, and `commands` for all together."""
        shown = {verb.lower(): _ratio(self._good.get(verb, 0), self._all[verb]) for verb in VERBS if verb in self._all}
        return {**shown, "commands": _ratio(sum(self._good.values()), sum(self._all.values()))}


def _ratio(good: int, all_: int) -> str:
    return str(all_) if good == all_ > 0 else f"{good}/{all_}"
