"""Lines for a terminal: a heading, and labelled entries that are broken between words only.

An address is never broken: it is one word, also where it has a space (`"a b"@c.example`). A word that is wider than the
room beside the label stands on a line below it, and may go beyond the edge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from relay.mail.visible import visible

GOOD = frozenset(("pass",))
BAD = frozenset(("fail", "permerror", "temperror", "softfail", "policy"))

INDENT = 2
_WORD = re.compile(r'(?:[^\s"]*"(?:[^"\\]|\\.)*"@)?\S+')


def print_heading(console: Console, text: str) -> None:
    """Print a line that says what the entries below it are of."""
    for line in folded(Text(visible(text), "bold"), console.width):
        console.print(line, soft_wrap=True)


def print_entry(console: Console, label: str, text: Text, label_width: int) -> None:
    """Print a label and what it is of.

    Args:
        label_width: columns of the longest label, below which all texts begin.
    """
    column = INDENT + label_width + 2
    room = console.width - column
    if max((cell_len(word) for word in _WORD.findall(text.plain)), default=0) > room:
        console.print(f"{' ' * INDENT}{label}", soft_wrap=True)
        label, column = "", 2 * INDENT
        room = console.width - column
    for line in folded(text, room) or [Text()]:
        begin = f"{' ' * INDENT}{label}".ljust(column)
        console.print(Text(begin).append_text(line), soft_wrap=True)
        label = ""


def folded(text: Text, width: int) -> list[Text]:
    """The text in lines of at most `width` columns, broken between words; a wider word has a line of its own."""
    lines: list[Text] = []
    start = end = 0
    for word in _WORD.finditer(text.plain):
        if end > start and cell_len(text.plain[start : word.end()]) > width:
            lines.append(text[start:end])
            start = word.start()
        elif end == start:
            start = word.start()
        end = word.end()
    return [*lines, text[start:end]] if end > start else lines


def result_text(result: str) -> Text:
    """A result of a check, coloured by whether it is a good one."""
    return Text(visible(result), "green" if result in GOOD else "red" if result in BAD else "")


def labels_width(labels: Iterable[str]) -> int:
    """The columns that the longest of the labels takes."""
    return max(map(cell_len, labels), default=0)
