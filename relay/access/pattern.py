"""Regular expressions as the left-hand side of a line: `/pattern/flags`, as Postfix's regexp_table(5) writes them.

Strangers choose the text that a pattern is tried on. Python's own expressions can take seconds for forty letters, and
for ever for some more; those of RE2 take a time that grows with the length of the text alone. They have no back
references and no look-around.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import re2

from relay.access.action import Action

MEMORY = 1 << 18  # octets that RE2 may use for one pattern
_WRITTEN = re.compile(r"(!?)/((?:\\.|[^\\/])*)/([A-Za-z]*)(?:\s+|\Z)")
_GROUP = re.compile(r"\$(?:(\$)|(\d+)|\{(\d+)\}|\((\d+)\))")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern.

    Attributes:
        written: as it stands in the file, for the log.
        negated: `!/pattern/` is for everything that the pattern does not match.
    """

    written: str
    negated: bool
    _regex: Any

    def match(self, text: str, action: Action) -> Action | None:
        """The action for a text that the line is for, with `$1` filled in; None for others.

        The text is whole: nothing is cut off or folded.
        """
        found = self._regex.search(text)
        if (found is None) != self.negated:
            return None
        if found is None or "$" not in action.text:
            return action
        filled = replace(action, text=_fill(action.text, found))
        if action.reply is None:
            return filled
        return replace(filled, reply=replace(action.reply, text=_fill(action.reply.text, found)))

    def check(self, action: Action) -> None:
        """Raises ValueError: the text of the action refers to a group that the pattern does not have."""
        groups = 0 if self.negated else self._regex.groups
        for number in _numbers(action.text):
            if number > groups:
                raise ValueError(f"${number}: the pattern has {groups} groups")


def is_pattern(line: str) -> bool:
    """Whether a line begins with a pattern, be it good or bad, or is part of an `if` of regexp_table(5)."""
    first = line.split(None, 1)[0].lower()
    return line.startswith(("/", "!")) or first in ("if", "endif")


def parse_pattern(line: str) -> tuple[Pattern, str]:
    """The pattern at the beginning of a line, and what stands behind it.

    Raises:
        ValueError: it cannot be read, or is no regular expression.
    """
    match = _WRITTEN.match(line)
    if match is None:
        if not line.startswith(("/", "!")):
            raise ValueError("if and endif are not read here: write the whole condition into each pattern")
        raise ValueError("the pattern has no end: it is written /pattern/ or /pattern/i, with \\/ for a slash in it")
    negation, regex, letters = match.groups()
    written = match[0].strip()
    if unknown := letters.strip("ims"):
        raise ValueError(f"{written}: there is no flag {unknown[0]}, only i, m and s")
    flags = "".join(sorted(set("i").symmetric_difference(letters)))  # as in Postfix, a flag turns off what is on
    options = re2.Options()
    options.max_mem, options.log_errors = MEMORY, False
    try:
        compiled = re2.compile(f"(?{flags}){regex}" if flags else regex, options)
    except re2.error as error:
        (reason,) = error.args
        raise ValueError(f"{written}: {reason.decode() if isinstance(reason, bytes) else reason}") from None
    return Pattern(written, bool(negation), compiled), line[match.end() :]


def _numbers(text: str) -> Iterator[int]:
    """The numbers of the groups that a text refers to."""
    for match in _GROUP.finditer(text):
        if not match[1]:
            yield int(match[2] or match[3] or match[4])


def _fill(text: str, found: Any) -> str:
    """The text with its `$1`, `${1}` or `$(1)` replaced by what the group matched, and `$$` by `$`."""
    return _GROUP.sub(lambda each: "$" if each[1] else found.group(int(each[2] or each[3] or each[4])) or "", text)
