"""MTA-STS policies (RFC 8461) in the queue's database, where they survive restarts and all workers find them.

They are a cache, so nobody waits for them to be on disk, and a database that is away is no error for those who ask.
"""

from __future__ import annotations

from dataclasses import asdict

import structlog
from sqlalchemy import Connection, Integer, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from relay.queue.database import Database, QueueUnavailable
from relay.queue.schema import mta_sts
from relay.transport_security.stored_policy import StoredPolicy

log = structlog.get_logger()

MAX_POLICIES = 50_000  # of a usual size, 200 octets
SHARE = 8192  # octets after which a policy counts once more, so that strangers with long ones (64 KiB) fill no disk
DROPPED_AT_ONCE = 100  # rows dropped in one transaction

_WEIGHT = 1 + func.length(mta_sts.c.policy, type_=Integer) // SHARE


class StoredPolicies:
    """The stored policies of one queue."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._weight: int | None = None  # an estimate: other workers add rows, too, and a sum reads them all

    async def policy_of(self, domain: str) -> StoredPolicy | None:
        """See `PolicyStore.policy_of`."""
        statement = select(mta_sts).where(mta_sts.c.domain == domain)
        try:
            row = await self._database.read(lambda c: c.execute(statement).first())
        except QueueUnavailable as error:
            _log_unavailable(error)
            return None
        return StoredPolicy(**row._mapping) if row is not None else None

    async def keep_policy(self, policy: StoredPolicy) -> None:
        """See `PolicyStore.keep_policy`. Past `MAX_POLICIES` those that no mail has needed for longest are dropped."""
        values = asdict(policy)
        before = select(_WEIGHT).where(mta_sts.c.domain == policy.domain)

        def work(connection: Connection) -> int:
            """Store it; returns how much more there is."""
            added = 1 + len(policy.policy) // SHARE - (connection.execute(before).scalar() or 0)
            surplus = weight + added - MAX_POLICIES
            if added > 0 and surplus > 0:
                added -= _drop_unused(connection, surplus)
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            statement = dialect.insert(mta_sts).values(values)
            connection.execute(statement.on_conflict_do_update(index_elements=["domain"], set_=values))
            return added

        try:
            weight = await self._stored()
            added = await self._database.write(work, durable=False)
        except QueueUnavailable as error:
            _log_unavailable(error)
            return
        if self._weight is not None:  # no sweep came between
            self._weight += added

    async def _stored(self) -> int:
        """About how many policies there are, as `MAX_POLICIES` counts them.

        Raises:
            QueueUnavailable
        """
        if self._weight is None:
            statement = select(func.coalesce(func.sum(_WEIGHT), 0))
            self._weight = int(await self._database.read(lambda c: c.execute(statement).scalar_one(), long=True))
        return self._weight

    async def policy_used(self, domain: str, now: float) -> None:
        """See `PolicyStore.policy_used`."""
        statement = update(mta_sts).where(mta_sts.c.domain == domain, mta_sts.c.used < now).values(used=now)
        try:
            await self._database.write(lambda c: c.execute(statement), durable=False)
        except QueueUnavailable as error:
            _log_unavailable(error)

    async def policies_to_refresh(
        self, now: float, unused_since: float, again: float, limit: int
    ) -> list[StoredPolicy]:
        """See `PolicyStore.policies_to_refresh`."""
        wanted = (
            select(mta_sts.c.domain)
            .where(mta_sts.c.refresh <= now, mta_sts.c.expires > now, mta_sts.c.used >= unused_since)
            .order_by(mta_sts.c.refresh)
            .limit(limit)
        )
        claimed = wanted.with_for_update(skip_locked=True)  # SQLite has one writer at a time, and ignores this
        claim = update(mta_sts).where(mta_sts.c.domain.in_(claimed)).values(refresh=again).returning(*mta_sts.c)
        try:
            if await self._database.read(lambda c: c.execute(wanted.limit(1)).first()) is None:
                return []
            rows = await self._database.write(lambda c: c.execute(claim).all(), durable=False)
        except QueueUnavailable as error:
            _log_unavailable(error)
            return []
        return [StoredPolicy(**row._mapping) for row in rows]

    async def sweep(self, now: float, limit: int) -> int:
        """Delete up to `limit` expired policies; returns how many there were.

        Raises:
            QueueUnavailable
        """
        self._weight = None
        expired = select(mta_sts.c.domain).where(mta_sts.c.expires <= now).limit(limit)
        statement = delete(mta_sts).where(mta_sts.c.domain.in_(expired))
        return await self._database.write(lambda c: c.execute(statement).rowcount, durable=False)


def _drop_unused(connection: Connection, surplus: int) -> int:
    """Drop the policies that no mail has needed for longest, no more than it takes; returns how much less there is."""
    columns = select(mta_sts.c.domain, _WEIGHT).where(mta_sts.c.used > 0)
    unused = connection.execute(columns.order_by(mta_sts.c.used).limit(min(surplus, DROPPED_AT_ONCE)))
    domains, dropped = [], 0
    for domain, weight in unused:
        if dropped < surplus:
            domains.append(domain)
            dropped += weight
    connection.execute(delete(mta_sts).where(mta_sts.c.domain.in_(domains)))
    return dropped


def _log_unavailable(error: QueueUnavailable) -> None:
    log.error("queue_unavailable", problem=str(error))
