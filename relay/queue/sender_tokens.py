"""Senders that do not fit into an SRS address, kept under a short token of ours, one a sender and day.

Their number is bounded, and the oldest give way: an answer to one of them is refused then, but mail goes out. Authors
that do not fit into a reply address are kept beside them, one for good. They live so much longer that senders would
always be the ones to give way, so authors have a bound of their own.
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

AT_MOST = 1_000_000  # each is a short row
AUTHORS_AT_MOST = 500_000
FORGOTTEN_AT_ONCE = 100  # rows of one transaction
RENEWED_AFTER = 86400.0  # seconds: an author who writes all day is one write to the disk

_NO_DAY = -1  # of an author


class SenderTokens:
    """The stored senders of one queue."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._count: int | None = None  # an estimate between sweeps: counting reads them all, and others add to them
        self._authors: int | None = None
        self._forgotten = 0

    async def token_for(self, sender: str, now: float, lifetime: float) -> str:
        """Today's token of a sender; it is good for `lifetime` seconds, unless a million newer ones are stored.

        Raises:
            QueueUnavailable
        """
        sender, day = normal_address(sender), int(now // 86400)
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

    async def keep_author(self, author: str, token: str, now: float, lifetime: float) -> str:
        """Keep an author for `lifetime` seconds from now, under the token given or the one that there is already.

        Past the bound those with the next tokens give way, which is a matter of chance: whoever makes up authors to
        fill the table cannot choose whom they drive out. One who writes again gets the same token again.

        Raises:
            QueueUnavailable
        """
        author = normal_address(author)
        mine = (srs_token.c.sender == author, srs_token.c.day == _NO_DAY)
        wanted = select(srs_token.c.id, srs_token.c.expires).where(*mine)
        found = await self._database.read(lambda c: c.execute(wanted).first())
        if found is not None and found.expires > now + lifetime - RENEWED_AFTER:
            return str(found.id)
        surplus = 0
        if found is None:
            surplus = min(max(await self._stored_authors() + 1 - AUTHORS_AT_MOST, 0), FORGOTTEN_AT_ONCE)
        values = {"id": token, "sender": author, "day": _NO_DAY, "expires": now + lifetime}

        def work(connection: Connection) -> tuple[str, int]:
            forgotten = _forget_authors(connection, token, surplus) if surplus else 0
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            kept_or_renewed = dialect.insert(srs_token).values(values)
            kept_or_renewed = kept_or_renewed.on_conflict_do_update(
                index_elements=["sender", "day"], set_={"expires": now + lifetime}
            )
            connection.execute(kept_or_renewed)
            return str(connection.execute(wanted).one().id), forgotten

        kept, forgotten = await self._database.write(work, durable=found is None)
        if self._authors is not None and found is None:
            self._authors += 1 - forgotten
        self._forgotten += forgotten
        return kept

    async def _stored(self) -> int:
        if self._count is None:
            everyone = select(func.count()).select_from(srs_token)
            self._count = await self._database.read(lambda c: c.execute(everyone).scalar_one(), long=True)
        return self._count

    async def _stored_authors(self) -> int:
        if self._authors is None:
            authors = select(func.count()).select_from(srs_token).where(srs_token.c.day == _NO_DAY)
            self._authors = await self._database.read(lambda c: c.execute(authors).scalar_one(), long=True)
        return self._authors

    async def sender_of(self, token: str, now: float) -> str | None:
        """The sender or author behind a token; None where it is unknown or expired.

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
        self._count, self._authors, self._forgotten = None, None, 0
        expired = select(srs_token.c.id).where(srs_token.c.expires < now).limit(limit)
        statement = delete(srs_token).where(srs_token.c.id.in_(expired))
        return await self._database.write(lambda c: c.execute(statement).rowcount, durable=False)


def _forget_oldest(connection: Connection, count: int) -> int:
    oldest = select(srs_token.c.id).where(srs_token.c.expires > 0).order_by(srs_token.c.expires).limit(count)
    return connection.execute(delete(srs_token).where(srs_token.c.id.in_(oldest))).rowcount


def _forget_authors(connection: Connection, token: str, count: int) -> int:
    next_ones = select(srs_token.c.id).where(srs_token.c.id > token, srs_token.c.day == _NO_DAY)
    next_ones = next_ones.order_by(srs_token.c.id).limit(count)
    return connection.execute(delete(srs_token).where(srs_token.c.id.in_(next_ones))).rowcount
