"""Which files [routes] names, how they are read, and how many of their lines are bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.sections import RoutesSection
from relay.route.tables import read_tables

HOST = "lmtp://10.0.0.5:24"


def routes(**values: object) -> RoutesSection:
    return RoutesSection.model_validate(values)


def test_without_files_there_is_nothing_to_follow() -> None:
    domains = {"a.example": {"next_hop": HOST, "recipients": "callout"}, "b.example": {"recipients": "any"}}
    tables = read_tables(routes(domains=domains), [])
    assert (tables.recipients, tables.files, tables.bad_lines) == ({}, (), {})
    assert tables.aliases.listed.entries == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [("aliases", "alice@fwd.example a@ext.example\n"), ("aliases.toml", '"alice@fwd.example" = "a@ext.example"\n')],
)
def test_the_name_of_the_alias_file_says_its_form(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    tables = read_tables(routes(aliases=tmp_path / name), ["fwd.example"])
    assert tables.aliases.listed.expand("alice@fwd.example") == ("a@ext.example",)
    assert tables.aliases.listed.local_domains == {"fwd.example"}
    assert [file.path for file in tables.files] == [tmp_path / name]


def test_domains_may_share_a_file_whose_bad_lines_count_once(tmp_path: Path) -> None:
    users, aliases = tmp_path / "users", tmp_path / "aliases"
    users.write_text("alice@a.example\nbob@b.example\nb(d\nb(d@b.example\n")
    aliases.write_text("alice@fwd.example a@ext.example\nbad@fwd.example (\n")
    shared = {domain: {"next_hop": HOST, "recipients": str(users)} for domain in ("a.example", "b.example")}
    tables = read_tables(routes(aliases=aliases, domains=shared), [])
    assert tables.recipients["a.example"].files[0].value.users == {"alice@a.example"}
    assert tables.recipients["b.example"].files[0].value.users == {"bob@b.example"}
    assert tables.bad_lines == {str(users): 2, str(aliases): 1}
    assert len(tables.files) == 3


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_tables(routes(aliases=tmp_path / "missing"), [])
    (tmp_path / "aliases").write_text("@x..example a@ext.example\n")
    with pytest.raises(ValueError, match=f"^{tmp_path}/aliases:1: "):
        read_tables(routes(aliases=tmp_path / "aliases"), [])
