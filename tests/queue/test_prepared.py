"""Prepared statements, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Text, column, insert, select, table
from sqlalchemy.dialects import postgresql, sqlite

from relay.queue.database import Database, Rejected
from relay.queue.prepared import compiled, run_prepared
from relay.queue.schema import srs_token

STORE = insert(srs_token)
ROW = {"id": "a", "sender": "x@x.example", "day": 1, "expires": 2.0}


async def test_a_statement_is_executed_for_each_row(queue: Database) -> None:
    rows = [ROW, {"expires": 3.0, "day": 2, "sender": "y@x.example", "id": "b"}]
    await queue.write(lambda c: run_prepared(c, STORE, rows), durable=True)
    stored = select(srs_token).order_by(srs_token.c.id)
    assert await queue.read(lambda c: [dict(row._mapping) for row in c.execute(stored)]) == rows


async def test_an_error_of_the_driver_is_one_of_the_database(queue: Database) -> None:
    with pytest.raises(Rejected):
        await queue.write(lambda c: run_prepared(c, STORE, [ROW, ROW]), durable=True)
    assert await queue.read(lambda c: c.execute(select(srs_token)).all()) == []


async def test_rows_are_a_part_of_the_transaction(queue: Database) -> None:
    def work(connection: Connection) -> None:
        run_prepared(connection, STORE, [ROW])
        raise Rejected("a later statement fails")

    with pytest.raises(Rejected, match="later"):
        await queue.write(work, durable=True)
    assert await queue.read(lambda c: c.execute(select(srs_token)).all()) == []


def test_each_database_has_a_text_of_its_own_which_is_compiled_once() -> None:
    statement = insert(table("t", column("a", Text), column("b", Text))).values(b="", a="")
    dialects = (sqlite.dialect(), postgresql.asyncpg.dialect())  # type: ignore[no-untyped-call]
    for dialect, placeholder in zip(dialects, ("?", "$1"), strict=True):
        text, names = compiled(statement, dialect)
        assert placeholder in text and tuple(names) == ("a", "b")
        assert compiled(statement, dialect)[0] is text
