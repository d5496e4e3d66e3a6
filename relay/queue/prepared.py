"""Prepared statements: compiled once, and executed by the database driver itself with plain rows.

`Connection.execute` looks a statement up each time, passes every value through its type, and builds a result even if
there is none. For the few small rows of a message that takes longer than SQLite itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Dialect, Executable
from sqlalchemy.exc import DBAPIError


def run_prepared(connection: Connection, statement: Executable, rows: Iterable[Mapping[str, Any]]) -> None:
    """Execute a statement for each row.

    Args:
        statement: a constant of the program, because its compiled text is kept for good.
        rows: the values of the bound parameters by name, as the driver takes them: JSON as text.

    Raises:
        DBAPIError
    """
    dialect = connection.dialect
    sql, names = compiled(statement, dialect)
    values = [tuple(map(row.__getitem__, names)) for row in rows]
    if dialect.name != "sqlite":  # with a server SQLAlchemy is needed: it notices a broken connection and drops it
        connection.exec_driver_sql(sql, values)
        return
    try:
        connection.connection.dbapi_connection.executemany(sql, values)  # type: ignore[union-attr]
    except dialect.loaded_dbapi.Error as error:
        raise _translated(error, sql, dialect) from error


def read_prepared(
    connection: Connection, statement: Executable, rows: Iterable[Mapping[str, Any]]
) -> Sequence[tuple[Any, ...]]:
    """What a query returns for each row of parameters, all together; on SQLite only. For the rest see `run_prepared`.

    Raises:
        DBAPIError
    """
    dialect = connection.dialect
    sql, names = compiled(statement, dialect)
    query = connection.connection.dbapi_connection.execute  # type: ignore[union-attr]
    try:
        return [found for row in rows for found in query(sql, [row[name] for name in names])]
    except dialect.loaded_dbapi.Error as error:
        raise _translated(error, sql, dialect) from error


def _translated(error: Exception, sql: str, dialect: Dialect) -> Exception:
    """An error of the database driver, as SQLAlchemy raises it."""
    return DBAPIError.instance(sql, None, error, dialect.loaded_dbapi.Error, dialect=dialect)


@cache
def compiled(statement: Executable, dialect: Dialect) -> tuple[str, Sequence[str]]:
    """The SQL text of a statement, and its parameters in the order of the placeholders."""
    compilation = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
    return str(compilation), compilation.positiontup
