"""Lookup tables of Postfix."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.importer import main_cf
from relay.importer.draft import ImportFailed
from relay.importer.lookup_tables import Table, TableEntry, domains, entries, table_of, tables


def parsed(text: str) -> main_cf.MainCf:
    return main_cf.parse(text, "main.cf", None)


def test_the_tables_of_a_parameter() -> None:
    text = "x = proxy:hash:/a, mysql:/b.cf plain regexp:{ /x/ y } inline:{ a=b }\n"
    assert tables(parsed(text), "x") == [
        *(Table("hash", "/a"), Table("mysql", "/b.cf"), Table("regexp", "{ /x/ y }"), Table("inline", "{ a=b }"))
    ]
    assert table_of("mx.example") is None


def test_text_tables_have_entries_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("# c\na.example x\n  y\n\nb@c.example\tz, w\nalone\n")
    assert entries(parsed("a = b\n"), Table("hash", f"{tmp_path}/t")) == [
        TableEntry("a.example", "x y", f"{tmp_path}/t:2"),
        TableEntry("b@c.example", "z, w", f"{tmp_path}/t:5"),
        TableEntry("alone", "", f"{tmp_path}/t:6"),
    ]


def test_inline_tables_have_entries() -> None:
    table = Table("inline", "{ [h]:587=u:p=w, { a@b = c d } }")
    assert [(key, value) for key, value, _ in entries(parsed("a = b\n"), table)] == [
        ("[h]:587", "u:p=w"),
        ("a@b", "c d"),
    ]


@pytest.mark.parametrize("kind", ["regexp", "pcre", "mysql", "ldap", "socketmap", "hash"])
def test_other_tables_cannot_be_read(kind: str) -> None:
    with pytest.raises(ImportFailed):
        entries(parsed("a = b\n"), Table(kind, "/none"))


def test_what_may_be_a_password_is_not_shown() -> None:
    assert str(Table("static", "user:password")) == "static:…"
    assert str(Table("inline", "{ h=user:password }")) == "inline:…"
    assert str(Table("hash", "/etc/postfix/sasl")) == "hash:/etc/postfix/sasl"


def test_domains_stand_in_lists_files_and_tables(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("b.example # c\nc.example, d.example\n")
    (tmp_path / "table").write_text("e.example OK\n")
    text = f"relay_domains = a.example {tmp_path}/list, texthash:{tmp_path}/table !x.example mysql:/m /none\n"
    found, problems = domains(parsed(text), "relay_domains")
    names = [domain.name for domain in found]
    assert [name for name in names if name.endswith(".example")] == [
        *("a.example", "b.example", "c.example", "d.example", "e.example")
    ]
    assert found[0].origin == "relay_domains (main.cf:1)"
    assert found[-1].origin == f"{tmp_path}/table:1"
    assert len(problems) == 3
