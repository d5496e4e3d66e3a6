"""The alias table as an administrator of Postfix knows it: one file, many addresses, what stands behind each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from relay.route.aliases import (
    CHAIN_LIMIT,
    EXPANSION_LIMIT,
    AliasError,
    AliasLoop,
    AliasTable,
    parse_toml,
    parse_virtual,
)

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
    found = table.expand(address)
    assert (found and " & ".join(found)) == targets
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
    ("text", "message"),
    [
        ("\n\na@x.example\n", "aliases:3: a@x.example has no target"),
        (
            "# one\n  b@x.example c@y.example\n",
            "aliases:2: an indented line continues the one above, and there is none",
        ),
        ("a@x.example b\n", "aliases:1: b: the address has no domain"),
        ("a@x.example b@y.example # home\n", "aliases:1: #: the address has no domain"),
        ("a@x.example b@y.example,\n  c@d@y.example\n", "aliases:1: c@d@y.example: the local part is malformed"),
        (
            f"a@x.example {'l' * 641}@y.example\n",
            f"aliases:1: {'l' * 641}@y.example: the local part is longer than 640",
        ),
        ("a@x.example b@y.example, @z.example\n", "aliases:1: @z.example: the same user at another domain can only be"),
        ("a@x.example @-z\n", "aliases:1: @-z is not @ and a domain"),
        ("@x..example a@y.example\n", "aliases:1: @x..example is not @ and a domain"),
        ('"a@x.example b@y.example\n', 'aliases:1: "a@x.example is neither an address nor a local part'),
        ("admin nobody\n", "aliases:1: nobody: the address has no domain"),
    ],
)
def test_a_wrong_line_is_named(text: str, message: str) -> None:
    with pytest.raises(AliasError) as error:
        parse_virtual(text, "aliases")
    assert str(error.value).startswith(message)


LOCAL = ["local.example", "other.example"]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("a@x.example joe\n", ["joe@local.example"]),
        (
            "a@x.example joe, b@y.example, postmaster\n",
            ["joe@local.example", "b@y.example", "postmaster@local.example"],
        ),
        ('a@x.example "joe b"\n', ['"joe b"@local.example']),
        ("a@x.example joe\njoe ann@y.example\n", ["ann@y.example"]),
        ("a@x.example joe\njoe@local.example ann@y.example\n", ["ann@y.example"]),
        ("a@x.example joe\njoe joe, ann@y.example\n", ["joe@local.example", "ann@y.example"]),
    ],
)
def test_a_target_without_a_domain_is_one_of_ours_and_looked_up_again(text: str, expanded: list[str]) -> None:
    assert list(parse_virtual(text, "aliases", LOCAL).expand("a@x.example") or ()) == expanded


def test_a_comment_behind_an_entry_or_a_command_is_no_user_of_ours() -> None:
    for target in ("b@y.example # home", "|/usr/bin/vacation", "/dev/null"):
        with pytest.raises(AliasError, match="the address has no domain"):
            parse_virtual(f"a@x.example {target}\n", "aliases", LOCAL)


@pytest.mark.parametrize(
    ("parse", "text", "first", "second"),
    [
        (parse_virtual, "a@x.example b@y.example\n\nA@X.example c@y.example\n", "aliases:1", "aliases:3"),
        (parse_toml, '"a@x.example" = "b@y.example"\n"A@X.example" = "c@y.example"', "a@x.example", "A@X.example"),
    ],
)
def test_of_a_pattern_that_stands_twice_the_first_counts_and_the_log_names_both(
    parse: Callable[[str, str], AliasTable], text: str, first: str, second: str
) -> None:
    with capture_logs() as logs:
        assert parse(text, "aliases").expand("a@x.example") == ("b@y.example",)
    (line,) = logs
    assert (line["event"], line["log_level"], line["alias"]) == ("alias_ignored", "warning", "A@X.example")
    assert line["at"].endswith(second) and first in line["because"]


def test_the_pattern_ends_at_the_first_blank() -> None:
    table = parse_virtual("a b@x.example c@y.example\n", "aliases", local_domains=["local.example"])
    assert table.expand("a@local.example") == ("b@x.example", "c@y.example")


def test_the_file_may_come_from_windows() -> None:
    table = parse_virtual("a@x.example b@y.example,\r\n  c@y.example\r\n\r\nx.example any\r\n", "aliases")
    assert table.expand("a@x.example") == ("b@y.example", "c@y.example")


def test_toml_says_the_same() -> None:
    table = parse_toml(
        """
        "fwd.example" = []
        "Alice@fwd.example" = "alice@mailbox.example"
        "list@fwd.example" = ["a@ext.example", "Alice+x@fwd.example"]
        "@remap.example" = "@ext.example"
        admin = "root@ext.example"
        """,
        "aliases.toml",
        local_domains=["local.example"],
    )
    assert table.domains == {"fwd.example", "remap.example"}
    assert table.expand("list@fwd.example") == ("a@ext.example", "alice+x@mailbox.example")
    assert table.expand("who@remap.example") == ("who@ext.example",)
    assert table.expand("admin@local.example") == ("root@ext.example",)
    assert table.expand("nobody@fwd.example") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"a@x.example" = ', "aliases.toml: Invalid value"),
        ('"a@x.example" = 5', 'aliases.toml: a@x.example: written as "a@x.example" = "address"'),
        ('fwd.example = "a@x.example"', 'aliases.toml: fwd: written as "fwd" = "address"'),
        ('"a@x.example" = ["b@y.example", "c"]', "aliases.toml: a@x.example: c: the address has no domain"),
    ],
)
def test_a_wrong_toml_entry_is_named(text: str, message: str) -> None:
    with pytest.raises(AliasError) as error:
        parse_toml(text, "aliases.toml")
    assert str(error.value).startswith(message)
