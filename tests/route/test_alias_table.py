"""The alias table as an administrator of Postfix knows it: which addresses each address leads to."""

from __future__ import annotations

import pytest

from relay.route import alias_table
from relay.route.alias_file import parse_virtual
from relay.route.alias_table import CHAIN_LIMIT, EXPANSION_LIMIT, AliasLoop, AliasTable

TABLE = """\
# what the relay serves
fwd.example        anything at all (not read)
alice@fwd.example  alice@mailbox.example
Mixed@FWD.Example  Mixed@Mailbox.Example

list@fwd.example   a@ext.example, b@ext.example
    c@ext.example d@ext.example

  # a comment does not end the entry

\te@ext.example
twice@fwd.example  a@ext.example A@EXT.example,a@ext.example
plus+x@fwd.example exact@ext.example
plus@fwd.example   plain@ext.example, two+t@ext.example
chain@fwd.example  plus+deep@fwd.example
same@fwd.example   same@fwd.example, copy@ext.example
behind@fwd.example same@fwd.example
diamond@fwd.example left@fwd.example right@fwd.example
left@fwd.example   a@ext.example
right@fwd.example  a@ext.example b@ext.example
dangling@fwd.example nobody@fwd.example
"quoted user"@fwd.example "other user"@ext.example, x@ext.example
quotes@fwd.example "a, b"@ext.example
@remap.example     @ext.example
kept@remap.example keeper@ext.example
single@moved.example @ext.example
@catch.example     one@ext.example
@open.example      @open.example
bücher@bücher.example buch@ext.example
admin              root@ext.example
first.last         fl@ext.example
alice              shadow@ext.example
"""


@pytest.fixture(scope="module")
def table() -> AliasTable:
    return parse_virtual(TABLE, "aliases", local_domains=["fwd.example", "local.example"])


CASES = [
    ("alice@fwd.example", "alice@mailbox.example"),
    ("ALICE@Fwd.Example", "alice@mailbox.example"),
    ('"alice"@fwd.example', "alice@mailbox.example"),
    ("mixed@fwd.example", "Mixed@Mailbox.Example"),
    ("nobody@fwd.example", None),
    ("list@fwd.example", "a@ext.example & b@ext.example & c@ext.example & d@ext.example & e@ext.example"),
    ("twice@fwd.example", "a@ext.example"),
    # the detail: exact first, then handed on to every target
    ("plus+x@fwd.example", "exact@ext.example"),
    ("plus+y@fwd.example", "plain+y@ext.example & two+t+y@ext.example"),
    ("Plus+Y@fwd.example", "plain+Y@ext.example & two+t+Y@ext.example"),
    ("plus+y+z@fwd.example", "plain+y+z@ext.example & two+t+y+z@ext.example"),
    ("+x@fwd.example", None),
    ("chain@fwd.example", "plain+deep@ext.example & two+t+deep@ext.example"),
    # an address that is its own target stays, also with a detail, also from behind another alias
    ("same@fwd.example", "same@fwd.example & copy@ext.example"),
    ("same+d@fwd.example", "same+d@fwd.example & copy+d@ext.example"),
    ("behind@fwd.example", "same@fwd.example & copy@ext.example"),
    ("any@open.example", "any@open.example"),
    ("diamond@fwd.example", "a@ext.example & b@ext.example"),
    ("dangling@fwd.example", "nobody@fwd.example"),
    ('"quotes"@fwd.example', '"a, b"@ext.example'),
    ('"quoted user"@fwd.example', '"other user"@ext.example & x@ext.example'),
    ('"Quoted User+d e"@fwd.example', '"other user+d e"@ext.example & "x+d e"@ext.example'),
    # @domain comes after every user of it
    ("who@remap.example", "who@ext.example"),
    ("who+d@remap.example", "who+d@ext.example"),
    ("kept+d@remap.example", "keeper+d@ext.example"),
    ("single+d@moved.example", "single+d@ext.example"),
    ("who+d@catch.example", "one@ext.example"),
    ("BÜCHER@xn--bcher-kva.example", "buch@ext.example"),
    # a user alone: in local domains, after user@domain
    ("admin@local.example", "root@ext.example"),
    ("admin+d@local.example", "root+d@ext.example"),
    ("first.last@local.example", "fl@ext.example"),
    ("alice@local.example", "shadow@ext.example"),
    ("admin@elsewhere.example", None),
    ("admin@catch.example", "one@ext.example"),
]


@pytest.mark.parametrize(("address", "targets"), CASES)
def test_expansion(table: AliasTable, address: str, targets: str | None) -> None:
    expanded = table.expand(address)
    assert (expanded and " & ".join(expanded)) == targets
    assert table.matches(address) is (targets is not None)


def test_every_domain_on_the_left_is_served(table: AliasTable) -> None:
    assert table.domains == {
        *("fwd.example", "remap.example", "moved.example", "catch.example", "open.example"),
        *("xn--bcher-kva.example", "first.last"),
    }


@pytest.mark.parametrize(
    ("address", "listed"),
    [
        ("Alice@fwd.example", True),
        ("plus+x@fwd.example", True),
        ("plus+y@fwd.example", False),
        ("admin@local.example", True),
        ("admin@elsewhere.example", False),
        ("kept@remap.example", True),
        ("who@remap.example", False),
    ],
)
def test_an_address_is_listed_by_itself_only(table: AliasTable, address: str, listed: bool) -> None:
    assert table.lists(address) is listed


@pytest.mark.parametrize(
    ("text", "address", "targets"),
    [
        ("x.example. anything\ntaro..y.@x.example a@y.example\n", '"taro..y."@x.example', ("a@y.example",)),
        (
            '"taro..y."@x.example. ..a@y.example., "b\\.c"@y.example\n',
            "taro..y.@x.example",
            ('"..a"@y.example', "b.c@y.example"),
        ),
        ("@x.example. @y.example.\n", '"a..b"@x.example', ('"a..b"@y.example',)),
        (".taro ..joe\n", '".taro"@local.example', ('"..joe"@local.example',)),
        ('"taro." a@y.example\n', '"taro.+d"@local.example', ("a+d@y.example",)),
        ("a@x.example taro.@y.example\n", "a+d@x.example", ("taro.+d@y.example",)),
    ],
)
def test_odd_dots_and_final_dots_on_both_sides(text: str, address: str, targets: tuple[str, ...]) -> None:
    table = parse_virtual(text, "aliases", ["local.example"])
    assert table.expand(address) == targets
    assert table.domains <= {"x.example"} and not table.bad.lines


@pytest.mark.parametrize(
    "text",
    [
        "a@x.example b@x.example\nb@x.example a@x.example\n",
        "a@x.example c@ext.example, b@x.example\nb@x.example d@ext.example, a@x.example\n",
        "a@x.example a+a@x.example\n",
        "@x.example @y.example\n@y.example @x.example\n",
        "a@x.example " + ", ".join(f"u{n}@ext.example" for n in range(EXPANSION_LIMIT + 1)),
        "".join(f"{s}{n}@x.example a{n + 1}@x.example b{n + 1}@x.example\n" for n in range(40) for s in "ab")
        + "a@x.example a0@x.example\n",
    ],
    ids=["two", "beside others", "growing detail", "domains", "too wide", "doubling"],
)
def test_an_alias_without_end_is_found(text: str) -> None:
    with pytest.raises(AliasLoop, match=r"a@x\.example"):
        parse_virtual(text, "aliases").expand("a@x.example")


def test_a_long_list_and_a_deep_chain_are_no_loop() -> None:
    wide = "list@x.example " + ", ".join(f"u{n}@ext.example" for n in range(EXPANSION_LIMIT))
    deep = "".join(f"u{n}@x.example u{n + 1}@x.example\n" for n in range(999))
    table = parse_virtual(f"{deep}u999@x.example end@ext.example\n{wide}\n", "aliases")
    assert len(table.expand("list@x.example") or ()) == EXPANSION_LIMIT
    assert table.expand("u0@x.example") == ("end@ext.example",)


@pytest.mark.parametrize(
    ("address", "chain"),
    [
        ("alice@x.example", ["alice@x.example"]),
        ("Alice+tag@x.example", ["Alice@x.example"]),
        ("alice+own@x.example", ["alice+own@x.example", "alice@x.example"]),
        ("chief@x.example", ["chief@x.example", "alice@x.example"]),
        ("team@x.example", ["team@x.example"]),
        ("boss@x.example", ["boss@x.example", "team@x.example"]),
        ("same@x.example", ["same@x.example"]),
        ("copy@x.example", ["copy@x.example"]),
        ("tosame@x.example", ["tosame@x.example", "same@x.example"]),
        ("alice@remap.example", ["alice@remap.example", "alice@x.example"]),
        ("nobody@x.example", []),
        ("u0@x.example", [f"u{n}@x.example" for n in range(CHAIN_LIMIT)]),
        ("round@x.example", ["round@x.example"] * CHAIN_LIMIT),
    ],
)
def test_the_aliases_that_all_copies_go_through(address: str, chain: list[str]) -> None:
    table = parse_virtual(
        """\
        alice@x.example a@ext.example
        alice+own@x.example alice@x.example
        chief@x.example alice@x.example
        team@x.example alice@x.example, b@ext.example
        boss@x.example team@x.example
        same@x.example same@x.example
        copy@x.example copy@x.example, alice@x.example
        tosame@x.example same@x.example
        round@x.example round+x@x.example
        @remap.example @x.example
        """.replace("\n        ", "\n").lstrip()
        + "".join(f"u{n}@x.example u{n + 1}@x.example\n" for n in range(50)),
        "aliases",
    )
    assert list(table.chain(address)) == chain


@pytest.mark.parametrize(
    ("address", "lacks"),
    [
        ("whole@x.example", False),
        ("half@x.example", True),
        ("half+tag@x.example", True),
        ("one@x.example", True),
        ("two@x.example", True),
        ("bad@x.example", True),
        ("nobody@x.example", False),
        ("round@x.example", False),
    ],
)
def test_an_address_lacks_targets_where_one_of_several_cannot_be_read(address: str, lacks: bool) -> None:
    table = parse_virtual(
        "whole@x.example a@ext.example\nhalf@x.example a@ext.example, (\none@x.example half@x.example\n"
        "two@x.example half@x.example, b@ext.example\nbad@x.example (\n"
        "round@x.example about@x.example\nabout@x.example round@x.example\n",
        "aliases",
    )
    assert table.lacks_targets(address) is lacks


@pytest.mark.parametrize("remembered", [0, 1, 1024])
def test_an_address_leads_to_the_same_however_often_it_is_asked_for(
    remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alias_table, "REMEMBERED", remembered)
    table, asked = parse_virtual(TABLE, "aliases"), list[tuple[object, object]]()
    addresses = [
        "alice@fwd.example",
        "ALICE@fwd.example",
        "plus+x@fwd.example",
        "plus+y@fwd.example",
        "list@fwd.example",
    ]
    addresses += ["joe@catch.example", "joe@remap.example", "kept@remap.example", "jim@elsewhere.example"]
    for address in addresses * 3:
        asked.append((table.expand(address), table.chain(address)))
    assert asked[: len(addresses)] * 3 == asked
    fresh = [parse_virtual(TABLE, "aliases") for _ in addresses]
    once = [(one.expand(address), one.chain(address)) for one, address in zip(fresh, addresses, strict=True)]
    assert asked[: len(addresses)] == once


def test_long_lists_are_not_remembered() -> None:
    """Each alias leads to the same long list, with a detail of its own."""
    aliases = [f"a{number}@fwd.example" for number in range(100)]
    entries = {alias: (f"team+{alias.split('@')[0]}@fwd.example",) for alias in aliases}
    team = {"team@fwd.example": tuple(f"u{number}@else.example" for number in range(100))}
    table = AliasTable(entries | team, frozenset({"fwd.example"}), frozenset())
    for alias in (*aliases, "team@fwd.example"):
        assert len(table.expand(alias) or ()) == 100
    assert not table._expansions


@pytest.mark.parametrize(
    ("address", "step"),
    [
        ("Alice+x@fwd.example", ("alice@fwd.example", ("alice+x@mailbox.example",))),
        ("who@remap.example", ("@remap.example", ("who@ext.example",))),
        ("chain@fwd.example", ("chain@fwd.example", ("plus+deep@fwd.example",))),
        ("nobody@fwd.example", None),
    ],
)
def test_one_step_names_the_pattern(address: str, step: tuple[str, tuple[str, ...]] | None) -> None:
    assert parse_virtual(TABLE, "aliases").step(address) == step


def test_one_step_of_a_closed_address_and_behind_a_bad_line() -> None:
    table = parse_virtual('gone@x.example REJECT sorry\nbad@x.example "|command"\n@x.example a@y.example\n', "aliases")
    assert table.step("gone+x@x.example") == ("gone@x.example", ("gone+x@x.example",))
    assert table.step("bad@x.example") == ("bad@x.example", ())
