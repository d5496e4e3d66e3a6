"""Mailbox lists as mail programs read them, and fields that all of them read alike.

tests/rewrite/test_from_field.py has the From fields of whole messages.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.mailbox_list import AUTHORS, NAME_CHARACTERS, Author, clean, decoded, field, read, text_of


@pytest.mark.parametrize(
    ("value", "mailboxes"),
    [
        ("joe@a.example", [("", "joe@a.example")]),
        ("Joe <joe@a.example>", [("Joe", "joe@a.example")]),
        (
            '"Joe, the \\"J\\"" <joe@a.example>, ann@b.example',
            [('Joe, the "J"', "joe@a.example"), ("", "ann@b.example")],
        ),
        ("joe@a.example (Joe)", [("Joe", "joe@a.example")]),
        ("Group: joe@a.example, Ann <ann@b.example>;", [("", "joe@a.example"), ("Ann", "ann@b.example")]),
        ("<@relay.example:joe@a.example>", [("", "joe@a.example")]),
        ("<<joe@a.example>>", [("", "joe@a.example")]),
        ("Joe <mailto:joe@a.example?subject=x>", [("Joe", "joe@a.example")]),
        ("joe @ a . example", [("", "joe@a.example")]),
        ("=?utf-8?q?J=C3=B6rg?= <joe@a.example>", [("J\u00f6rg", "joe@a.example")]),
        ("nobody, joe@a.example", [("", "joe@a.example")]),
        ("Joe <nobody>", []),
        ("", []),
    ],
)
def test_what_is_read(value: str, mailboxes: list[tuple[str, str]]) -> None:
    assert read(value) == [Author(*mailbox) for mailbox in mailboxes]


def test_so_many_and_no_more() -> None:
    assert len(read(", ".join(f"u{n}@a.example" for n in range(AUTHORS + 5)))) == AUTHORS


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("=?utf-8?b?SsO2cmc=?=", "J\u00f6rg"),
        ("=?utf-8?b?SsM=?= =?utf-8?b?tnJn?=", "J\u00f6rg"),
        ("a =?iso-8859-1?q?=E9?= b", "a \u00e9 b"),
        ("=?no-such-charset?q?abc?=", "abc"),
        ("=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
    ],
)
def test_encoded_words(text: str, plain: str) -> None:
    assert decoded(text) == plain


def test_octets_that_are_no_utf_8_are_windows_1252() -> None:
    assert text_of("J\u00f6rg".encode()) == text_of(b"J\xf6rg") == "J\u00f6rg"


def test_a_clean_name_hides_nothing_and_looks_like_no_address() -> None:
    assert clean(" joe@bank.example\r\n\u202e x") == "joe at bank.example x"
    assert len(clean("x" * 500)) == NAME_CHARACTERS


printable = st.text(st.characters(min_codepoint=32, exclude_categories=("C", "Z")) | st.just(" "), max_size=40)


@given(st.lists(printable, min_size=1, max_size=4))
def test_a_written_field_is_read_back(names: list[str]) -> None:
    authors = [Author(clean(name), f"u{n}@a.example") for n, name in enumerate(names)]
    written = field("From", authors)
    assert written.isascii() and written.endswith(b"\r\n")
    assert all(len(line) <= 76 for line in written.split(b"\r\n"))
    assert read(text_of(written.partition(b":")[2].replace(b"\r\n", b"")[1:])) == authors
