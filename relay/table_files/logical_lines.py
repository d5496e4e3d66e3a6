"""The lines of a Postfix table: comments are left out, and an indented line continues the one above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class LogicalLine(NamedTuple):
    """What stands on one or more lines, with one blank where one ended.

    Attributes:
        numbers: of these lines.
        is_orphan: the first of them is indented and continues nothing, which is an error.
    """

    text: str
    numbers: Sequence[int]
    is_orphan: bool

    @property
    def number(self) -> int:
        """Of the first of these lines."""
        return self.numbers[0]


def logical_lines(text: str) -> Iterator[LogicalLine]:
    """The lines of a file, in their order. An indented line continues the one above past comments and empty lines."""
    numbers, parts, indented = list[int](), list[str](), False
    for number, line in enumerate(text.split("\n"), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        if line[0].isspace() and parts:
            parts.append(content)
            numbers.append(number)
            continue
        if parts:
            yield LogicalLine(" ".join(parts), numbers, indented)
        numbers, parts, indented = [number], [content], line[0].isspace()
    if parts:
        yield LogicalLine(" ".join(parts), numbers, indented)
