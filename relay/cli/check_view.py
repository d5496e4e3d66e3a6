"""The findings of `srs-relay check` for a person: what is wrong first, each fault with its mend below it.

Lines are wrapped between words, on a terminal only. A name, an address and a record to publish are never broken, so
that they can be copied.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.text import Text

from relay.check.finding import Finding, Level
from relay.mail.visible import visible

SUBJECTS = 8  # of one line with what is good for many domains; --json has them all

_LEVELS: tuple[Level, ...] = ("error", "warning", "ok")
_STYLES = {"error": "bold red", "warning": "yellow", "ok": "green"}
_INDENT = " " * 22
_RECORD = re.compile(r"\S+\. \d+ IN ")


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print all findings, and how many there are of each level."""
    for line in _lines(findings, _width(console)):
        console.print(line, soft_wrap=True)
    console.print("", counts(findings), sep="\n")


def show_changes(before: Sequence[Finding], after: Sequence[Finding], when: str, console: Console) -> None:
    """Print what is not as it was in the round before.

    Args:
        when: the time of day, for a person.
    """
    known = {_identity(finding) for finding in before}
    new = [finding for finding in after if _identity(finding) not in known]
    subjects = {(finding.check, finding.subject) for finding in new}
    left = {_identity(finding) for finding in after}
    gone = [each for each in before if _identity(each) not in left and (each.check, each.subject) not in subjects]
    for line in _lines(new, _width(console)):
        console.print(line, soft_wrap=True)
    for finding in gone:
        console.print(_head("gone", "", finding.check, f"{finding.subject}: {finding.text}"), soft_wrap=True)
    console.print(f"{when} {counts(after)}{'' if new or gone else ', as before'}")


def counts(findings: Iterable[Finding]) -> str:
    """How many findings there are of each level."""
    levels = [finding.level for finding in findings]
    errors, warnings, ok = map(levels.count, _LEVELS)
    return f"{_number(errors, 'error')}, {_number(warnings, 'warning')}, {ok} ok"


def _number(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def _identity(finding: Finding) -> tuple[str, ...]:
    """What makes a finding another one; where all is good, the text may have figures of the moment."""
    return finding.check, finding.subject, finding.level, "" if finding.level == "ok" else finding.text


def _width(console: Console) -> int:
    """Columns; enough for any line where the output is no terminal, but a file or a pipe."""
    return max(console.width, len(_INDENT) + 40) if console.is_terminal else 10**6


def _lines(findings: Sequence[Finding], width: int) -> Iterator[Text]:
    mends = set[str]()
    for level in ("error", "warning"):
        for finding in (finding for finding in findings if finding.level == level):
            mend = "as above" if finding.mend in mends else finding.mend
            mends |= {finding.mend} - {""}
            yield from _wrapped(level, finding.check, f"{finding.subject}: {finding.text}", mend, width)
    hints = set[str]()
    for (check, text), good in _grouped(finding for finding in findings if finding.level == "ok"):
        subjects = [finding.subject for finding in good[:SUBJECTS]]
        more = f" and {len(good) - SUBJECTS} more" if len(good) > SUBJECTS else ""
        # What is good for one domain is hinted at once, and not for each of a hundred others.
        hint = "" if check in hints else next((finding.mend for finding in good if finding.mend), "")
        if hint:
            hints.add(check)
        yield from _wrapped("ok", check, f"{', '.join(subjects)}{more}: {text}", hint, width)


def _grouped(findings: Iterable[Finding]) -> Iterable[tuple[tuple[str, str], list[Finding]]]:
    """Findings with what they have in common: check and text."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.check, finding.text), []).append(finding)
    return groups.items()


def _wrapped(level: Level, check: str, text: str, mend: str, width: int) -> Iterator[Text]:
    first, *rest = _fold(text, width)
    yield _head(level, _STYLES[level], check, first)
    for line in rest:
        yield Text(_INDENT + line)
    word = "hint" if level == "ok" else "mend"
    for part in f"{word}: {mend}".split("\n") if mend else ():
        for line in [visible(part)] if _RECORD.match(part) else _fold(part, width):
            yield Text(_INDENT + line, "dim" if level == "ok" else "")


def _head(word: str, style: str, check: str, text: str) -> Text:
    return Text.assemble((f"{word:<9}", style), f"{check:<13}{visible(text)}")


def _fold(text: str, width: int) -> list[str]:
    columns = width - len(_INDENT)
    return textwrap.wrap(visible(text), columns, break_long_words=False, break_on_hyphens=False) or [""]
