"""Queries to each of the two databases: what becomes of keys that strangers choose, of rows, and of faults."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from relay.config.table_sources import SqlSource, parse_query
from relay.lookup import sql
from relay.lookup.engines import engine
from relay.lookup.source import BadKey, SourceUnavailable
from relay.lookup.sql import SqlTable
from tests.peers import needs
from tests.postgresql import PostgresServer

EVIL = [
    "o'neil@x.example",
    "x' OR '1'='1@x.example",
    "x'; DROP TABLE aliases; --@x.example",
    'a"b@x.example',
    "a\\b@x.example",
    "a\\'b@x.example",
    "a%b_c@x.example",
    "%s@x.example",
    ":p0@x.example",
    "a::int@x.example",
    "\\:p0@x.example",
    "$1@x.example",
    "{0}@x.example",
    "jörg@bücher.example",
    "日本@x.example",
    "🙂@x.example",
]

Ask = Callable[[str, str], Awaitable[str | None]]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs("postgres"))])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with `aliases`, where each of the keys has itself as its target, and `many` with some rows."""
    tables = (
        "CREATE TABLE aliases (address text, target text)",
        "CREATE TABLE many (address text, target text, other text)",
        "INSERT INTO many VALUES ('a@x', 'one', NULL), ('a@x', 'two', '3'), ('a@x', '', 'x')",
        "CREATE TABLE numbers (n integer)",
    )
    if request.param == "sqlite":
        path = tmp_path / "my tables?#%41.sqlite"
        with sqlite3.connect(path) as connection:
            for statement in tables:
                connection.execute(statement)
            connection.executemany("INSERT INTO aliases VALUES (?, ?)", [(key, f"to {key}") for key in EVIL])
        return f"sqlite:///{path}"
    server: PostgresServer = request.getfixturevalue("server")
    url = server.create_database()
    connection = await asyncpg.connect(url)
    for statement in tables:
        await connection.execute(statement)
    await connection.executemany("INSERT INTO aliases VALUES ($1, $2)", [(key, f"to {key}") for key in EVIL])
    await connection.close()
    return url


@pytest.fixture
async def ask(url: str) -> AsyncIterator[Ask]:
    database = engine(url)

    async def ask(query: str, key: str) -> str | None:
        return await SqlTable(SqlSource(url, *parse_query(query)), database).get(key)

    yield ask
    await database.close()


async def test_a_key_is_a_text_whatever_is_in_it(ask: Ask) -> None:
    query = "SELECT target FROM aliases WHERE address = '%s' AND 'a:b {} it''s' = 'a:b {} it''s'"
    assert [await ask(query, key) for key in EVIL] == [f"to {key}" for key in EVIL]
    assert await ask(query, "x@x.example") is None
    assert await ask(query, "\ud800@x.example") is None


async def test_rows_and_columns_become_one_value(ask: Ask) -> None:
    assert await ask("SELECT target, other FROM many WHERE address = '%s'", "a@x") == "one,two,3,x"
    assert await ask("SELECT '%u', '%d', '%s', 7", "user@dom") == "user,dom,user@dom,7"
    assert await ask("SELECT '%u'", "user") == "user"


@pytest.mark.parametrize("query", ["SELECT '%d'", "SELECT 1 WHERE '%s' = '%d'"])
async def test_nothing_is_asked_about_the_domain_of_a_key_without_one(ask: Ask, query: str) -> None:
    assert await ask(query, "user") is None
    assert await ask("SELECT '%u'", "@dom") is None


async def test_nothing_is_written(ask: Ask) -> None:
    with pytest.raises(SourceUnavailable):
        await ask("DELETE FROM aliases WHERE address = '%s'", EVIL[0])
    assert await ask("SELECT target FROM aliases WHERE address = '%s'", EVIL[0])


async def test_a_table_that_is_not_there_is_no_unknown_user(ask: Ask) -> None:
    with pytest.raises(SourceUnavailable, match="nowhere"):
        await ask("SELECT a FROM nowhere WHERE a = '%s'", "a@x")


async def test_a_query_that_takes_too_long_is_given_up(ask: Ask, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "TIME_LIMIT", 0.5)
    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r WHERE '%s' <> ''"
    with pytest.raises(SourceUnavailable):
        await ask(endless, "a@x")
    assert await ask("SELECT '%s'", "a@x") == "a@x"


async def test_a_key_that_is_no_number_is_a_fault_of_the_key_alone(ask: Ask, url: str) -> None:
    query = "SELECT n FROM numbers WHERE n = '%s'"
    if url.startswith("postgresql"):
        with pytest.raises(BadKey):
            await ask(query, "a@x")
    else:
        assert await ask(query, "a@x") is None


async def test_no_file_is_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.sqlite"
    database = engine(url)
    with pytest.raises(SourceUnavailable, match="unable to open"):
        await SqlTable(SqlSource(url, *parse_query("SELECT '%s'")), database).get("a@x")
    await database.close()
    assert list(tmp_path.iterdir()) == []


@needs("postgres")
async def test_a_column_of_another_type_of_text_compares_as_with_a_literal(server: PostgresServer) -> None:
    url = server.create_database()
    server.sql(
        "CREATE EXTENSION citext; CREATE TABLE t (a citext); INSERT INTO t VALUES ('Ann@X')", url.rpartition("/")[2]
    )
    database = engine(url)
    assert await SqlTable(SqlSource(url, *parse_query("SELECT 1 FROM t WHERE a = '%s'")), database).get("ann@x") == "1"
    await database.close()


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    monkeypatch.delitem(sys.modules, "relay.lookup.postgresql", raising=False)
    with pytest.raises(ValueError, match=r"needs asyncpg: pip install 'srs-relay\[postgresql\]'"):
        engine("postgresql://db.example/mail")
