"""The entries of an alias file one by one, each as the table has it."""

from __future__ import annotations

from relay.route.alias_file import parse_virtual, written_in_toml, written_in_virtual
from relay.route.alias_listing import by_key, list_entries

DOMAINS = ("fwd.example",)
TEXT = """\
Alice@x.example "|command"
# comment
alice@x.example b@y.example,
  carol
closed@x.example REJECT
@X.example @y.example
x.example anything
b(c d@y.example
"""


def test_each_entry_says_what_the_table_says() -> None:
    entries = by_key(list_entries(written_in_virtual(TEXT, "aliases"), DOMAINS))
    table = parse_virtual(TEXT, "aliases", DOMAINS)
    good = {key: entry for key, entry in entries.items() if entry.counts}
    assert {key: entry.targets for key, entry in good.items()} == table.entries
    assert {key: entry.reject for key, entry in good.items() if entry.reject is not None} == table.closed
    assert [entry.where for entry in entries.values() if entry.problems] == ["aliases:8"]
    assert (entries["alice@x.example"].lines, entries["alice@x.example"].targets) == (
        (3, 4),
        ("b@y.example", "carol@fwd.example"),
    )


def test_each_problem_is_that_of_the_table() -> None:
    entries = list_entries(written_in_virtual(TEXT, "aliases"), DOMAINS)
    problems = [problem for entry in entries for problem in entry.problems]
    assert problems == [line.problem for line in parse_virtual(TEXT, "aliases", DOMAINS).bad.lines]


def test_an_entry_of_toml_has_a_key_and_no_line() -> None:
    (entry,) = list_entries(written_in_toml('"A@x.example" = ["b@y.example", 5]', "aliases.toml"), DOMAINS)
    assert (entry.address, entry.key, entry.targets) == ("A@x.example", "a@x.example", ("b@y.example",))
    assert (entry.where, entry.lines, entry.problems) == ("aliases.toml: A@x.example", (), ("5 is no address",))
    assert entry.right_side == "b@y.example"
