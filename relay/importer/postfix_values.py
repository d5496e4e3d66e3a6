"""Values of Postfix's parameters: numbers and times."""

from __future__ import annotations

import re

_TIME = re.compile(r"(\d+)([smhdw]?)", re.IGNORECASE)


def number(text: str) -> int | None:
    """The number; None if it is none."""
    return int(text) if text.isdecimal() else None


def duration(text: str, unit: str) -> str | None:
    """A time as we write it; None if it is none, or zero.

    Args:
        unit: the unit of a bare number: `s`, `m`, `h`, `d` or `w`.
    """
    match = _TIME.fullmatch(text.strip())
    return f"{int(match[1])}{match[2].lower() or unit}" if match is not None and int(match[1]) else None
