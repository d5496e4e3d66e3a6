"""What TLS reports count (RFC 8460): sessions with mail hosts by day, domain, policy, host and result.

All workers and hosts add to the same rows. A day has a limited number of them, since strangers choose the domains; what
goes past it is counted without its domain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from relay.queue.database import Database, repeat_until_done
from relay.queue.schema import tls_result

ROWS = 20_000  # of one day: some 5 MB, and 80 MB where strangers publish the longest policies that are counted
AT_ONCE = 200  # rows in one transaction, so that mail does not wait for them
KEEP_DAYS = 9  # today included: the report of a day goes out on the next one, and may have to be sent again


class TlsSession(NamedTuple):
    """One kind of session, as a TLS report counts it.

    Attributes:
        day: of UTC, in days since 1970.
        domain: of the recipients; empty for those past the limit.
        policy: the policy-type of RFC 8460 section 4.2.
        policy_domain: what published the policy: the domain, or the TLSA base domain.
        policy_text: the lines of the policy, or its TLSA records, as a JSON array; empty where there is none.
        mx: the name of the mail host; empty where the failure is not about one.
        result: `success`, or a failure type of section 4.3.
        reason: more about a failure (failure-reason-code).
        address, source: the IP addresses of the mail host and of ours, for a failure.
    """

    day: int
    domain: str
    policy: str
    policy_domain: str
    policy_text: str
    mx: str
    result: str
    reason: str = ""
    address: str = ""
    source: str = ""

    def without_domain(self) -> TlsSession:
        """How it is counted past the limit."""
        return TlsSession(self.day, "", self.policy, "", "", "", self.result)


class TlsResults:
    """The counts of one queue.

    Args:
        rows: the most that a day has, apart from those without a domain.
    """

    def __init__(self, database: Database, rows: int = ROWS) -> None:
        self._database = database
        self._rows = rows

    async def add(self, counts: Mapping[TlsSession, int]) -> None:
        """Add sessions, at most `AT_ONCE` kinds of them.

        Raises:
            QueueUnavailable: nothing of it was stored.
        """
        await self._database.write(partial(_add, counts, self._rows), durable=False)

    async def drop(self, before: int) -> int:
        """Forget the days before this one; returns how many rows there were.

        Raises:
            QueueUnavailable
        """
        key = tuple_(*tls_result.primary_key.columns)
        oldest = select(*tls_result.primary_key.columns).where(tls_result.c.day < before).limit(AT_ONCE)
        statement = delete(tls_result).where(key.in_(oldest))
        return await repeat_until_done(
            lambda: self._database.write(lambda connection: connection.execute(statement).rowcount, durable=False)
        )


def _add(counts: Mapping[TlsSession, int], limit: int, connection: Connection) -> None:
    # In one order, so that hosts that add to the same rows do not lock each other out.
    rows = [_row(session, counts[session]) for session in sorted(counts)]
    by_day: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_day.setdefault(row["day"], []).append(row)
    for day, of_day in by_day.items():
        stored = connection.execute(select(func.count()).where(tls_result.c.day == day)).scalar_one()
        if stored + len(of_day) > limit:
            of_day = _within(limit - stored, of_day, connection)
        _upsert(of_day, connection)


def _within(room: int, rows: Sequence[dict[str, Any]], connection: Connection) -> list[dict[str, Any]]:
    """Add to the rows that are there, and return the others: as many as there is room for, the rest without their
    domain."""
    left: list[dict[str, Any]] = []
    beyond: dict[TlsSession, int] = {}
    for row in rows:
        key = [column == row[column.name] for column in tls_result.primary_key.columns]
        added = update(tls_result).where(*key).values(sessions=tls_result.c.sessions + row["sessions"])
        if connection.execute(added).rowcount:
            continue
        if len(left) < room:
            left.append(row)
        else:
            session = TlsSession(**{name: row[name] for name in TlsSession._fields}).without_domain()
            beyond[session] = beyond.get(session, 0) + row["sessions"]
    return left + [_row(session, count) for session, count in beyond.items()]


def _upsert(rows: Sequence[dict[str, Any]], connection: Connection) -> None:
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(tls_result)
    statement = statement.on_conflict_do_update(
        index_elements=list(tls_result.primary_key.columns),
        set_={"sessions": tls_result.c.sessions + statement.excluded.sessions},
    )
    connection.execute(statement, rows)


def _row(session: TlsSession, count: int) -> dict[str, Any]:
    published = f"{session.policy_domain} {session.policy_text}".encode()
    policy_id = hashlib.sha256(published).hexdigest()[:16] if session.policy_text else ""
    return session._asdict() | {"policy_id": policy_id, "sessions": count}
