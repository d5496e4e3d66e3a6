"""An entry of a virtual(5) file that is added or removed: every other octet stays, whatever the file has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.route.alias_edit import new_entry
from relay.route.alias_listing import Entry, list_entries
from relay.route.alias_text import VirtualText, as_read, line_end

DOMAINS = ("fwd.example",)
NEW = new_entry("new@fwd.example", ["a@ext.example", "b@ext.example"], None, DOMAINS)


def entries(text: str, key: str) -> list[Entry]:
    return [entry for entry in list_entries(VirtualText(text).written("aliases"), DOMAINS) if entry.key == key]


def without(text: str, key: str) -> str:
    return VirtualText(text).without(entries(text, key))


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "",
                "  ",
                "# comment",
                "   # more",
                "a@x.example b@y.example",
                "A@X.example c@y.example,",
                "\td@y.example",
                "  lost@fwd.example",
                "@x.example @y.example",
                "user  x@y.example",
                "x.example anything",
                "b@x.example REJECT gone",
                "b(c d@y.example",
                "\udcff@x.example \udcfe",
            ]
        ),
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n", exclude_categories=["Zl", "Zp"]), max_size=12),
    ),
    max_size=8,
)


@given(LINES, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.booleans())
def test_add_and_then_remove_gives_back_every_octet(lines: list[str], end: str, bom: bool, ended: bool) -> None:
    text = ("\ufeff" if bom else "") + end.join(lines) + (end if ended else "")
    changed = VirtualText(text).with_entry(NEW)
    assert changed.startswith(text) and len(entries(changed, NEW.key)) == 1
    assert without(changed, NEW.key) == text
    assert VirtualText(changed).with_replaced(entries(changed, NEW.key), NEW) == changed


@given(
    LINES, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["a@x.example", "b@x.example", "@x.example", "user", "b(c"])
)
def test_no_other_line_changes(lines: list[str], end: str, key: str) -> None:
    """Nor their order, and each comment stays."""
    text = "".join(f"{line}{end}" for line in lines)
    gone = {number for entry in entries(text, key) for number in entry.lines}
    kept = [f"{line}{end}" for number, line in enumerate(lines, 1) if number not in gone]
    assert without(text, key) == "".join(kept)
    assert not any(lines[number - 1].lstrip().startswith("#") for number in gone)
    assert not entries(without(text, key), key)


@pytest.mark.parametrize(
    ("text", "read", "end"),
    [
        ("", "", "\n"),
        ("a b", "a b", "\n"),
        ("\ufeffa b\r\nc d", "a b\nc d", "\r\n"),
        ("a b\rc d\n", "a b\nc d\n", "\n"),
        ("a b\r", "a b\n", "\r"),
    ],
)
def test_line_ends_as_the_relay_reads_them(text: str, read: str, end: str) -> None:
    assert (as_read(text), line_end(text)) == (read, end)
