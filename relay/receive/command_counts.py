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


_FIELDS = {verb: verb.lower() for verb in VERBS}  # the names in the line


class CommandCounts:
    """The commands of one session, by verb.

    Attributes:
        last: the name under which the last command is counted: its verb, or `UNKNOWN`; before the first, `connect`.
    """

    def __init__(self) -> None:
        self.last = "connect"
        self._all: dict[str, int] = {}
        self._good: dict[str, int] = {}

    def came(self, verb: str) -> None:
        """Counts a command that came in."""
        self.last = name = verb if verb in _FIELDS else UNKNOWN
        self._all[name] = self._all.get(name, 0) + 1

    def was_good(self) -> None:
        """Counts the last command as good, once it has a positive final reply."""
        self._good[self.last] = self._good.get(self.last, 0) + 1

    def fields(self) -> dict[str, str]:
        """The fields of the log line: each verb that came, in lower case, and `commands` for all together."""
        good = self._good
        shown = {
            field: _ratio(good.get(verb, 0), self._all[verb]) for verb, field in _FIELDS.items() if verb in self._all
        }
        shown["commands"] = _ratio(sum(good.values()), sum(self._all.values()))
        return shown


def _ratio(good: int, all_: int) -> str:
    return str(all_) if good == all_ > 0 else f"{good}/{all_}"
