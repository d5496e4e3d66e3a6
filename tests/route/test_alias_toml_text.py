"""An entry of a TOML file that is added, replaced or removed: comments, line ends and other entries stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.route.alias_edit import AliasEditError, added, new_entry, removed
from relay.route.alias_file import parse_toml

PATH, DOMAINS = Path("aliases.toml"), ("fwd.example",)
NEW = new_entry("new@fwd.example", ["a@ext.example", "b@ext.example"], None, DOMAINS)


def after_add(octets: bytes) -> bytes:
    return added(octets, PATH, NEW, DOMAINS).octets


def after_remove(octets: bytes, address: str) -> bytes:
    return removed(octets, PATH, address, DOMAINS).octets


TEXT = b"""\
# people
"alice@fwd.example" = "carol@ext.example" # for a while
"team@fwd.example" = [
  "alice@fwd.example", # the first
  "bob@ext.example",
]

"fwd.example" = []   # served
# end
"""


def test_comments_of_toml_stay() -> None:
    assert after_add(TEXT) == (TEXT + b'"new@fwd.example" = ["a@ext.example", "b@ext.example"]\n')
    assert after_remove(TEXT, "team@fwd.example") == (TEXT[: TEXT.index(b'"team')] + TEXT[TEXT.index(b"]\n") + 2 :])
    entry = new_entry("Alice@fwd.example", ["dave@ext.example"], None, DOMAINS)
    changed = added(TEXT, PATH, entry, DOMAINS, replace=True).octets
    assert b'"Alice@fwd.example" = "dave@ext.example"\n' in changed and b'"alice@fwd.example" = ' not in changed
    entry = new_entry("alice@fwd.example", ["dave@ext.example"], None, DOMAINS)
    changed = added(TEXT, PATH, entry, DOMAINS, replace=True).octets
    assert changed == TEXT.replace(b"carol", b"dave")


def test_an_entry_of_toml_stands_in_front_of_tables() -> None:
    text = b'"a@x.example" = "b@y.example"\n\n[more]\n"c@x.example" = "d@y.example"\n'
    changed = after_add(text)
    assert parse_toml(changed.decode(), "").entries["new@fwd.example"] == NEW.targets
    assert after_remove(changed, "new@fwd.example") == text
    with pytest.raises(AliasEditError, match="written in a way that a command cannot change; nothing was changed"):
        after_remove(text, "c@x.example")


def test_text_that_is_no_toml_stays() -> None:
    with pytest.raises(AliasEditError, match="nothing was changed"):
        after_add(b"a@x.example b@y.example\n")


BLOCKS = st.sampled_from(
    [
        "",
        "# comment \udcff",
        '"a@x.example" = "b@y.example" # for now',
        '"b@x.example" = [',
        '  "c@y.example" , # first',
        "]",
        "'@x.example'='@y.example'",
        'user = "x@y.example"',
        '"fwd.example"   =   []',
    ]
)


@given(st.lists(BLOCKS, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_add_and_then_remove_gives_back_every_octet(blocks: list[str], end: str, bom: bool, ended: bool) -> None:
    text = ("\ufeff" if bom else "") + end.join(blocks) + (end if ended else "")
    octets = text.encode("utf-8", "surrogateescape")
    try:
        changed = after_add(octets)
    except AliasEditError as error:
        assert "nothing was changed" in str(error)  # no TOML
        return
    assert after_remove(changed, "New@fwd.example") == octets
