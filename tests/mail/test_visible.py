"""Text from outside on a terminal: what is shown is all there is, in the order in which it stands."""

from __future__ import annotations

import unicodedata

import pytest

from relay.mail.visible import quoted, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain <joe@shop.example>", "plain <joe@shop.example>"),
        (
            "J\u00f6rg \u7530\u4e2d \u0645\u0631\u062d\u0628\u0627",
            "J\u00f6rg \u7530\u4e2d \u0645\u0631\u062d\u0628\u0627",
        ),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x1b[2J\x9b1m\x7f\x00", r"\x1b[2J\x9b1m\x7f\x00"),
        ("moc.\u202elive\u2066x\u2069", r"moc.\u202elive\u2066x\u2069"),
        ("\u200bzero\u200dwidth\ufeff\u00ad", r"\u200bzero\u200dwidth\ufeff\xad"),
        ("\u2028\u2029\u0085", r"\u2028\u2029\x85"),
        ("\u3164\u115f\u2800\ufe0f\u034f", r"\u3164\u115f\u2800\ufe0f\u034f"),
        ("a\u00a0b\u2003c", r"a\xa0b\u2003c"),
        ("\U000e0041\U000e0101", r"\U000e0041\U000e0101"),
        ("caf\udce9", r"caf\udce9"),
    ],
)
def test_what_would_not_be_seen_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_every_character_that_controls_or_formats_is_escaped() -> None:
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
            assert visible(character).isascii(), hex(code)


def test_a_quoted_value_has_one_reading() -> None:
    assert quoted('a" b=\\u202e \u202e') == r'"a\" b=\\u202e \u202e"'
