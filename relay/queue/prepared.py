"""Statements that every message needs, compiled once and given to the driver with plain rows.

`Connection.execute` looks a statement up again each time and passes every value of every row through its type. For the
handful of small rows that a message is, that takes longer than the database does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Dialect, Executable


def run_prepared(connection: Connection, statement: Executable, rows: Iterable[Mapping[str, Any]]) -> None:
    """Carry a statement out for each row. It has to be one that lives as long as the program.

    Args:
        rows: the value of each bound parameter by its name, as the driver takes it: JSON as text.
    """
    sql, names = _compiled(statement, connection.dialect)
    connection.exec_driver_sql(sql, [tuple(map(row.__getitem__, names)) for row in rows])


@cache
def _compiled(statement: Executable, dialect: Dialect) -> tuple[str, Sequence[str]]:
    """The text, and the parameters in the order of its placeholders."""
    compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
    return str(compiled), compiled.positiontup
