"""The tables of the demo say what was measured, good or bad."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from relay.cli.demo_tour import FORGED, Findings
from relay.cli.demo_view import show
from relay.cli.second_opinion import Difference
from tests.cli.test_demo_tour import GOOD


def printed(findings: Findings, width: int = 120) -> str:
    output = io.StringIO()
    show(findings, Console(file=output, width=width, markup=False, emoji=False, highlight=False))
    return output.getvalue()


def rows(findings: Findings) -> dict[str, list[str]]:
    """The rows of all tables, by their first cell."""
    lines = [line.split("│")[1:-1] for line in printed(findings).splitlines() if "│" in line]
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


@pytest.mark.parametrize("width", [40, 80])
def test_no_address_is_broken_over_two_lines(width: int) -> None:
    srs = "SRS0=Ja9mPjtY=JS=shop.example=news@fwd.example"
    text = printed(replace(GOOD, arrived=replace(GOOD.arrived, sender=srs)), width)
    assert max(map(len, text.splitlines())) <= 80
    for address, times in ((srs, 3), ("news@shop.example", 3), (FORGED, 1)):
        lines = [line for line in text.splitlines() if address in line.replace(srs, "" if address != srs else srs)]
        assert len(lines) == times, address


def test_where_two_implementations_differ_both_are_shown() -> None:
    difference = Difference("DKIM", "fwd.example (a)", "policy", "pass", "l= leaves a part", "", "dkimpy 1")
    text = printed(replace(GOOD, differences=(difference,)))
    assert "DKIM of fwd.example (a): we say policy (l= leaves a part), dkimpy 1 says pass" in text
    assert "the same way" not in text and "the same way" in printed(GOOD)
