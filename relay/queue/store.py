"""The durable queue: what is written here survives kill -9 and power failure, and nothing else does.

Writers hand in a `Change`; all changes that wait at the same moment share one transaction and one sync. Every change
to a delivery names the lease token it was claimed with, so that a worker that was given up for dead changes nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Executable, bindparam, delete, exists, func, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from relay.message import Message
from relay.queue.database import Database, QueueUnavailable
from relay.queue.ids import first_at
from relay.queue.schema import CHUNK, chunk, delivery, message, srs_token

BATCH_OCTETS = 4 << 20  # content that shares one transaction: more would hold the other sessions' acknowledgement up
BATCH_CHANGES = 100
TOKENS_AT_MOST = 1_000_000  # stored senders; each is a short row

State = Literal["queued", "held", "dead"]


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as the queue keeps it.

    Attributes:
        id: the integer behind the queue id.
        received: seconds since 1970.
        sender: the true sender, before any rewriting; empty for the null sender.
        trace: the fields that go on top of the content: Received, our loop marks, Authentication-Results.
        verdict: what the checks found, by method, and whether the client was trusted.
    """

    id: int
    received: float
    sender: str
    trace: bytes
    message: Message
    verdict: dict[str, Any]
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One recipient of one message on its way.

    Attributes:
        recipient: where it goes, after aliases.
        original: the address that the sender gave; all that reports ever show.
        next_hop: URL of the route's own next hop, empty for smarthost or MX.
        hop: what the delivery shares connections and fate with: that URL, or the recipient's domain.
        srs: whether the route wants the sender rewritten.
        next_attempt: when it is due; the end of the lease while it is leased.
        expires: when it becomes undeliverable.
        last: the last outcome (code, status, text, host, address, tls, at), for the queue commands.
    """

    message_id: int
    n: int
    recipient: str
    original: str
    next_hop: str = ""
    hop: str = ""
    srs: bool = True
    notify: str = ""
    orcpt: str = ""
    state: State = "queued"
    attempts: int = 0
    next_attempt: float = 0.0
    expires: float = 0.0
    warned: bool = False
    lease_owner: str | None = None
    lease_token: int | None = None
    last: dict[str, Any] | None = None

    @property
    def key(self) -> Key:
        """What changes to this delivery name; it must be leased."""
        assert self.lease_token is not None
        return Key(self.message_id, self.n, self.lease_token)


class Due(NamedTuple):
    """A delivery that waits for an attempt, as much of it as scheduling needs."""

    message_id: int
    n: int
    hop: str
    next_attempt: float


class Key(NamedTuple):
    """A delivery under a lease; a change with an outdated token changes nothing."""

    message_id: int
    n: int
    token: int


@dataclass(frozen=True, slots=True)
class Change:
    """What is to happen in one transaction, all of it or nothing.

    Attributes:
        arrived: messages to store; their deliveries are in `deliveries`.
        finished: deliveries that are over (delivered or bounced); a message goes with its last one.
        updated: (key, new column values) for deliveries that stay; their lease ends.
        durable: answer only after the sync. Without it the change can get lost with the power, not with the process.
    """

    arrived: Sequence[StoredMessage] = ()
    deliveries: Sequence[Delivery] = ()
    finished: Sequence[Key] = ()
    updated: Sequence[tuple[Key, dict[str, Any]]] = ()
    durable: bool = True

    @property
    def octets(self) -> int:
        return sum(min(len(m.message.content), CHUNK) for m in self.arrived)


@dataclass(slots=True)
class _Waiting:
    change: Change
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


_DELIVERY_COLUMNS = tuple(column.name for column in delivery.columns)
_ORDER = (delivery.c.next_attempt, delivery.c.message_id, delivery.c.n)
_FINISH = delete(delivery).where(
    delivery.c.message_id == bindparam("b_message"),
    delivery.c.n == bindparam("b_n"),
    delivery.c.lease_token == bindparam("b_token"),
)
_UPDATE = (
    update(delivery)
    .where(
        delivery.c.message_id == bindparam("b_message"),
        delivery.c.n == bindparam("b_n"),
        delivery.c.lease_token == bindparam("b_token"),
    )
    .values(lease_owner=None, lease_token=None)
)
_FORGET_MESSAGE = delete(message).where(
    message.c.id == bindparam("b_message"),
    ~exists().where(delivery.c.message_id == bindparam("b_message")),
)
_FORGET_CHUNKS = delete(chunk).where(
    chunk.c.message_id == bindparam("b_message"),
    ~exists().where(message.c.id == bindparam("b_message")),
)


class Store:
    """The queue's only door to the database.

    Args:
        database: where transactions run.
        owner: names this worker in leases; unique among all workers alive.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self.owner = owner
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def apply(self, change: Change) -> None:
        """Carry the change out, together with what others want at this moment.

        Raises:
            QueueUnavailable: none of it happened.
        """
        for stored in change.arrived:
            await self._store_chunks(stored)
        waiting = _Waiting(change)
        self._waiting.append(waiting)
        self._wake.set()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="queue-writer")
        await asyncio.shield(waiting.done)

    async def _store_chunks(self, stored: StoredMessage) -> None:
        """All but the first MiB of a large message, ahead of its row, in transactions that do not hold others up."""
        content = stored.message.content
        for n, start in enumerate(range(CHUNK, len(content), CHUNK), start=1):
            values = {"message_id": stored.id, "n": n, "content": content[start : start + CHUNK]}
            await self._database.write(partial(_execute, insert(chunk), values), durable=False)
            await asyncio.sleep(0)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._next_batch()
            try:
                await self._commit([w.change for w in batch])
            except QueueUnavailable as error:
                await self._one_by_one(batch, error)
            except Exception as error:
                self._fail(batch, error)
            else:
                for waiting in batch:
                    waiting.done.set_result(None)

    def _next_batch(self) -> list[_Waiting]:
        octets = count = 0
        for waiting in self._waiting[:BATCH_CHANGES]:
            octets += waiting.change.octets
            if count and octets > BATCH_OCTETS:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        if not self._waiting:
            self._wake.clear()
        return batch

    async def _commit(self, changes: Sequence[Change]) -> None:
        durable = any(c.durable for c in changes)
        await self._database.write(lambda connection: _carry_out(connection, changes), durable=durable)

    async def _one_by_one(self, batch: list[_Waiting], error: Exception) -> None:
        """One change that cannot be stored must not take its neighbours with it."""
        if len(batch) == 1:
            self._fail(batch, error)
            return
        for waiting in batch:
            try:
                await self._commit([waiting.change])
            except Exception as own:
                self._fail([waiting], own)
            else:
                waiting.done.set_result(None)

    @staticmethod
    def _fail(batch: list[_Waiting], error: Exception) -> None:
        for waiting in batch:
            waiting.done.set_exception(error)

    async def due(self, now: float, limit: int, *, after: Due | None = None, hop: str | None = None) -> list[Due]:
        """Up to `limit` deliveries due at `now`, the longest due first; of one next hop, or past one that was seen.

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

    async def lease(self, wanted: Sequence[Due], until: float) -> list[Delivery]:
        """Lease these deliveries until a time; those that another worker took, or that changed since, are left out.

        Raises:
            QueueUnavailable
        """
        token = secrets.randbits(62)
        rows = [{"b_message": d.message_id, "b_n": d.n, "b_seen": d.next_attempt} for d in wanted]
        values = {"lease_owner": self.owner, "lease_token": token, "next_attempt": until}
        mine = select(delivery).where(delivery.c.lease_owner == self.owner, delivery.c.lease_token == token)

        def work(connection: Connection) -> list[Delivery]:
            connection.execute(_LEASE.values(values), rows)
            return [Delivery(**row._mapping) for row in connection.execute(mine)]

        return await self._database.write(work, durable=False)

    async def renew(self, keys: Iterable[Key], until: float) -> None:
        """Push the end of these leases out.

        Raises:
            QueueUnavailable
        """
        rows = [{"b_message": k.message_id, "b_n": k.n, "b_token": k.token} for k in keys]
        if rows:
            statement = _UPDATE_LEASE.values(next_attempt=until)
            await self._database.write(partial(_execute, statement, rows), durable=False)

    async def load(self, message_id: int) -> StoredMessage | None:
        """A message with its content; None where it is gone.

        Raises:
            QueueUnavailable
        """
        row = await self._database.read(lambda c: c.execute(select(message).where(message.c.id == message_id)).first())
        if row is None:
            return None
        pieces = [row.content]
        have = len(row.content)
        n = 1
        while have < row.size:
            statement = select(chunk.c.content).where(chunk.c.message_id == message_id, chunk.c.n == n)
            piece = await self._database.read(partial(_scalar, statement))
            if piece is None:
                raise QueueUnavailable(f"message {message_id}: chunk {n} is missing")
            pieces.append(piece)
            have += len(piece)
            n += 1
            await asyncio.sleep(0)
        return StoredMessage(
            id=row.id,
            received=row.received,
            sender=row.sender,
            trace=row.trace,
            message=Message(b"".join(pieces), row.body_hash),
            verdict=row.verdict,
            smtputf8=row.smtputf8,
            ret=row.ret,
            envid=row.envid,
        )

    async def free(self, owner_prefix: str, now: float) -> int:
        """End every lease of the owners whose name begins so; how many there were.

        Raises:
            QueueUnavailable
        """
        statement = (
            update(delivery)
            .where(
                delivery.c.lease_owner.is_not(None), delivery.c.lease_owner.startswith(owner_prefix, autoescape=True)
            )
            .values(lease_owner=None, lease_token=None, next_attempt=now)
        )
        return await self._database.write(lambda c: c.execute(statement).rowcount, durable=False)

    async def owners(self, prefix: str) -> list[str]:
        """Who holds leases, of those whose name begins so.

        Raises:
            QueueUnavailable
        """
        statement = (
            select(delivery.c.lease_owner)
            .where(delivery.c.lease_owner.is_not(None), delivery.c.lease_owner.startswith(prefix, autoescape=True))
            .distinct()
        )
        return await self._database.read(lambda c: [str(owner) for owner in c.execute(statement).scalars()])

    async def sweep(self, now: float, keep_dead: float) -> int:
        """Drop dead letters past `keep_dead` seconds, expired sender tokens, and chunks that lost their message.

        At most a thousand of each a call, so that a sweep is short.

        Raises:
            QueueUnavailable
        """

        def work(connection: Connection) -> int:
            old = connection.execute(
                select(delivery.c.message_id, delivery.c.n)
                .where(delivery.c.state == "dead", delivery.c.next_attempt < now - keep_dead)
                .limit(1000)
            ).all()
            for message_id, n in old:
                connection.execute(delete(delivery).where(delivery.c.message_id == message_id, delivery.c.n == n))
                forget(connection, [message_id])
            connection.execute(delete(srs_token).where(srs_token.c.expires < now))
            stale = connection.execute(
                select(chunk.c.message_id)
                .where(~exists().where(message.c.id == chunk.c.message_id))
                .where(chunk.c.message_id < first_at(now - 86400))
                .distinct()
                .limit(1000)
            ).scalars()
            forget(connection, list(stale))
            return len(old)

        return await self._database.write(work, durable=False)

    async def counts(self) -> dict[str, int]:
        """How many deliveries there are in each state."""
        statement = select(delivery.c.state, func.count()).group_by(delivery.c.state)
        rows = await self._database.read(lambda c: c.execute(statement).all())
        return {str(state): int(count) for state, count in rows}

    async def token_for(self, sender: str, now: float, lifetime: float) -> str:
        """The stored token of a sender, one a day, for senders that do not fit into an SRS address.

        Raises:
            QueueUnavailable: also when a million are stored.
        """
        day = int(now // 86400)

        def work(connection: Connection) -> str:
            found = connection.execute(
                select(srs_token.c.id).where(srs_token.c.sender == sender, srs_token.c.day == day)
            ).scalar()
            if found is not None:
                return str(found)
            if (connection.execute(select(func.count()).select_from(srs_token)).scalar() or 0) >= TOKENS_AT_MOST:
                raise QueueUnavailable("too many stored senders")
            token = secrets.token_hex(8)
            values = {"id": token, "sender": sender, "day": day, "expires": now + lifetime}
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(dialect.insert(srs_token).values(values).on_conflict_do_nothing())
            return str(
                connection.execute(
                    select(srs_token.c.id).where(srs_token.c.sender == sender, srs_token.c.day == day)
                ).scalar_one()
            )

        return await self._database.write(work, durable=True)

    async def sender_of(self, token: str, now: float) -> str | None:
        """The sender behind a stored token; None where it is unknown or expired."""
        statement = select(srs_token.c.sender).where(srs_token.c.id == token, srs_token.c.expires >= now)
        return await self._database.read(lambda c: c.execute(statement).scalar())

    async def close(self) -> None:
        """Finish what is waiting, then let the database go."""
        while self._waiting:
            await asyncio.wait([w.done for w in self._waiting])
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        await self._database.close()


_LEASE = update(delivery).where(
    delivery.c.message_id == bindparam("b_message"),
    delivery.c.n == bindparam("b_n"),
    delivery.c.state == "queued",
    delivery.c.next_attempt == bindparam("b_seen"),
)
_UPDATE_LEASE = update(delivery).where(
    delivery.c.message_id == bindparam("b_message"),
    delivery.c.n == bindparam("b_n"),
    delivery.c.lease_token == bindparam("b_token"),
)


def _execute(statement: Executable, values: Any, connection: Connection) -> None:
    connection.execute(statement, values)


def _scalar(statement: Executable, connection: Connection) -> Any:
    return connection.execute(statement).scalar()


def _carry_out(connection: Connection, changes: Sequence[Change]) -> None:
    arrived = [_message_row(m) for c in changes for m in c.arrived]
    if arrived:
        connection.execute(insert(message), arrived)
    deliveries = [_delivery_row(d) for c in changes for d in c.deliveries]
    if deliveries:
        connection.execute(insert(delivery), deliveries)
    finished = [k for c in changes for k in c.finished]
    if finished:
        connection.execute(_FINISH, [_key(k) for k in finished])
        forget(connection, {k.message_id for k in finished})
    for columns, rows in _by_columns(u for c in changes for u in c.updated).items():
        connection.execute(_UPDATE.values({name: bindparam("v_" + name) for name in columns}), rows)


def _by_columns(updates: Iterable[tuple[Key, dict[str, Any]]]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    grouped: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for key, values in updates:
        row = _key(key) | {"v_" + name: value for name, value in values.items()}
        grouped.setdefault(tuple(sorted(values)), []).append(row)
    return grouped


def _key(key: Key) -> dict[str, int]:
    return {"b_message": key.message_id, "b_n": key.n, "b_token": key.token}


def forget(connection: Connection, message_ids: Iterable[int]) -> None:
    """Delete those messages that have no delivery left, with all their content."""
    rows = [{"b_message": message_id} for message_id in message_ids]
    if rows:
        connection.execute(_FORGET_MESSAGE, rows)
        connection.execute(_FORGET_CHUNKS, rows)


def _message_row(stored: StoredMessage) -> dict[str, Any]:
    return {
        "id": stored.id,
        "received": stored.received,
        "sender": stored.sender,
        "size": len(stored.message.content),
        "body_hash": stored.message.relaxed_body_hash,
        "smtputf8": stored.smtputf8,
        "ret": stored.ret,
        "envid": stored.envid,
        "verdict": stored.verdict,
        "trace": stored.trace,
        "content": stored.message.content[:CHUNK],
    }


def _delivery_row(d: Delivery) -> dict[str, Any]:
    return {name: getattr(d, name) for name in _DELIVERY_COLUMNS}
