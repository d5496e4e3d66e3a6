"""Leases: a worker's claim on a delivery, for a time.

A worker leases a delivery before an attempt, and renews the lease while the attempt lasts. A lease that is not renewed
ends by itself, and the delivery is due again. The leases of a dead worker are freed earlier: by its supervisor, which
sees it die, or on PostgreSQL by the workers of any host, which see that it is gone.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, bindparam, select, update

from relay.queue import row_sets
from relay.queue.change import LEASED, ONE, Delivery, Due, Key, parameters
from relay.queue.database import Database
from relay.queue.schema import delivery

GRACE = 3.0  # seconds in which a worker whose connection broke shows itself again

_LEASE = (
    update(delivery)
    .where(*ONE, delivery.c.state == "queued", delivery.c.next_attempt == bindparam("b_seen"))
    .values(lease_owner=bindparam("b_owner"), lease_token=bindparam("b_token"), next_attempt=bindparam("b_until"))
)
_TAKEN = select(delivery).where(
    delivery.c.lease_owner == bindparam("b_owner"), delivery.c.lease_token == bindparam("b_token")
)
_ACTIVE = select(delivery.c.message_id, delivery.c.n).where(
    delivery.c.lease_owner == bindparam("b_owner"),
    delivery.c.lease_token == bindparam("b_token"),
    delivery.c.state == "queued",
)
_RENEW = update(delivery).where(*LEASED)


class Leases:
    """The leases of one queue.

    Args:
        database: where transactions run.
        owner: names this worker in its leases; unique among all workers alive.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner

    async def lease(self, wanted: Sequence[Due], until: float) -> list[Delivery]:
        """Lease these deliveries until a time; those that another worker took, or that changed since, are left out.

        Raises:
            QueueUnavailable
        """
        if not wanted:
            return []
        token = secrets.randbits(62)

        def work(connection: Connection) -> list[Delivery]:
            if connection.dialect.name == "postgresql":
                keys = [(due.message_id, due.n, due.next_attempt) for due in wanted]
                claimed = row_sets.claim(connection, keys, self._owner, token, until)
                return [Delivery(**row._mapping) for row in claimed]
            lease = {"b_owner": self._owner, "b_token": token}
            rows = [
                {"b_message": due.message_id, "b_n": due.n, "b_seen": due.next_attempt, "b_until": until, **lease}
                for due in wanted
            ]
            connection.execute(_LEASE, rows)
            return [Delivery(**row._mapping) for row in connection.execute(_TAKEN, lease)]

        return await self._database.write(work, durable=False)

    async def active(self, token: int) -> set[tuple[int, int]]:
        """The deliveries, by message and number, that this worker leases under a token; without those that were held or
        dropped meanwhile.

        Raises:
            QueueUnavailable
        """
        parameters = {"b_owner": self._owner, "b_token": token}
        return await self._database.read(lambda c: {(row[0], row[1]) for row in c.execute(_ACTIVE, parameters)})

    async def renew(self, keys: Iterable[Key], until: float) -> None:
        """Move the end of these leases to a later time; a lease that was lost stays lost.

        Raises:
            QueueUnavailable
        """
        rows = [parameters(key) for key in keys]
        statement = _RENEW.values(next_attempt=until)
        if rows:
            await self._database.write(lambda c: c.execute(statement, rows), durable=False)

    async def free(self, owner: str | None, now: float) -> int:
        """End every lease of an owner, or of all owners; returns how many there were.

        Raises:
            QueueUnavailable
        """
        owned = delivery.c.lease_owner.is_not(None) if owner is None else delivery.c.lease_owner == owner
        statement = update(delivery).where(owned).values(lease_owner=None, lease_token=None, next_attempt=now)
        return await self._database.write(lambda c: c.execute(statement).rowcount, durable=False)

    async def free_abandoned(self, now: float) -> int:
        """End the leases of dead workers, on whatever host they were; returns how many there were.

        Raises:
            QueueUnavailable
        """
        statement = select(delivery.c.lease_owner).where(delivery.c.lease_owner.is_not(None)).distinct()
        owners = await self._database.read(lambda c: [str(owner) for owner in c.execute(statement).scalars()])
        dead = await self._database.dead_owners(owners)
        if dead:
            await asyncio.sleep(GRACE)
            dead = await self._database.dead_owners(dead)
        return sum([await self.free(owner, now) for owner in dead])
