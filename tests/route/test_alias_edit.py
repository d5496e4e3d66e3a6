"""Changes of the alias file: one entry is added or removed, and every other octet stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.route.alias_edit import AliasEditError, BadEntry, added, new_entry, removed
from relay.route.alias_file import parse_toml, parse_virtual

VIRTUAL, TOML = Path("aliases"), Path("aliases.toml")
DOMAINS = ("fwd.example",)
NEW = new_entry("new@fwd.example", ["a@ext.example", "b@ext.example"], None, DOMAINS)


def after_add(octets: bytes) -> bytes:
    return added(octets, VIRTUAL, NEW, DOMAINS).octets


def after_remove(octets: bytes, address: str) -> bytes:
    return removed(octets, VIRTUAL, address, DOMAINS).octets


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"new@fwd.example    a@ext.example, b@ext.example\n"),
        (b"# people\n", b"# people\nnew@fwd.example    a@ext.example, b@ext.example\n"),
        (b"# people", b"# people\nnew@fwd.example    a@ext.example, b@ext.example"),
        (
            b"a@x.example b@y.example\r\n",
            b"a@x.example b@y.example\r\nnew@fwd.example    a@ext.example, b@ext.example\r\n",
        ),
        (b"\xef\xbb\xbf# \xff\n", b"\xef\xbb\xbf# \xff\nnew@fwd.example    a@ext.example, b@ext.example\n"),
    ],
)
def test_an_entry_comes_to_the_end(before: bytes, after: bytes) -> None:
    assert after_add(before) == after
    assert after_remove(after, "NEW@fwd.example.") == before


TEXT = b"""\
# people\xff

alice@fwd.example   carol@ext.example,
# carol is away
    dave@ext.example

  erik@ext.example
Bob@FWD.example  bob@ext.example # no comment
@fwd.example  any@ext.example
"""


def test_an_entry_goes_with_the_lines_that_continue_it_and_no_comment() -> None:
    gone = (b"alice@fwd.example   carol@ext.example,\n", b"    dave@ext.example\n", b"  erik@ext.example\n")
    expected = TEXT
    for line in gone:
        expected = expected.replace(line, b"")
    assert after_remove(TEXT, "Alice@fwd.example") == expected
    assert after_remove(TEXT, "bob@fwd.example") == TEXT.replace(
        b"Bob@FWD.example  bob@ext.example # no comment\n", b""
    )
    assert after_remove(TEXT, "@FWD.example") == TEXT.replace(b"@fwd.example  any@ext.example\n", b"")


def test_an_entry_is_replaced_where_it_stands() -> None:
    entry = new_entry("alice@fwd.example", ["fred@ext.example"], None, DOMAINS)
    with pytest.raises(AliasEditError, match=r"at aliases:3: carol@ext\.example, dave@.* --replace replaces it"):
        added(TEXT, VIRTUAL, entry, DOMAINS)
    change = added(TEXT, VIRTUAL, entry, DOMAINS, replace=True)
    assert change.octets.splitlines()[2:6] == [
        b"alice@fwd.example    fred@ext.example",
        b"# carol is away",
        b"",
        b"Bob@FWD.example  bob@ext.example # no comment",
    ]
    assert change.octets.startswith(b"# people\xff\n\n") and [entry.lines for entry in change.gone] == [(3, 5, 7)]


def test_an_address_that_stands_there_twice_is_gone_altogether() -> None:
    text = b"a@x.example one@ext.example\nb@x.example b@ext.example\nA@x.example two@ext.example"
    assert after_remove(text, "a@x.example") == b"b@x.example b@ext.example"
    entry = new_entry("a@x.example", ["three@ext.example"], None, DOMAINS)
    assert added(text, VIRTUAL, entry, DOMAINS, replace=True).octets == (
        b"a@x.example    three@ext.example\nb@x.example b@ext.example"
    )


def test_a_bad_line_can_be_replaced_and_removed() -> None:
    text = b'  lost@fwd.example x@ext.example\nnew@fwd.example "|command"\nb(c x@ext.example\n\xff@x.example y\n'
    with pytest.raises(AliasEditError, match=r'at aliases:2: "\|command": a command is no address'):
        after_add(text)
    change = added(text, VIRTUAL, NEW, DOMAINS, replace=True)
    assert change.octets.splitlines()[1] == b"new@fwd.example    a@ext.example, b@ext.example"
    assert b"b(c" not in after_remove(text, "b(c")
    assert b"\xff" not in after_remove(text, "\udcff@x.example")
    assert b"lost" not in after_remove(text, "lost@fwd.example")


def test_the_last_line_that_can_be_read_stays() -> None:
    with pytest.raises(AliasEditError, match="no line of aliases that can be read would be left"):
        after_remove(b"good@x.example a@ext.example\nb(d a@ext.example\n", "good@x.example")
    assert after_remove(b"# none\ngood@x.example a@ext.example\n", "good@x.example") == b"# none\n"


@pytest.mark.parametrize(
    ("address", "matched"),
    [
        ("nobody@fwd.example", ": it matches @fwd.example, at aliases:9"),
        ("alice+x@fwd.example", ": it matches alice@fwd.example, at aliases:3"),
        ("x@other.example", ""),
        ("other.example", ""),
        ("", ""),
    ],
)
def test_what_only_matches_an_entry_is_none(address: str, matched: str) -> None:
    with pytest.raises(AliasEditError) as error:
        after_remove(TEXT, address)
    assert str(error.value) == f"{address} has no entry in aliases{matched}"


@pytest.mark.parametrize(
    ("address", "targets", "reject", "problem"),
    [
        ("a@x.example", ["b(c@y.example"], None, "the local part is malformed"),
        ("a@x.example", [""], None, "a target is empty"),
        ("a@x.example", ["b@y.example, c@y.example"], None, "each target is an argument of its own"),
        ("a@x.example", ["b@y.example\nc@y.example d@y.example"], None, "each target is an argument of its own"),
        ("a@x.example", ["|command"], None, "a command is no address"),
        ("a@x.example", ["REJECT"], None, "--reject"),
        ("a@x.example", ["\udcff@y.example"], None, "not UTF-8"),
        ("a@x.example", ["b@y.example", "@z.example"], None, "can only be the first target"),
        ("fwd.example", ["b(c"], None, "malformed"),
        ("", ["b@y.example"], None, "neither an address"),
        ("#a@x.example", ["b@y.example"], None, "neither an address"),
        (" a@x.example", ["b@y.example"], None, "neither an address"),
        ("a@x.example b@y.example", ["b@y.example"], None, "neither an address"),
        ("a@x.example\nb@y.example", ["b@y.example"], None, "neither an address"),
        ("a@", ["b@y.example"], None, "neither an address"),
        ("@", ["b@y.example"], None, "not @ and a domain"),
        ("/^a/", ["b@y.example"], None, "regular expressions"),
        ("\udcff@x.example", ["b@y.example"], None, "not UTF-8"),
        ("a@x.example", [], "two\nlines", "one line"),
        ("a@x.example", [], "\udcff", "not UTF-8"),
        ("a@x.example", [], "tab\tulator", "one line"),
    ],
)
def test_what_cannot_be_an_entry(address: str, targets: list[str], reject: str | None, problem: str) -> None:
    with pytest.raises(BadEntry, match=problem) as error:
        new_entry(address, targets, reject, DOMAINS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "targets", "reject"),
    [
        ("Alice@fwd.example", ["carol@ext.example"], None),
        ('"a b"@fwd.example', ['"c d"@ext.example', "e@ext.example"], None),
        ("@fwd.example", ["@ext.example"], None),
        ("admin", ["root@ext.example"], None),
        ("john.doe", ["joe"], None),
        ("alice@fwd.example", [], "  has left,  sorry "),
        ("alice@fwd.example", [], ""),
        ("jürgen@bücher.example", ["j@ext.example"], None),
    ],
)
def test_both_forms_say_the_same(address: str, targets: list[str], reject: str | None) -> None:
    entry = new_entry(address, targets, reject, DOMAINS)
    virtual = added(b"# first\n", VIRTUAL, entry, DOMAINS).octets.decode()
    toml = added(b"# first\n", TOML, entry, DOMAINS).octets.decode()
    tables = parse_virtual(virtual, "aliases", DOMAINS), parse_toml(toml, "aliases.toml", DOMAINS)
    assert tables[0] == tables[1] and not tables[0].bad.lines
    assert len(tables[0].entries) == 1 and virtual.startswith("# first\n") and toml.startswith("# first\n")
    assert removed(toml.encode(), TOML, address, DOMAINS).octets == b"# first\n"
    assert removed(virtual.encode(), VIRTUAL, address, DOMAINS).octets == b"# first\n"


@pytest.mark.parametrize(
    ("text", "address", "targets"),
    [
        (b"b@x.example a@x.example\n", "a@x.example", ["b@x.example"]),
        (b"b@x.example c@x.example\nc@x.example a@x.example\n", "a@x.example", ["q@ext.example", "b@x.example"]),
        (b"@b.example @a.example\n", "@a.example", ["@b.example"]),
        (b"bob alice@fwd.example\n", "alice", ["bob@fwd.example"]),
    ],
)
def test_aliases_that_would_lead_to_each_other(text: bytes, address: str, targets: list[str]) -> None:
    entry = new_entry(address, targets, None, DOMAINS)
    with pytest.raises(AliasEditError, match="aliases lead to each other"):
        added(text, VIRTUAL, entry, DOMAINS)


def test_an_address_may_be_its_own_target() -> None:
    entry = new_entry("a@x.example", ["a@x.example", "b@ext.example"], None, DOMAINS)
    assert added(b"", VIRTUAL, entry, DOMAINS).octets


def test_the_domains_that_become_ours_and_those_that_do_not_stay_so() -> None:
    change = added(TEXT, VIRTUAL, new_entry("a@x.example", ["b@y.example"], None, DOMAINS), DOMAINS)
    assert (set(change.served), set(change.unserved)) == ({"x.example"}, set())
    assert not added(TEXT, VIRTUAL, NEW, DOMAINS).served
    assert not added(TEXT, VIRTUAL, new_entry("a@x.example", [], "gone", DOMAINS), DOMAINS).served
    change = removed(change.octets, VIRTUAL, "a@x.example", DOMAINS)
    assert (set(change.served), set(change.unserved)) == (set(), {"x.example"})
