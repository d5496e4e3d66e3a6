"""Statements that every message needs: compiled once, and carried out by the driver itself with plain rows.

`Connection.execute` looks a statement up again each time, passes every value of every row through its type and makes a
result of what gives none. For the handful of small rows that a message is, that takes longer than SQLite does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Dialect, Executable
from sqlalchemy.exc import DBAPIError


def run_prepared(connection: Connection, statement: Executable, rows: Iterable[Mapping[str, Any]]) -> None:
    """Carry a statement out for each row. It has to be one that lives as long as the program.

    Args:
        rows: the value of each bound parameter by its name, as the driver takes it: JSON as text.

    Raises:
        DBAPIError
    """
    dialect = connection.dialect
    sql, names = compiled(statement, dialect)
    values = [tuple(map(row.__getitem__, names)) for row in rows]
    if dialect.name != "sqlite":  # SQLAlchemy finds out when a server is gone, and lets go of the connection
        connection.exec_driver_sql(sql, values)
        return
    cursor = connection.connection.cursor()
    try:
        cursor.executemany(sql, values)
    except dialect.loaded_dbapi.Error as error:
        raise DBAPIError.instance(sql, None, error, dialect.loaded_dbapi.Error, dialect=dialect) from error
    finally:
        cursor.close()


@cache
def compiled(statement: Executable, dialect: Dialect) -> tuple[str, Sequence[str]]:
    """The text, and the parameters in the order of its placeholders."""
    found = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
    return str(found), found.positiontup
