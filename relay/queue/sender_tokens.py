"""Sender tokens: ids of senders too long for an SRS address, and of authors too long for a reply address.

A sender gets a token each day. Their number is limited, and the oldest are dropped: a bounce to a dropped one is then
refused, but its mail goes out. An author keeps one token. Authors live much longer than senders, so they have a limit
of their own; with a common one only senders would be dropped.
"""

from __future__ import annotations

import secrets

import structlog
from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from relay.mail.address import normal_address
from relay.queue.database import Database
from relay.queue.schema import srs_token

log = structlog.get_logger()

MAX_SENDERS = 1_000_000  # short rows, those of authors included
MAX_AUTHORS = 500_000
DROPPED_AT_ONCE = 100  # rows dropped in one transaction
RENEWED_AFTER = 86400.0  # seconds: however often an author writes, the disk is written once a day

_NO_DAY = -1  # stands in the column `day` of an author


class SenderTokens:
    """The stored senders and authors of one queue."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._count: int | None = None  # estimates: other workers add rows, too, and a count reads them all
        self._authors: int | None = None
        self._dropped = 0

    async def token_for(self, sender: str, now: float, lifetime: float) -> str:
        """Today's token of a sender; it is valid for `lifetime` seconds, unless a million newer ones are stored.

        Raises:
            QueueUnavailable
        """
        sender, day = normal_address(sender), int(now // 86400)
        wanted = select(srs_token.c.id).where(srs_token.c.sender == sender, srs_token.c.day == day)
        stored = await self._database.read(lambda c: c.execute(wanted).scalar())
        if stored is not None:
            return str(stored)
        surplus = min(max(await self._stored_senders() + 1 - MAX_SENDERS, 0), DROPPED_AT_ONCE)
        values = {"id": secrets.token_hex(8), "sender": sender, "day": day, "expires": now + lifetime}

        def work(connection: Connection) -> tuple[str, int]:
            dropped = _drop_oldest(connection, surplus) if surplus else 0
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(dialect.insert(srs_token).values(values).on_conflict_do_nothing())
            return str(connection.execute(wanted).scalar_one()), dropped

        token, dropped = await self._database.write(work, durable=True)
        if self._count is not None:
            self._count += 1 - dropped
        self._dropped += dropped
        return token

    async def keep_author(self, author: str, token: str, now: float, lifetime: float) -> str:
        """Keep an author for `lifetime` seconds from now, and return its token: the one stored, or else the one given.

        Past the limit the authors with the next higher tokens are dropped. That is random, so nobody who fills the
        table with made-up authors can choose whom to drop. A dropped author who writes again gets the same token.

        Raises:
            QueueUnavailable
        """
        author = normal_address(author)
        wanted = select(srs_token.c.id, srs_token.c.expires).where(
            srs_token.c.sender == author, srs_token.c.day == _NO_DAY
        )
        stored = await self._database.read(lambda c: c.execute(wanted).first())
        if stored is not None and stored.expires > now + lifetime - RENEWED_AFTER:
            return str(stored.id)
        surplus = 0
        if stored is None:
            surplus = min(max(await self._stored_authors() + 1 - MAX_AUTHORS, 0), DROPPED_AT_ONCE)
        values = {"id": token, "sender": author, "day": _NO_DAY, "expires": now + lifetime}

        def work(connection: Connection) -> tuple[str, int]:
            dropped = _drop_authors(connection, token, surplus) if surplus else 0
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            statement = dialect.insert(srs_token).values(values)
            statement = statement.on_conflict_do_update(
                index_elements=["sender", "day"], set_={"expires": now + lifetime}
            )
            connection.execute(statement)
            return str(connection.execute(wanted).one().id), dropped

        kept, dropped = await self._database.write(work, durable=stored is None)
        if self._authors is not None and stored is None:
            self._authors += 1 - dropped
        self._dropped += dropped
        return kept

    async def _stored_senders(self) -> int:
        """About how many rows there are, those of authors among them."""
        if self._count is None:
            statement = select(func.count()).select_from(srs_token)
            self._count = await self._database.read(lambda c: c.execute(statement).scalar_one(), long=True)
        return self._count

    async def _stored_authors(self) -> int:
        if self._authors is None:
            authors = select(func.count()).select_from(srs_token).where(srs_token.c.day == _NO_DAY)
            self._authors = await self._database.read(lambda c: c.execute(authors).scalar_one(), long=True)
        return self._authors

    async def sender_of(self, token: str, now: float) -> str | None:
        """The sender or author of a token; None if the token is unknown or expired.

        Raises:
            QueueUnavailable
        """
        statement = select(srs_token.c.sender).where(srs_token.c.id == token, srs_token.c.expires >= now)
        return await self._database.read(lambda c: c.execute(statement).scalar())

    async def sweep(self, now: float, limit: int) -> int:
        """Delete up to `limit` expired tokens; returns how many there were.

        Raises:
            QueueUnavailable
        """
        if self._dropped:
            log.warning("stored_senders_forgotten", count=self._dropped, at_most=MAX_SENDERS)
        self._count, self._authors, self._dropped = None, None, 0
        expired = select(srs_token.c.id).where(srs_token.c.expires < now).limit(limit)
        statement = delete(srs_token).where(srs_token.c.id.in_(expired))
        return await self._database.write(lambda c: c.execute(statement).rowcount, durable=False)


def _drop_oldest(connection: Connection, count: int) -> int:
    oldest = select(srs_token.c.id).where(srs_token.c.expires > 0).order_by(srs_token.c.expires).limit(count)
    return connection.execute(delete(srs_token).where(srs_token.c.id.in_(oldest))).rowcount


def _drop_authors(connection: Connection, token: str, count: int) -> int:
    higher = select(srs_token.c.id).where(srs_token.c.id > token, srs_token.c.day == _NO_DAY)
    next_higher = higher.order_by(srs_token.c.id).limit(count)
    return connection.execute(delete(srs_token).where(srs_token.c.id.in_(next_higher))).rowcount
