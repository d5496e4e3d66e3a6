"""What the administrator sees of the queue and does to it, while the relay runs or while it does not.

A delivery under way keeps its lease: holding or dropping it does not stop the attempt at hand, it only settles what
comes after. However long the queue is, no transaction is: none keeps the relay's own writers waiting for long, or its
write-ahead log from being shortened.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, func, or_, select, true, tuple_, update

from relay.mail.queue_id import id_from_text, id_text
from relay.queue.change import State, forget, shown_hop
from relay.queue.database import Database
from relay.queue.schema import delivery, message

PAGE = 1000  # deliveries of one transaction

Shown = Literal["queued", "active", "held", "dead"]
"""What a delivery is doing: `active` is one under way, which waits for nothing."""
STATES: tuple[Shown, ...] = get_args(Shown)

Act = Callable[[Connection, ColumnElement[bool]], int]
_Place = tuple[int, int]

_KEY = (delivery.c.message_id, delivery.c.n)
_FIRST: _Place = (-1, -1)


@dataclass(frozen=True, slots=True)
class Selector:
    """Which deliveries a command means: all of a message, or one of them (`ID/N`)."""

    message_id: int
    n: int | None = None

    @classmethod
    def parse(cls, given: str) -> Selector:
        """Raises ValueError for what is neither ID nor ID/N."""
        name, slash, n = given.partition("/")
        if slash and not (n.isascii() and n.isdigit() and len(n) <= 9):
            raise ValueError(f"{given!r} is not a queue id (like 3F2KQ0Z81TWH, or 3F2KQ0Z81TWH/2 for one recipient)")
        return cls(id_from_text(name), int(n) if slash else None)

    @property
    def condition(self) -> ColumnElement[bool]:
        one_message = delivery.c.message_id == self.message_id
        return one_message if self.n is None else and_(one_message, delivery.c.n == self.n)


async def rows(database: Database, state: Shown | None = None) -> AsyncIterator[dict[str, Any]]:
    """Every delivery, of one state or of all, the oldest message first.

    Raises:
        QueueUnavailable
    """
    after = _FIRST
    while True:
        page = await database.read(partial(_page, after, state))
        for row in page:
            yield describe(row)
        if len(page) < PAGE:
            return
        after = (page[-1].message_id, page[-1].n)


def _page(after: _Place, state: Shown | None, connection: Connection) -> Sequence[Row[Any]]:
    statement = (
        select(delivery, message.c.sender, message.c.received, message.c.size)
        .join(message, message.c.id == delivery.c.message_id)
        .where(tuple_(*_KEY) > tuple_(*after))
        .order_by(*_KEY)
        .limit(PAGE)
    )
    return connection.execute(statement if state is None else statement.where(_is_shown(state))).all()


async def show(database: Database, selector: Selector) -> list[dict[str, Any]]:
    """The deliveries that a selector means, each with what the checks found.

    Raises:
        QueueUnavailable
    """
    statement = (
        select(delivery, message.c.sender, message.c.received, message.c.size, message.c.verdict)
        .join(message, message.c.id == delivery.c.message_id)
        .where(selector.condition)
        .order_by(delivery.c.n)
    )
    return await database.read(lambda c: [describe(row) for row in c.execute(statement)])


def describe(row: Row[Any]) -> dict[str, Any]:
    """A delivery as the commands print it; times are seconds since 1970."""
    active = row.lease_owner is not None and row.state == "queued"
    described = {
        "id": id_text(row.message_id),
        "n": row.n,
        "state": "active" if active else row.state,
        "sender": row.sender,
        "recipient": row.recipient,
        "original_recipient": row.original,
        "next_hop": shown_hop(row.hop),
        "size": row.size,
        "received": row.received,
        "attempts": row.attempts,
        "next_attempt": None if active or row.state != "queued" else row.next_attempt,
        "expires": row.expires,
        "last": row.last,
    }
    if "verdict" in row._mapping:
        described["verdict"] = row.verdict
    return described


async def retry(database: Database, selectors: Sequence[Selector], now: float, retry_for: float) -> int:
    """Make deliveries due now; a dead one gets a new life of `retry_for` seconds. How many there were.

    Raises:
        QueueUnavailable
    """
    expires = case((delivery.c.state == "dead", now + retry_for), else_=delivery.c.expires)

    def act(connection: Connection, chosen: ColumnElement[bool]) -> int:
        waiting = and_(chosen, _is_in("queued", "dead"), delivery.c.lease_owner.is_(None))
        changed = update(delivery).where(waiting).values(state="queued", next_attempt=now, expires=expires)
        return connection.execute(changed).rowcount

    return await _each(database, selectors, act)


async def hold(database: Database, selectors: Sequence[Selector]) -> int:
    """Keep deliveries from being attempted until they are released. How many there were.

    Raises:
        QueueUnavailable
    """

    def act(connection: Connection, chosen: ColumnElement[bool]) -> int:
        return connection.execute(update(delivery).where(chosen, _is_in("queued")).values(state="held")).rowcount

    return await _each(database, selectors, act)


async def release(database: Database, selectors: Sequence[Selector], now: float) -> int:
    """Let held deliveries go on: now, or when the attempt that was under way is over. How many there were.

    Raises:
        QueueUnavailable
    """
    due = case((delivery.c.lease_owner.is_(None), now), else_=delivery.c.next_attempt)

    def act(connection: Connection, chosen: ColumnElement[bool]) -> int:
        changed = update(delivery).where(chosen, _is_in("held")).values(state="queued", next_attempt=due)
        return connection.execute(changed).rowcount

    return await _each(database, selectors, act)


async def drop(database: Database, selectors: Sequence[Selector]) -> int:
    """Delete deliveries, and messages that have none left; nobody is told. How many there were.

    Raises:
        QueueUnavailable
    """

    def act(connection: Connection, chosen: ColumnElement[bool]) -> int:
        concerned = set(connection.execute(select(delivery.c.message_id).where(chosen)).scalars())
        dropped = connection.execute(delete(delivery).where(chosen)).rowcount
        forget(connection, concerned)
        return dropped

    return await _each(database, selectors, act)


async def _each(database: Database, selectors: Sequence[Selector], act: Act) -> int:
    """Do it to what is selected, or without selectors to everything, a page at a time; how many there were.

    Between pages there is as long a pause as the last one took: half the time belongs to the relay.
    """
    if selectors:
        chosen = or_(*(s.condition for s in selectors))
        return await database.write(lambda c: act(c, chosen), durable=True)
    count, after = 0, _FIRST
    while True:
        started = time.monotonic()
        changed, last = await database.write(partial(_act_on_page, act, after), durable=True)
        count += changed
        if last is None:
            return count
        after = last
        await asyncio.sleep(time.monotonic() - started)


def _act_on_page(act: Act, after: _Place, connection: Connection) -> tuple[int, _Place | None]:
    follows = tuple_(*_KEY) > tuple_(*after)
    ends = connection.execute(select(*_KEY).where(follows).order_by(*_KEY).offset(PAGE - 1).limit(1)).first()
    last = None if ends is None else (ends.message_id, ends.n)
    return act(connection, and_(follows, true() if last is None else tuple_(*_KEY) <= tuple_(*last))), last


def _is_shown(state: Shown) -> ColumnElement[bool]:
    leased = delivery.c.lease_owner.is_not(None)
    if state == "active":
        return and_(_is_in("queued"), leased)
    return and_(_is_in("queued"), ~leased) if state == "queued" else _is_in(state)


def _is_in(*states: State) -> ColumnElement[bool]:
    """In one of these states. The column is wrapped to keep SQLite from the index over states, whose order is another
    one: it would sort the whole queue for every page."""
    return func.coalesce(delivery.c.state, "").in_(states)
