"""Entries that are wrong: each is named, and affects its own address only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from relay.route.alias_entries import AliasError
from relay.route.alias_file import parse_toml, parse_virtual
from relay.route.alias_table import AliasTable
from relay.table_files.bad_lines import unsaid

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
    (
        "/^bad.*/ d@y.example",
        "/^bad.*/: regular expressions, as in regexp_table(5), are not read here: write",
        BAD,
        BAD,
    ),
    (r"/^bad@x\.example$/i d@y.example", r"/^bad@x\.example$/i: regular expressions", BAD, BAD),
    ("!/bad@x.example/ d@y.example", "!/bad@x.example/: regular expressions", BAD, BAD),
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


@pytest.mark.parametrize("local", ["/G=Joe/S=Smith/", "/home/joe/"])
def test_an_address_with_slashes_is_no_regular_expression(local: str) -> None:
    """Gateways to X.400 have such addresses."""
    table = parse_virtual(f"{local}@x.example a@y.example\n/G=Ann/S=Smith/ b@y.example\n", "aliases", LOCAL)
    assert table.bad.lines == ()
    assert table.expand(f"{local}@x.example") == ("a@y.example",)
    assert table.expand("/G=Ann/S=Smith/@local.example") == ("b@y.example",)


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


# REJECT

CLOSED = """\
left@x.example       REJECT she has left, write to   info@x.example
silent@x.example     REJECT
left@x.example       again@ext.example
@x.example           all@ext.example
@y.example REJECT caf\u00e9 "closed", see #5
 for good
sales                REJECT nobody sells here
lower@x.example      reject
"""


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("left@x.example", "she has left, write to   info@x.example"),
        ("LEFT@X.example", "she has left, write to   info@x.example"),
        ("left+tag@x.example", "she has left, write to   info@x.example"),
        ("silent@x.example", ""),
        ("anybody@y.example", 'caf\u00e9 "closed", see #5 for good'),
        ("sales@local.example", "nobody sells here"),
        ("sales+x@other.example", "nobody sells here"),
        ("sales@x.example", None),
        ("lower@x.example", None),
        ("anybody@x.example", None),
        ("sales@elsewhere.example", None),
    ],
)
def test_reject_closes_an_address_and_what_leads_to_it(address: str, text: str | None) -> None:
    table = parse_virtual(CLOSED, "aliases", LOCAL)
    assert table.rejection(address) == text
    assert not table.bad.lines


def test_the_first_of_two_lines_counts_also_where_one_of_them_closes() -> None:
    with capture_logs() as logs:
        table = parse_virtual(CLOSED + "silent@x.example REJECT twice\nlower@x.example REJECT late\n", "aliases", LOCAL)
    assert [line["alias"] for line in logs if line["event"] == "alias_ignored"] == [
        "left@x.example",
        "silent@x.example",
        "lower@x.example",
    ]
    assert (table.rejection("silent@x.example"), table.rejection("lower@x.example")) == ("", None)


def test_a_bad_line_is_overruled_by_one_that_closes() -> None:
    table = parse_virtual("a@x.example\na@x.example REJECT gone\n", "aliases", LOCAL)
    assert table.rejection("a@x.example") == "gone"


def test_a_closed_address_makes_no_domain_ours() -> None:
    assert parse_virtual(CLOSED, "aliases", LOCAL).domains == {"x.example"}
    assert parse_virtual("x.example REJECT the whole domain\n", "aliases", LOCAL).domains == {"x.example"}


@pytest.mark.parametrize(
    "value",
    ["REJECT, b@y.example", "b@y.example REJECT", "b@y.example, REJECT gone", "REJECT,gone", "b@y.example,REJECT"],
)
def test_reject_beside_another_target_is_a_bad_line(value: str) -> None:
    table = parse_virtual(f"a@x.example {value}\n@x.example all@ext.example\n", "aliases", LOCAL)
    ((where, problem, effect),) = table.bad.lines
    assert (where, effect) == ("aliases:1", "a@x.example answers 451 4.3.5")
    assert problem == "REJECT stands alone: only its text may follow, and no other target"
    assert table.expand("a@x.example") == () and table.rejection("a@x.example") is None


def test_behind_a_line_that_cannot_be_read_a_closed_catch_all_waits() -> None:
    table = parse_virtual("ba(d@x.example b@y.example\n@x.example REJECT closed\nx.example ours\n", "aliases", LOCAL)
    assert table.rejection("a@x.example") is None and table.expand("a@x.example") == ()


@pytest.mark.parametrize(
    ("value", "text", "bad"),
    [
        ('"REJECT moved away"', "moved away", False),
        ('["REJECT moved away"]', "moved away", False),
        ('"""REJECT moved\\r\\n\\taway\n"""', "moved away", False),
        ('"REJECT"', "", False),
        ('["REJECT moved", "b@y.example"]', None, True),
        ('["b@y.example", "REJECT moved"]', None, True),
        ('["b@y.example", "REJECT"]', None, True),
        ('["REJECT", 5]', None, True),
        ('"b@y.example, REJECT"', None, True),
    ],
)
def test_reject_in_toml(value: str, text: str | None, bad: bool) -> None:
    table = parse_toml(f'"a@x.example" = {value}\n"b@x.example" = "b@y.example"\n', "aliases.toml")
    assert table.rejection("a@x.example") == text
    assert [("REJECT stands alone" in line.problem, line.effect) for line in table.bad.lines] == (
        [(True, "a@x.example answers 451 4.3.5")] if bad else []
    )


def test_a_second_entry_is_named_unless_another_process_names_it() -> None:
    text = "a@x.example one@ext.example\na@x.example two@ext.example\n"
    with capture_logs() as logs:
        parse_virtual(text, "aliases")
        assert [line["event"] for line in logs] == ["alias_ignored"]
        was = unsaid.set(True)
        parse_virtual(text, "aliases")
        unsaid.reset(was)
    assert len(logs) == 1
