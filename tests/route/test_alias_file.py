"""The alias table as an administrator of Postfix knows it: one file, many addresses, what stands behind each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from relay.route.alias_entries import AliasError
from relay.route.alias_file import parse_toml, parse_virtual
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


LOCAL = ["local.example", "other.example"]
GOOD = """\
x.example            anything
good@x.example       g@ext.example
@x.example           all@ext.example
z.example            anything
good@z.example       g@ext.example
"""
BAD = "bad"  # known, and leads nowhere for now
CATCH_ALL = "all@ext.example"

# A line; the beginning of what is said of it; what its own address leads to, and what the catch-all of x.example does.
BAD_LINES = [
    ("bad@x.example", "bad@x.example has no target", BAD, CATCH_ALL),
    ("bad@x.example b(c@y.example", "b(c@y.example: the local part is malformed", BAD, CATCH_ALL),
    ("bad@x.example b@y..example", "b@y..example: the domain is malformed", BAD, CATCH_ALL),
    ("bad@x.example b(c@y.example, d@y.example", "b(c@y.example: the", "d@y.example", CATCH_ALL),
    ("bad@x.example d@y.example,\n   b(c@y.example\n   e@y.example", "b(c@y", "d@y.example & e@y.example", CATCH_ALL),
    (f"bad@x.example {'l' * 641}@y.example", f"{'l' * 641}@y.example: the local part is longer", BAD, CATCH_ALL),
    ("bad@x.example d@y.example, @z.example", "@z.example: the same user at another", "d@y.example", CATCH_ALL),
    ("bad@x.example @-z", "@-z is not @ and a domain", BAD, CATCH_ALL),
    ("bad@x.example caf\udce9@y.example, d@y.example", r"caf\xe9@y.example: not UTF-8", "d@y.example", CATCH_ALL),
    ("bad@x.example d@y.example # at home", "# at home: a comment", "d@y.example", CATCH_ALL),
    ("bad@x.example d@y.example #at, home@y.example", "#at, home@y.example: a comment", "d@y.example", CATCH_ALL),
    ('bad@x.example "|/usr/bin/vacation joe"', '"|/usr/bin/vacation joe": a command', BAD, CATCH_ALL),
    ('bad@x.example "|/bin/v", d@y.example', '"|/bin/v": a command', "d@y.example", CATCH_ALL),
    (
        "bad@x.example |/bin/v joe a@y.example, d@y.example",
        "|/bin/v joe a@y.example: a command",
        "d@y.example",
        CATCH_ALL,
    ),
    ("bad@x.example /var/mail/joe", "/var/mail/joe: a file", BAD, CATCH_ALL),
    ('bad@x.example "/var/mail/joe d", d@y.example', '"/var/mail/joe d": a file', "d@y.example", CATCH_ALL),
    ("bad@x.example :include:/etc/list", ":include:/etc/list: a list", BAD, CATCH_ALL),
    ('bad@x.example ":include:/etc/list"', '":include:/etc/list": a list', BAD, CATCH_ALL),
    ('bad@x.example d@y.example "joe b@y.example', '"joe b@y.example: its quotes do not end', "d@y.example", CATCH_ALL),
    # the address itself cannot be read: whom it was for is not known, but for the domain
    ("bad(@x.example d@y.example", "bad(@x.example: the local part is malformed", BAD, BAD),
    ("b\udce4d@x.example d@y.example", r"b\xe4d@x.example: not UTF-8", BAD, BAD),
    ('"bad@x.example d@y.example', '"bad@x.example is neither an address nor a local part', BAD, BAD),
    ("bad\x00@x.example d@y.example", "bad\x00@x.example: the local part is malformed", BAD, BAD),
    # nor the domain
    ("@x..example d@y.example", "@x..example is not @ and a domain", BAD, BAD),
    ("bad@x\udce4.example d@y.example", r"bad@x\xe4.example: not UTF-8", BAD, BAD),
    ("ba(d d@y.example", "ba(d is neither an address nor a local part", BAD, BAD),
]


@pytest.mark.parametrize(("line", "problem", "target", "catch_all"), BAD_LINES)
def test_a_bad_line_is_named_and_costs_only_its_own_address(
    line: str, problem: str, target: str, catch_all: str
) -> None:
    with capture_logs() as logs:
        table = parse_virtual(f"{GOOD}{line}\nlast@x.example l@ext.example\n", "aliases", LOCAL)
    ((where, said, effect),) = table.bad.lines
    assert where == "aliases:6" and said.startswith(problem)
    assert [entry for entry in logs if entry["event"] == "table_line_bad"] == [
        {"event": "table_line_bad", "log_level": "warning", "at": where, "problem": said, "effect": effect}
    ]
    for address, expected in [
        ("bad@x.example", target),
        ("anybody@x.example", catch_all),
        ("good@x.example", "g@ext.example"),
        ("good+tag@x.example", "g+tag@ext.example"),
        ("last@x.example", "l@ext.example"),
        ("good@z.example", "g@ext.example"),
    ]:
        assert " & ".join(table.expand(address) or (BAD,)) == expected, address
        assert table.expand(address) is not None
    assert table.expand("anybody@z.example") is None
    assert table.bad.hide("x.example") is (catch_all == BAD)
    assert {"x.example", "z.example"} <= table.domains


def test_an_indented_line_without_one_above_may_be_an_entry_or_what_is_left_of_one() -> None:
    table = parse_virtual("  bad@x.example d@y.example\n" + GOOD, "aliases")
    assert table.bad.lines[0][:2] == ("aliases:1", "an indented line continues the one above, and there is none")
    assert table.expand("bad@x.example") == ()
    assert table.expand("anybody@x.example") == (CATCH_ALL,)
    table = parse_virtual("# list@x.example a@y.example\n    b@y.example,\n    c@y.example\n" + GOOD, "aliases")
    assert table.domains == {"x.example", "z.example"}, "a target is no domain of ours"
    assert table.expand("anybody@x.example") == ()
    assert table.expand("good@x.example") == ("g@ext.example",)


def test_a_target_on_a_line_of_its_own_makes_no_domain_ours() -> None:
    table = parse_virtual("list@x.example a@ext.example,\nb@ext.example\n" + GOOD, "aliases")
    assert table.bad.lines[0][:2] == ("aliases:2", "b@ext.example has no target")
    assert table.domains == {"x.example", "z.example"}
    assert table.expand("list@x.example") == ("a@ext.example",)
    assert table.expand("c@ext.example") is None


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("a@x.example b@x.example\nb@x.example (\n", []),
        ("a@x.example b@x.example, c@ext.example\nb@x.example (\n", ["c@ext.example"]),
        ("a@x.example b@x.example\nb@x.example c@x.example\nc@x.example (, d@ext.example\n", ["d@ext.example"]),
        ("@a.example @x.example\na@x.example (\na@x.example b@ext.example\n", ["b@ext.example"]),
        ("a@x.example b@ext.example\na@x.example (\n", ["b@ext.example"]),
        ("a@x.example (\nA@X.example (\n", []),
        ("a@x.example b@x.example\n@x.example (\n", []),
        ("a@x.example a@x.example, (\n", ["a@x.example"]),
    ],
    ids=["alone", "beside", "deep", "good duplicate", "bad duplicate", "both bad", "catch-all", "itself"],
)
def test_what_stands_behind_a_bad_line(text: str, expanded: list[str]) -> None:
    table = parse_virtual(text, "aliases")
    assert list(table.expand("a@x.example") or ()) == expanded
    assert table.expand("a+tag@x.example") is not None
    assert table.lists("a@x.example") and list(table.chain("a@x.example"))


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("carol@", "carol@: the address has no domain"),
        ('"ca rol"@', '"ca rol"@: the address has no domain'),
        ("ca(rol", "ca(rol@local.example: the local part is malformed"),
    ],
)
def test_a_target_that_ends_with_an_at_sign_has_no_domain(target: str, problem: str) -> None:
    table = parse_virtual(f"good@x.example a@y.example\nbad@x.example {target}\n", "aliases", ["local.example"])
    assert [line.problem for line in table.bad.lines] == [problem]


def test_a_user_of_the_local_domains_with_a_bad_line_is_known_there_only() -> None:
    table = parse_virtual("admin (\nfirst.last (\n", "aliases", LOCAL)
    assert table.expand("admin@local.example") == table.expand("first.last@other.example") == ()
    assert table.expand("admin@elsewhere.example") is None


def test_what_is_no_entry_may_say_anything_in_any_encoding() -> None:
    table = parse_virtual("# B\udcfcro\nx.example B\udcfcro (home)\na@x.example b@y.example\n", "aliases", LOCAL)
    assert table.bad.lines == ()
    assert table.expand("a@x.example") == ("b@y.example",)


def test_a_file_that_is_no_table_at_all_is_refused() -> None:
    for text in ("\x00\udcff rubbish\n" * 5, "@x..example a@y.example\n", "a\x00@\x00x\x00.\x00e\x00 b\x00\n"):
        with pytest.raises(AliasError, match=r"^aliases:1: "):
            parse_virtual(text, "aliases")


def test_the_log_names_some_of_many_bad_lines_and_says_how_many() -> None:
    with capture_logs() as logs:
        table = parse_virtual(GOOD + "".join(f"u{n}@x.example (\n" for n in range(1000)), "aliases")
    assert len(table.bad.lines) == 1000
    assert [entry["event"] for entry in logs] == ["table_line_bad"] * 20 + ["table_lines_bad"]
    assert logs[-1]["lines"] == 1000


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


def test_text_that_is_no_toml_is_refused() -> None:
    with pytest.raises(AliasError, match=r"^aliases\.toml: Invalid value"):
        parse_toml('"a@x.example" = ', "aliases.toml")


@pytest.mark.parametrize(
    ("entry", "message", "target"),
    [
        ('"bad@x.example" = 5', 'bad@x.example: it is written as "bad@x.example" = "address"', []),
        ('"bad@x.example" = []', "bad@x.example: bad@x.example has no target", []),
        ('"bad@x.example" = ["b@y.example", "c"]', "bad@x.example: c: the address has no domain", ["b@y.example"]),
        ('"bad@x.example" = ["b@y.example", 5]', "bad@x.example: 5 is no address", ["b@y.example"]),
        ('"bad@x.example" = [5]', "bad@x.example: 5 is no address", []),
        ('"bad@x.example" = {}', "bad@x.example: it is written as", []),
        ('"bad@x.example" = "caf\udce9@y.example"', r"bad@x.example: caf\xe9@y.example: not UTF-8", []),
        ('[more]\n"bad@x.example" = "b@y.example"', "bad@x.example: it is written as", []),
    ],
)
def test_a_bad_toml_entry_is_named_and_costs_only_its_own_address(entry: str, message: str, target: list[str]) -> None:
    text = f'"good@x.example" = "g@ext.example"\n"@x.example" = "all@ext.example"\n{entry}\n'
    table = parse_toml(text, "aliases.toml")
    ((where, problem, _),) = table.bad.lines
    assert f"{where}: {problem}".startswith(f"aliases.toml: {message}")
    assert table.expand("bad@x.example") == tuple(target)
    assert table.expand("good@x.example") == ("g@ext.example",)
    assert table.expand("anybody@x.example") == ("all@ext.example",)


def test_a_toml_key_that_is_no_address_hides_the_users_of_its_domain() -> None:
    table = parse_toml('"@x.example" = "all@ext.example"\n"ba(d@x.example" = "b@y.example"\n', "aliases.toml")
    assert table.expand("anybody@x.example") == () and table.bad.domains == {"x.example"}
