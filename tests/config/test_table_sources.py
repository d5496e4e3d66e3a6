"""Where tables may come from: what the configuration takes, and the words for what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.file import files_open_to_others, load
from relay.config.model import ConfigError
from relay.config.sections import DomainRouteSection
from relay.config.table_sources import RegexpSource, SqlSource, parse_query
from tests.config.loading import MINIMAL, loaded, refusal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("srs.secret", "db.password"):
        (tmp_path / name).write_text("x" * 32 + "\n")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "aliases").write_text("a@fwd.example b@mailbox.example\n")
    (tmp_path / "virtual.re").write_text("/a/ b@mailbox.example\n")
    return tmp_path


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT t FROM a WHERE x = '%s'", ("SELECT t FROM a WHERE x = {0}", ("s",))),
        ("SELECT '%u' || '@' || '%d'", ("SELECT {0} || '@' || {1}", ("u", "d"))),
        ("SELECT 'it''s', '{}' WHERE a = '%s'", ("SELECT 'it''s', '{{}}' WHERE a = {0}", ("s",))),
    ],
)
def test_a_whole_quoted_place_is_a_parameter(query: str, expected: tuple[str, tuple[str, ...]]) -> None:
    assert parse_query(query) == expected


@pytest.mark.parametrize(
    "query",
    [
        "SELECT t FROM a WHERE x = %s",
        "SELECT t FROM a WHERE x LIKE '%%%s'",
        "SELECT t FROM a WHERE x = '%s@x'",
        "SELECT t FROM a WHERE x = '%%s%'",
        "SELECT t FROM a WHERE x = '%S'",
        "SELECT t FROM a WHERE x = '%1'",
        'SELECT t FROM a WHERE x = "%s"',
        "SELECT t FROM a WHERE x = '%s' AND y LIKE 'a%'",
        "SELECT t FROM a WHERE x = '''%s'''",
        "SELECT t FROM a",
    ],
)
def test_any_other_shape_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match=r"^query: .*'%s' \(the whole address\)"):
        parse_query(query)


def test_every_form_is_taken(folder: Path) -> None:
    query = "SELECT t FROM a WHERE x = '%s'"
    config = loaded(
        folder,
        f"""{MINIMAL}
[clients]
access = "regexp:virtual.re"
[routes]
alias_domains = ["fwd.example"]
aliases = [
    "aliases",
    "regexp:virtual.re",
    {{ url = "sqlite:///tables.db", query = "{query}" }},
    {{ url = "postgresql://u@h/d", password_file = "db.password", query = "{query}" }},
]
[routes.domains."corp.example"]
next_hop = "smtp://127.0.0.1:2526"
recipients = {{ url = "postgres://h/d", query = "{query}" }}
""",
    )
    text, parameters = parse_query(query)
    assert config.routes.aliases == (
        folder / "aliases",
        RegexpSource(folder / "virtual.re"),
        SqlSource(f"sqlite:///{folder}/tables.db", text, parameters),
        SqlSource("postgresql://u@h/d", text, parameters, folder / "db.password"),
    )
    route: DomainRouteSection = config.routes.domains["corp.example"]
    assert route.recipients == (SqlSource("postgres://h/d", text, parameters),)
    assert config.clients.access == (RegexpSource(folder / "virtual.re"),)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('"pgsql:/etc/postfix/a.cf"', "pgsql: tables are not read here"),
        ('"postgresql://u@h/d"', "a database is a table"),
        ('{ url = "postgresql://u:secret@h/d", query = "SELECT \'%s\'" }', "password_file"),
        ('{ url = "mysql://h/d", query = "SELECT \'%s\'" }', "no other database is asked"),
        ('{ url = "sqlite:///a.db", query = "SELECT %s" }', "query: %s can stand only alone"),
        ('{ url = "sqlite:///a.db" }', "a database needs url and query"),
        ('{ url = "sqlite:///a.db", query = "SELECT \'%s\'", user = "x" }', "user: there is no such key"),
        ('"regexp:missing.re"', "No such file"),
        ("7", "the path of a file"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(folder: Path, value: str, words: str) -> None:
    said = refusal(folder, f'{MINIMAL}\n[routes]\nalias_domains = ["fwd.example"]\naliases = {value}\n')
    assert "routes.aliases: " in said and words in said and "\n" not in said and "secret@" not in said


def test_a_table_that_cannot_be_listed_needs_the_names_of_its_domains(folder: Path) -> None:
    said = refusal(folder, f'{MINIMAL}\n[routes]\naliases = ["aliases", "regexp:virtual.re"]\n')
    assert "alias_domains" in said and "\n" not in said


def test_the_password_of_a_database_is_a_secret(folder: Path) -> None:
    database = '{ url = "postgresql://h/d", password_file = "db.password", query = "SELECT 1 WHERE a = \'%s\'" }'
    config = loaded(folder, f'{MINIMAL}\n[routes]\nalias_domains = ["fwd.example"]\naliases = {database}\n')
    assert files_open_to_others(config) == []
    (folder / "db.password").chmod(0o644)
    assert files_open_to_others(config) == [folder / "db.password"]
    (folder / "db.password").unlink()
    with pytest.raises(ConfigError, match=r"^routes.aliases.password_file: .*db.password: No such file or directory$"):
        load(folder / "relay.toml", {})
