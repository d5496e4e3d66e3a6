"""Aliases in several tables: in which order they are asked, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from relay.lookup.regexp import RegexpFile, parse_regexp
from relay.lookup.source import BadTable, Found, SourceUnavailable
from relay.route.alias_file import parse_virtual
from relay.route.alias_table import AliasLoop, AliasTable
from relay.route.aliases import Aliases, AliasSource
from relay.table_files.reloaded_file import ReloadedFile


class Database:
    name = "db"

    def __init__(self, rows: Mapping[str, str]) -> None:
        self.rows, self.asked, self.is_away = rows, list[str](), False

    async def get(self, key: str) -> Found | None:
        self.asked.append(key)
        if self.is_away:
            raise SourceUnavailable("away")
        return Found(self.rows[key], "db") if key in self.rows else None


def file(path: Path, text: str) -> ReloadedFile[AliasTable]:
    path.write_text(text)
    return ReloadedFile(path, lambda text, source: parse_virtual(text, source, ("fwd.example",)))


def regexp(path: Path, text: str) -> RegexpFile:
    path.write_text(text)
    return RegexpFile(ReloadedFile(path, parse_regexp))


def aliases(*sources: AliasSource, domains: str = "fwd.example") -> Aliases:
    return Aliases(sources, frozenset([domains]), ("fwd.example",))


async def test_the_keys_are_those_of_virtual_and_the_first_that_has_an_entry_ends_them() -> None:
    database = Database({"@fwd.example": "rest@x.example", "alice@fwd.example": "a@x.example"})
    table = aliases(database)
    found = await table.around("Bob+x@FWD.example")
    assert found.expand("Bob+x@FWD.example") == ("rest@x.example",)
    assert database.asked[:5] == ["bob+x@fwd.example", "bob@fwd.example", "bob+x", "bob", "@fwd.example"]
    assert database.asked[5:] == [], "the target is no address of ours"
    database.asked.clear()
    found = await table.around("alice+x@fwd.example")
    assert found.expand("alice+x@fwd.example") == ("a+x@x.example",)
    assert database.asked[:2] == ["alice+x@fwd.example", "alice@fwd.example"]


async def test_a_key_is_looked_for_everywhere_before_the_next_one(tmp_path: Path) -> None:
    database = Database({"alice@fwd.example": "db@x.example", "both@fwd.example": "db@x.example"})
    first = file(tmp_path / "aliases", "@fwd.example rest@x.example\nboth@fwd.example file@x.example\n")
    expressions = regexp(tmp_path / "re", "/^(carl)(.*)@/ $1@re.example\n")
    table = aliases(first, database, expressions)
    for address, target in {
        "alice@fwd.example": "db@x.example",
        "both@fwd.example": "file@x.example",
        "carl@fwd.example": "carl@re.example",
        "carl+x@fwd.example": "carl@re.example",
        "other@fwd.example": "rest@x.example",
    }.items():
        assert (await table.around(address)).expand(address) == (target,), address


async def test_a_regular_expression_sees_whole_addresses_and_lists_nobody(tmp_path: Path) -> None:
    table = aliases(regexp(tmp_path / "re", "/^fred@|^@fwd|^bob$/ x@x.example\n/^abuse@/ y@x.example\n"))
    assert (await table.around("bob@fwd.example")).expand("bob@fwd.example") is None
    assert (await table.around("fred+x@fwd.example")).expand("fred+x@fwd.example") is None
    found = await table.around("abuse@fwd.example")
    assert found.expand("abuse@fwd.example") == ("y@x.example",)
    assert not found.lists("abuse@fwd.example")


async def test_nested_aliases_go_through_all_tables(tmp_path: Path) -> None:
    database = Database({"b@fwd.example": "c@fwd.example, d@fwd.example, @other.example"})
    first = file(tmp_path / "aliases", "a@fwd.example b@fwd.example\nd@fwd.example REJECT closed\n")
    table = aliases(first, database, regexp(tmp_path / "re", "/^c@fwd/ e@x.example\n"))
    found = await table.around("a@fwd.example")
    assert found.expand("a@fwd.example") == ("e@x.example", "d@fwd.example")
    assert found.rejection("d@fwd.example") == "closed"
    assert found.lacks_targets("a@fwd.example"), "the third target cannot be used"


@pytest.mark.parametrize(
    "pattern", ["/^(.*)@fwd.example$/ a$1@fwd.example", "/^(.)(.*)@fwd.example$/ $2$1@fwd.example"]
)
async def test_tables_that_lead_in_circles_end(tmp_path: Path, pattern: str) -> None:
    table = aliases(regexp(tmp_path / "re", pattern + "\n"))
    with pytest.raises(AliasLoop):
        (await table.around("ab@fwd.example")).expand("ab@fwd.example")


async def test_one_that_is_away_keeps_those_behind_it_from_an_answer(tmp_path: Path) -> None:
    database = Database({})
    database.is_away = True
    table = aliases(
        file(tmp_path / "aliases", "a@fwd.example x@x.example\n"),
        database,
        regexp(tmp_path / "re", "/./ y@x.example\n"),
    )
    with pytest.raises(SourceUnavailable):
        await table.around("b@fwd.example")
    assert (await table.around("a@fwd.example")).expand("a@fwd.example") == ("x@x.example",)
    assert (await table.around("a@elsewhere.example")).expand("a@elsewhere.example") is None


async def test_a_bad_line_of_a_regexp_table_is_for_our_domains_alone(tmp_path: Path) -> None:
    table = aliases(regexp(tmp_path / "re", "/(/ x\n/^a@/ b@x.example\n"))
    with pytest.raises(BadTable):
        await table.around("a@fwd.example")
    assert (await table.around("a@elsewhere.example")).expand("a@elsewhere.example") is None


async def test_several_files_are_one_table_and_the_first_counts(tmp_path: Path) -> None:
    one = file(
        tmp_path / "one", "a@fwd.example 1@x.example\nshut@fwd.example REJECT no\nopen@fwd.example o@x.example\n"
    )
    two = file(
        tmp_path / "two",
        "a@fwd.example 2@x.example\nb@two.example 2@x.example\nshut@fwd.example s@x.example\n"
        "open@fwd.example REJECT no\n",
    )
    table = aliases(one, two)
    found = await table.around("a@fwd.example")
    assert found is await table.around("b@two.example"), "nobody is asked"
    assert found.expand("a@fwd.example") == ("1@x.example",)
    assert found.expand("b@two.example") == ("2@x.example",)
    assert found.rejection("shut@fwd.example") == "no"
    assert found.rejection("open@fwd.example") is None
    assert found.domains == {"fwd.example", "two.example"}


async def test_a_value_that_is_no_address_is_a_bad_line() -> None:
    database = Database({"a@fwd.example": "|command", "b@fwd.example": "", "c@fwd.example": "good@x.example, ("})
    table = aliases(database)
    assert (await table.around("a@fwd.example")).expand("a@fwd.example") == ()
    assert (await table.around("b@fwd.example")).expand("b@fwd.example") == ()
    found = await table.around("c@fwd.example")
    assert found.expand("c@fwd.example") == ("good@x.example",) and found.lacks_targets("c@fwd.example")
