"""The store: how the relay reads and changes the durable queue, which survives kill -9 and power failure.

Writers hand in a `Change`. Those that come at about the same time share one transaction and one sync
(`relay.queue.group_commit`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import (
    Row,
    bindparam,
    func,
    select,
    tuple_,
)

from relay.mail.message import Message
from relay.queue.audit import AuditTrail
from relay.queue.change import (
    Change,
    Delivery,
    Due,
    Key,
    StoredMessage,
    rekey,
)
from relay.queue.database import Database, QueueUnavailable, repeat_until_done
from relay.queue.dead_letters import DeadLetters
from relay.queue.group_commit import GroupCommit
from relay.queue.held_mail import HeldMail
from relay.queue.large_content import LargeContent
from relay.queue.leases import Leases
from relay.queue.news import News
from relay.queue.schema import CHUNK, delivery, message
from relay.queue.sender_tokens import SenderTokens
from relay.queue.stored_policies import StoredPolicies
from relay.queue.stored_verdict import StoredVerdict
from relay.queue.tls_results import TlsResults

__all__ = ["Change", "Damaged", "Delivery", "Due", "Key", "Store", "StoredMessage"]

SWEEP_AT_ONCE = 100  # rows in one transaction, so that a sweep does not delay mail
SMALL = 64 << 10  # octets of a message that is loaded together with others

# Constants, because SQLAlchemy takes longer to build a statement than to execute it.
_MESSAGE = select(message).where(message.c.id == bindparam("b_message"))
_EXISTS = select(message.c.id).where(message.c.id == bindparam("b_message"))
_ORDER = (delivery.c.next_attempt, delivery.c.message_id, delivery.c.n)


class Damaged(Exception):
    """A part of a message is missing from the queue, for good."""


class Store:
    """The queue, as one worker uses it.

    Args:
        database: where transactions run.
        owner: names this worker in leases; unique among all workers alive.

    Attributes:
        dead: the dead letters.
        held: what the filter and the access tables hold.
        audit: what queue commands have done.
        mta_sts: the MTA-STS policies that were fetched.
        tls_results: what TLS reports count.
        news: when to look for deliveries that are due.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self.owner = owner
        self._large = LargeContent(database)
        self.dead = DeadLetters(database, self._large)
        self.held = HeldMail(database, self._large)
        self.audit = AuditTrail(database)
        self.mta_sts = StoredPolicies(database)
        self.tls_results = TlsResults(database)
        self._commits = GroupCommit(database, self._large.delete_soon)
        self._leases = Leases(database, owner)
        self._tokens = SenderTokens(database)
        self.news = News(database)

    def expect(self, sessions: Callable[[], int]) -> None:
        """Let the changes of sessions wait for each other. `sessions` returns how many are between DATA and their
        reply."""
        self._commits.sessions = sessions

    # storing

    async def apply(self, change: Change) -> None:
        """Carry the change out, in one transaction with those of others that come at about the same time.

        Raises:
            QueueUnavailable: nothing of it was done.
        """
        try:
            for stored in change.arrived:
                await self._large.store(stored)
            await self._commits.carry_out(change)
        except QueueUnavailable:
            # A message that was committed, but not synced, keeps its content.
            await self._large.delete(stored.id for stored in change.arrived if len(stored.message.content) > CHUNK)
            raise
        self.news.changed(change)

    # due deliveries and leases

    async def due(self, now: float, limit: int, *, after: Due | None = None, hop: str | None = None) -> list[Due]:
        """Up to `limit` deliveries that are due at `now`, the longest due first.

        Args:
            after: the last delivery of the page before.
            hop: only deliveries of this next hop.

        Raises:
            QueueUnavailable
        """
        statement = (
            select(delivery.c.message_id, delivery.c.n, delivery.c.hop, delivery.c.next_attempt)
            .where(delivery.c.state == "queued", delivery.c.next_attempt <= now)
            .order_by(*_ORDER)
            .limit(limit)
        )
        if hop is not None:
            statement = statement.where(delivery.c.hop == hop)
        if after is not None:
            statement = statement.where(tuple_(*_ORDER) > tuple_(after.next_attempt, after.message_id, after.n))
        return await self._database.read(lambda c: [Due(*row) for row in c.execute(statement)])

    async def recipients(self, wanted: Sequence[Due]) -> dict[tuple[int, int], str]:
        """The recipients of deliveries, by message and number; those that are gone are left out, others may be there.

        Raises:
            QueueUnavailable
        """
        if not wanted:
            return {}
        # Two lists, which may find some more: SQLite reads the whole table for a list of pairs.
        statement = select(delivery.c.message_id, delivery.c.n, delivery.c.recipient).where(
            delivery.c.message_id.in_({due.message_id for due in wanted}), delivery.c.n.in_({due.n for due in wanted})
        )
        return await self._database.read(lambda c: {(row[0], row[1]): str(row[2]) for row in c.execute(statement)})

    async def rekey(self, changed: Sequence[Due]) -> None:
        """Give due deliveries the keys of next hops that stand here; those that changed since are left out.

        Raises:
            QueueUnavailable
        """
        if changed:
            await self._database.write(partial(rekey, changed), durable=False)

    async def lease(self, wanted: Sequence[Due], until: float) -> list[Delivery]:
        """See `Leases.lease`."""
        return await self._leases.lease(wanted, until)

    async def active(self, token: int) -> set[tuple[int, int]]:
        """See `Leases.active`."""
        return await self._leases.active(token)

    async def renew(self, keys: Iterable[Key], until: float) -> None:
        """See `Leases.renew`."""
        await self._leases.renew(keys, until)

    async def free(self, owner: str | None, now: float) -> int:
        """See `Leases.free`."""
        count = await self._leases.free(owner, now)
        self.news.freed(count)
        return count

    async def free_abandoned(self, now: float) -> int:
        """See `Leases.free_abandoned`."""
        count = await self._leases.free_abandoned(now)
        self.news.freed(count)
        return count

    # reading

    async def load(self, message_id: int) -> StoredMessage | None:
        """A message with its content; None if it is no longer in the queue.

        Raises:
            Damaged: a part of the content is missing.
            QueueUnavailable
        """
        wanted = {"b_message": message_id}
        row = await self._database.read(lambda c: c.execute(_MESSAGE, wanted).first())
        if row is None:
            return None
        content = await self._large.load(message_id, row.content, row.size)
        if len(content) == row.size:
            return _stored(row, content)
        if await self._database.read(lambda c: c.execute(_EXISTS, wanted).scalar()):
            raise Damaged(f"content is missing from octet {len(content)} on")
        return None  # it was dropped between two reads

    async def load_small(self, message_ids: Sequence[int]) -> dict[int, StoredMessage]:
        """Those of these messages that have at most `SMALL` octets, with their content.

        Raises:
            QueueUnavailable
        """
        statement = select(message).where(message.c.id.in_(message_ids), message.c.size <= SMALL)
        rows = await self._database.read(lambda c: c.execute(statement).all())
        return {row.id: _stored(row, row.content) for row in rows if len(row.content) == row.size}

    async def counts(self) -> dict[str, int]:
        """How many deliveries there are in each state.

        Raises:
            QueueUnavailable
        """
        statement = select(delivery.c.state, func.count()).group_by(delivery.c.state)
        rows = await self._database.read(lambda c: c.execute(statement).all(), long=True)
        return {str(state): int(count) for state, count in rows}

    async def ping(self) -> None:
        """Check whether a change could be stored now.

        Raises:
            QueueUnavailable
        """
        await self._database.write(lambda _: None, durable=False)

    async def reusable(self) -> int:
        """See `Database.reusable`. What is being deleted counts."""
        await self._large.delete()
        return await self._database.reusable()

    def log_room(self) -> int:
        """See `Database.log_room`."""
        return self._database.log_room()

    async def claims(self, task: str) -> bool:
        """See `Database.claims`."""
        return await self._database.claims(task)

    # sender tokens

    async def token_for(self, sender: str, now: float, lifetime: float) -> str:
        """See `SenderTokens.token_for`."""
        return await self._tokens.token_for(sender, now, lifetime)

    async def keep_author(self, author: str, token: str, now: float, lifetime: float) -> str:
        """See `SenderTokens.keep_author`."""
        return await self._tokens.keep_author(author, token, now, lifetime)

    async def sender_of(self, token: str, now: float) -> str | None:
        """See `SenderTokens.sender_of`."""
        return await self._tokens.sender_of(token, now)

    # upkeep

    async def sweep(self, now: float) -> None:
        """Delete expired sender tokens and MTA-STS policies, and content without a message.

        Raises:
            QueueUnavailable
        """
        await repeat_until_done(partial(self._tokens.sweep, now, SWEEP_AT_ONCE))
        await repeat_until_done(partial(self.mta_sts.sweep, now, SWEEP_AT_ONCE))
        await self._large.sweep(now)

    async def close(self) -> None:
        """Store what is waiting, then close the database."""
        await self._commits.close()
        await self._large.close()
        await self._database.close()


def _stored(row: Row[Any], content: bytes) -> StoredMessage:
    return StoredMessage(
        id=row.id,
        received=row.received,
        sender=row.sender,
        trace=row.trace,
        message=Message(content, row.body_hash),
        verdict=StoredVerdict.from_json(row.verdict),
        smtputf8=row.smtputf8,
        ret=row.ret,
        envid=row.envid,
        tls=row.tls,
    )
