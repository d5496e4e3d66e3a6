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


_PLACES = {verb: place for place, verb in enumerate(VERBS)}
_FIELDS = [verb.lower() for verb in VERBS]  # the names in the line
_NONE = [0] * len(VERBS)


class CommandCounts:
    """The commands of one session, by verb."""

    def __init__(self) -> None:
        self._all = _NONE.copy()
        self._good = _NONE.copy()
        self._place: int | None = None  # of the last command

    @property
    def last(self) -> str:
        """The name under which the last command is counted: its verb, or `UNKNOWN`; before the first, `connect`."""
        return "connect" if self._place is None else VERBS[self._place]

    def came(self, verb: str) -> None:
        """Counts a command that came in."""
        self._place = place = _PLACES.get(verb, _PLACES[UNKNOWN])
        self._all[place] += 1

    def was_good(self) -> None:
        """Counts the last command as good, once it has a positive final reply."""
        assert self._place is not None
        self._good[self._place] += 1

    def fields(self) -> dict[str, str]:
        """The fields of the log line: each verb that came, in lower case, and `commands` for all together."""
        counts = zip(_FIELDS, self._good, self._all, strict=True)
        shown = {field: _ratio(good, all_) for field, good, all_ in counts if all_}
        shown["commands"] = _ratio(sum(self._good), sum(self._all))
        return shown


def _ratio(good: int, all_: int) -> str:
    return str(all_) if good == all_ > 0 else f"{good}/{all_}"
