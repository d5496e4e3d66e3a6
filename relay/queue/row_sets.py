"""Statements for many rows at once, as a PostgreSQL server takes them: one round trip and one plan for all of them.

SQLite, which runs inside the process, executes a statement for each row (`relay.queue.prepared`).

The server keeps a plan that it made while a table was empty until it has counted what is there now, which takes a
minute. So the statements are such that even a plan without indexes reads a table once or twice, and never once for each
row: sets are materialized or hashed, and the rows of other messages left out before a join.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Connection, Float, Integer, Row, bindparam, text
from sqlalchemy.types import TypeEngine

from relay.queue.schema import CHUNK, delivery


def _array(name: str, of: type[TypeEngine[Any]]) -> Any:
    return bindparam(name, type_=ARRAY(of))


_CLAIM = (
    text(f"""
        WITH free AS MATERIALIZED (
            SELECT waiting.message_id, waiting.n
            FROM unnest(:ids, :numbers, :seen) AS wanted (message_id, n, next_attempt)
            JOIN delivery AS waiting USING (message_id, n, next_attempt)
            WHERE waiting.message_id = ANY(:ids) AND waiting.state = 'queued'
            FOR UPDATE OF waiting SKIP LOCKED
        )
        UPDATE delivery SET lease_owner = :owner, lease_token = :token, next_attempt = :until
        FROM free
        WHERE delivery.message_id = ANY(:ids) AND delivery.message_id = free.message_id AND delivery.n = free.n
        RETURNING {", ".join(f"delivery.{column.name}" for column in delivery.columns)}
    """)
    .bindparams(_array("ids", BigInteger), _array("numbers", Integer), _array("seen", Float))
    .columns(*delivery.columns)
)
_FINISH = text("""
    DELETE FROM delivery USING unnest(:ids, :numbers, :tokens) AS finished (message_id, n, lease_token)
    WHERE delivery.message_id = ANY(:ids)
        AND delivery.message_id = finished.message_id AND delivery.n = finished.n
        AND delivery.lease_token = finished.lease_token
""").bindparams(_array("ids", BigInteger), _array("numbers", Integer), _array("tokens", BigInteger))
_FORGET = text("""
    DELETE FROM message
    WHERE id = ANY(:ids) AND id NOT IN (SELECT message_id FROM delivery WHERE message_id = ANY(:ids))
    RETURNING id, size
""").bindparams(_array("ids", BigInteger))
_LOCK = text("SELECT id FROM message WHERE id = ANY(:ids) ORDER BY id FOR UPDATE").bindparams(_array("ids", BigInteger))


def claim(
    connection: Connection, wanted: Sequence[tuple[int, int, float]], owner: str, token: int, until: float
) -> Sequence[Row[Any]]:
    """Lease deliveries and return their rows; those that somebody else claims or changes right now are left out.

    Args:
        wanted: message, number and `next_attempt` of each.
    """
    ids, numbers, seen = (list(column) for column in zip(*wanted, strict=True))
    values = {"ids": ids, "numbers": numbers, "seen": seen, "owner": owner, "token": token, "until": until}
    return connection.execute(_CLAIM, values).all()


def finish(connection: Connection, keys: Sequence[tuple[int, int, int]]) -> None:
    """Delete deliveries by message, number and token; those whose lease was lost stay."""
    ids, numbers, tokens = (list(column) for column in zip(*keys, strict=True))
    connection.execute(_FINISH, {"ids": ids, "numbers": numbers, "tokens": tokens})


def forget(connection: Connection, message_ids: Collection[int]) -> Sequence[int]:
    """Delete those messages that have no delivery left; returns those whose content may have pieces."""
    gone = _forget(connection, message_ids)
    left = [number for number, size in gone.items() if size > CHUNK]
    if others := sorted(set(message_ids) - gone.keys()):
        # Two hosts that finish the last two deliveries side by side each still see the other's. With the lock on the
        # message, the second one waits, and then sees that there is none.
        locked = list(connection.execute(_LOCK, {"ids": others}).scalars())
        if locked:
            left += [number for number, size in _forget(connection, locked).items() if size > CHUNK]
        left += set(others).difference(locked)
    return left


def _forget(connection: Connection, message_ids: Collection[int]) -> dict[int, int]:
    """Delete messages without a delivery; their sizes."""
    rows = connection.execute(_FORGET, {"ids": list(message_ids)})
    return {row.id: row.size for row in rows}
