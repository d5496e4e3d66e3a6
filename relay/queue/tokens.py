"""Senders that do not fit into an SRS address, kept under a short token of ours, one a sender and day.

Their number is bounded, and the oldest give way: an answer to one of them is refused then, but mail goes out.
"""

from __future__ import annotations

import secrets

import structlog
from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from relay.queue.database import Database
from relay.queue.schema import srs_token

log = structlog.get_logger()

AT_MOST = 1_000_000  # each is a short row
FORGOTTEN_AT_ONCE = 100  # rows of one transaction


class SenderTokens:
    """The stored senders of one queue."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._count: int | None = None  # an estimate between sweeps: counting reads them all, and others add to them
        self._forgotten = 0

    async def token_for(self, sender: str, now: float, lifetime: float) -> str:
        """Today's token of a sender; it is good for `lifetime` seconds, unless a million newer ones are stored.

        Raises:
            QueueUnavailable
        """
        day = int(now // 86400)
        wanted = select(srs_token.c.id).where(srs_token.c.sender == sender, srs_token.c.day == day)
        found = await self._database.read(lambda c: c.execute(wanted).scalar())
        if found is not None:
            return str(found)
        surplus = min(max(await self._stored() + 1 - AT_MOST, 0), FORGOTTEN_AT_ONCE)
        values = {"id": secrets.token_hex(8), "sender": sender, "day": day, "expires": now + lifetime}

        def work(connection: Connection) -> tuple[str, int]:
            forgotten = _forget_oldest(connection, surplus) if surplus else 0
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(dialect.insert(srs_token).values(values).on_conflict_do_nothing())
            return str(connection.execute(wanted).scalar_one()), forgotten

        token, forgotten = await self._database.write(work, durable=True)
        if self._count is not None:
            self._count += 1 - forgotten
        self._forgotten += forgotten
        return token

    async def _stored(self) -> int:
        if self._count is None:
            everyone = select(func.count()).select_from(srs_token)
            self._count = await self._database.read(lambda c: c.execute(everyone).scalar_one(), long=True)
        return self._count

    async def sender_of(self, token: str, now: float) -> str | None:
        """The sender behind a token; None where it is unknown or expired.

        Raises:
            QueueUnavailable
        """
        statement = select(srs_token.c.sender).where(srs_token.c.id == token, srs_token.c.expires >= now)
        return await self._database.read(lambda c: c.execute(statement).scalar())

    async def sweep(self, now: float, limit: int) -> int:
        """Forget up to `limit` that have expired; how many there were.

        Raises:
            QueueUnavailable
        """
        if self._forgotten:
            log.warning("stored_senders_forgotten", count=self._forgotten, at_most=AT_MOST)
        self._count, self._forgotten = None, 0
        expired = select(srs_token.c.id).where(srs_token.c.expires < now).limit(limit)
        statement = delete(srs_token).where(srs_token.c.id.in_(expired))
        return await self._database.write(lambda c: c.execute(statement).rowcount, durable=False)


def _forget_oldest(connection: Connection, count: int) -> int:
    oldest = select(srs_token.c.id).where(srs_token.c.expires > 0).order_by(srs_token.c.expires).limit(count)
    return connection.execute(delete(srs_token).where(srs_token.c.id.in_(oldest))).rowcount
