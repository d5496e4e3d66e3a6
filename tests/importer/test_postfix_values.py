"""Numbers and times of Postfix."""

from __future__ import annotations

import pytest

from relay.importer.postfix_values import duration, number


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("5d", "d", "5d"),
        ("5", "d", "5d"),
        ("300s", "s", "300s"),
        ("4000", "s", "4000s"),
        ("1W", "d", "1w"),
        ("0", "s", None),
        ("x", "s", None),
    ],
)
def test_durations(text: str, unit: str, expected: str | None) -> None:
    assert duration(text, unit) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("10240000", 10240000), ("0", 0), ("", None), ("-1", None), ("x", None)]
)
def test_numbers(text: str, expected: int | None) -> None:
    assert number(text) == expected
