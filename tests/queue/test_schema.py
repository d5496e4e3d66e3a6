"""The tables of a new queue, and of those that releases have written once they are migrated, are the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, inspect

from relay.queue.connect import connect
from tests.postgresql import PostgresServer


def tables(connection: Connection) -> dict[str, Any]:
    """Columns, key and indexes of each table, as the database has them."""
    inspector = inspect(connection)
    return {
        table: (
            [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(table)],
            inspector.get_pk_constraint(table)["constrained_columns"],
            sorted(_index(index) for index in inspector.get_indexes(table)),
        )
        for table in inspector.get_table_names()
    }


def _index(index: Mapping[str, Any]) -> tuple[str, ...]:
    options = {name: str(option) for name, option in index.get("dialect_options", {}).items()}
    return str(index["name"]), str(index["column_names"]), str(index["unique"]), str(options)


async def opened_tables(url: str) -> dict[str, Any]:
    """The tables of a queue, as this program leaves them when it opens it."""
    queue = await connect(url)
    try:
        return await queue.read(tables)
    finally:
        await queue.close()


async def test_a_migrated_queue_has_the_tables_of_a_new_one(
    published: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """This fails where somebody changes a table without a step in `relay.queue.migrations`."""
    if published.startswith("sqlite"):
        new = f"sqlite:///{tmp_path / 'new.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("server")
        new = server.create_database()
    migrated = await opened_tables(published)
    assert migrated == await opened_tables(new)
    assert {
        "message",
        "chunk",
        "delivery",
        "srs_token",
        "audit",
        "mta_sts",
        "tls_result",
        "schema_version",
    } == migrated.keys()
