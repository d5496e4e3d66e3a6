"""The tables of the demo say what was measured, good or bad."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from relay.cli.demo_tour import Findings
from relay.cli.demo_view import show
from tests.cli.test_demo_tour import GOOD


def rows(findings: Findings) -> dict[str, list[str]]:
    """The rows of all tables, by their first cell."""
    output = io.StringIO()
    show(findings, Console(file=output, width=120, markup=False, emoji=False, highlight=False))
    lines = [line.split("│")[1:-1] for line in output.getvalue().splitlines() if "│" in line]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_what_was_measured_is_shown() -> None:
    table = rows(GOOD)
    assert table["MAIL FROM"] == ["news@shop.example", "SRS0=x"]
    assert table["content"] == ["14 octets", "the same 14 octets, below new fields"]
    assert table["without rewriting"] == ["news@shop.example", "fail"]
    assert table["with rewriting"] == ["SRS0=x", "pass"]
    assert table["fwd.example"] == ["a", "rsa-sha256", "pass"]
    assert table["A"] == ["b"], "the field that was added"
    assert table["at the sender"] == ["news@shop.example", "arrived from <>"]


@pytest.mark.parametrize(
    ("changes", "row", "cell"),
    [
        ({"original": b"Subject: b\r\n\r\n"}, "content", "changed"),
        ({"spf_with": "softfail"}, "with rewriting", "softfail"),
        ({"arc": "none"}, "ARC", "none"),
        ({"refused": "250 2.0.0 Ok"}, "forged", "250 2.0.0 Ok"),
        ({"returned": replace(GOOD.returned, sender="x@y.example")}, "at the sender", "wrong"),
    ],
)
def test_what_is_not_as_it_must_be_is_shown(changes: dict[str, object], row: str, cell: str) -> None:
    assert rows(replace(GOOD, **changes))[row][-1] == cell  # type: ignore[arg-type]
