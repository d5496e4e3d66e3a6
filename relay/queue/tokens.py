"""Senders that do not fit into an SRS address, kept under a short token of ours, one a sender and day."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from relay.queue.database import Database, QueueUnavailable
from relay.queue.schema import srs_token

AT_MOST = 1_000_000  # each is a short row


class SenderTokens:
    """The stored senders of one queue."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._count: int | None = None  # an estimate between sweeps: counting reads them all, and others add to them

    async def token_for(self, sender: str, now: float, lifetime: float) -> str:
        """Today's token of a sender; it is good for `lifetime` seconds.

        Raises:
            QueueUnavailable: also when a million are stored.
        """
        day = int(now // 86400)
        wanted = select(srs_token.c.id).where(srs_token.c.sender == sender, srs_token.c.day == day)
        found = await self._database.read(lambda c: c.execute(wanted).scalar())
        if found is not None:
            return str(found)
        if self._count is None:
            everyone = select(func.count()).select_from(srs_token)
            self._count = await self._database.read(lambda c: c.execute(everyone).scalar_one(), long=True)
        if self._count >= AT_MOST:
            raise QueueUnavailable("too many stored senders")
        values = {"id": secrets.token_hex(8), "sender": sender, "day": day, "expires": now + lifetime}

        def work(connection: Connection) -> str:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(dialect.insert(srs_token).values(values).on_conflict_do_nothing())
            return str(connection.execute(wanted).scalar_one())

        token = await self._database.write(work, durable=True)
        self._count += 1
        return token

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
        expired = select(srs_token.c.id).where(srs_token.c.expires < now).limit(limit)
        statement = delete(srs_token).where(srs_token.c.id.in_(expired))
        self._count = None
        return await self._database.write(lambda c: c.execute(statement).rowcount, durable=False)
