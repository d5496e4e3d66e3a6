"""Lines for a terminal are broken between words, and never inside of an address."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from relay.cli.entries import folded, labels_width, print_entry, print_heading, result_text


def lines(text: str, width: int) -> list[str]:
    return [line.plain for line in folded(Text(text), width)]


def printed(label: str, text: str, label_width: int, width: int = 40) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    print_entry(console, label, Text(text), label_width)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("", 10, []),
        ("   ", 10, []),
        ("one two three", 13, ["one two three"]),
        ("one two three", 12, ["one two", "three"]),
        ("one two three", 1, ["one", "two", "three"]),
        ("a verylongaddress@x.example b", 8, ["a", "verylongaddress@x.example", "b"]),
        ('to "a b c"@x.example now', 5, ["to", '"a b c"@x.example', "now"]),
        ('RCPT TO:<"a b c"@x.example> 250', 9, ["RCPT", 'TO:<"a b c"@x.example>', "250"]),
        ('"Shop News" <a@b.example>', 7, ['"Shop', 'News"', "<a@b.example>"]),
        ('an "odd quote@x.example y', 6, ["an", '"odd', "quote@x.example", "y"]),
        ("日本 語", 5, ["日本", "語"]),  # each takes two columns
    ],
)
def test_text_is_folded_between_words(text: str, width: int, expected: list[str]) -> None:
    assert lines(text, width) == expected


def test_folding_keeps_colours() -> None:
    text = Text("one ").append("two", "red")
    assert [span.style for span in folded(text, 3)[1].spans] == ["red"]


def test_texts_begin_below_each_other() -> None:
    assert printed("SPF", "pass  shop.example and more than fits", 5) == [
        "  SPF    pass  shop.example and more",
        "         than fits",
    ]
    assert printed("", "no label", -2) == ["  no label"]
    assert printed("SPF", "", 5) == ["  SPF    "]


def test_an_address_wider_than_the_room_beside_the_label_has_a_line_of_its_own() -> None:
    address = "a" * 20 + "@mailbox.example"
    assert printed("MAIL FROM", f"<{address}> (srs)", 9) == ["  MAIL FROM", f"    <{address}>", "    (srs)"]
    assert printed("MAIL FROM", f"<{address}>", 9, width=20) == ["  MAIL FROM", f"    <{address}>"]


def test_a_heading_is_made_harmless() -> None:
    console = Console(file=io.StringIO(), width=40, markup=False)
    print_heading(console, "To a\x1b[2J@x.example")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "To a\\x1b[2J@x.example\n"


def test_results_have_the_colour_of_what_they_mean() -> None:
    assert [str(result_text(result).style) for result in ("pass", "softfail", "none")] == ["green", "red", ""]


def test_the_width_of_labels() -> None:
    assert labels_width(["SPF", "DMARC"]) == 5 and labels_width([]) == 0
