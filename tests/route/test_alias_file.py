"""The two forms of the alias file: virtual(5) and TOML."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from relay.route.alias_entries import AliasError
from relay.route.alias_file import parse_toml, parse_virtual


def test_an_entry_goes_on_over_indented_lines_comments_and_empty_lines() -> None:
    text = "# first\na@x.example b@y.example\n\tc@y.example\n  # no end\n\n d@y.example\n\nx.example any\n"
    table = parse_virtual(text, "aliases")
    assert table.expand("a@x.example") == ("b@y.example", "c@y.example", "d@y.example")
    assert not table.bad.lines


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


def test_the_tables_of_the_documentation_can_be_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "forwarding-host.md").read_text(encoding="utf-8")
    section = page.partition("## Aliases\n")[2].partition("\n## ")[0]
    first, closed, toml = (textwrap.dedent(block) for block in re.findall(r"(?:^ {4}.*\n)+", section, re.MULTILINE))
    tables = [parse_virtual(first, "first"), parse_virtual(closed, "closed"), parse_toml(toml, "toml")]
    assert [table.bad.lines for table in tables] == [(), (), ()]
    assert tables[0].expand("alice+shop@fwd.example") == ("alice+shop@mailbox.example",)
    assert tables[1].rejection("alice@club.example") == "Alice has left, please write to info@club.example"
    assert tables[1].rejection("spamtrap+x@club.example") == ""
    assert tables[1].expand("bob@club.example") == ("secretary@mailbox.example",)
    assert tables[2].rejection("alice@club.example") == "Alice has left"
    assert tables[2].domains == {"fwd.example", "club.example"}
