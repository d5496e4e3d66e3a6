"""How the queue commands list and change deliveries, whether the relay runs or not.

A delivery under way keeps its lease: holding or dropping it does not stop the attempt, it decides what happens after
it. Long work is split into short transactions, so that the relay's own writers do not wait for long, and its
write-ahead log can be shortened.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    true,
    tuple_,
    update,
)

from relay.mail.queue_id import id_text
from relay.queue.audit import Author, Deed, leave
from relay.queue.change import State, forget
from relay.queue.database import Database
from relay.queue.hop_keys import shown_hop
from relay.queue.large_content import LargeContent
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.schema import delivery, message
from relay.queue.selector import Selector

__all__ = ["STATES", "Selector", "ShownState", "count", "drop", "hold", "present", "release", "retry", "rows", "show"]

PAGE = 1000  # deliveries in one transaction

ShownState = Literal["queued", "active", "held", "dead"]
"""The state of a delivery as commands show it: a queued one is `active` while an attempt is under way."""
STATES: tuple[ShownState, ...] = get_args(ShownState)

Action = Callable[[Connection, ColumnElement[bool]], None]
"""Changes the deliveries that meet a condition."""
_Place = tuple[int, int]

_KEY = (delivery.c.message_id, delivery.c.n)
_IS_BOUNCE = exists().where(message.c.id == delivery.c.message_id, message.c.sender == "")
_FIRST: _Place = (-1, -1)


async def rows(database: Database, state: ShownState | None = None) -> AsyncIterator[dict[str, Any]]:
    """Every delivery, or every delivery in one state, the oldest message first.

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


def _page(after: _Place, state: ShownState | None, connection: Connection) -> Sequence[Row[Any]]:
    statement = (
        select(delivery, message.c.sender, message.c.received, message.c.size, message.c.tls)
        .join(message, message.c.id == delivery.c.message_id)
        .where(tuple_(*_KEY) > tuple_(*after))
        .order_by(*_KEY)
        .limit(PAGE)
    )
    return connection.execute(statement if state is None else statement.where(_is_shown(state))).all()


async def show(database: Database, selector: Selector) -> list[dict[str, Any]]:
    """The deliveries that a selector means, each with the verdict on its message.

    Raises:
        QueueUnavailable
    """
    statement = (
        select(delivery, message.c.sender, message.c.received, message.c.size, message.c.tls, message.c.verdict)
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
        "by_hand": row.by_hand,
        "next_attempt": None if active or row.state != "queued" else row.next_attempt,
        "expires": row.expires,
        "held_until": row.held_until,
        "hold_reason": row.hold_reason,
        "tls_wish": row.tls,
        "last": row.last,
    }
    if "verdict" in row._mapping:
        described["verdict"] = row.verdict
    return described


async def retry(
    database: Database, selectors: Sequence[Selector], now: float, retry_for: float, by: Author | None = None
) -> int:
    """Make deliveries due now, and keep trying a dead one for `retry_for` seconds more; returns how many there were.

    The attempt does not count for the pause after it: a delivery whose turn had not come waits as long as before.

    Args:
        by: who does it, for the log.

    Raises:
        QueueUnavailable
    """
    clock = _clock(now)

    def act(connection: Connection, chosen: ColumnElement[bool]) -> None:
        at = clock()
        expires = case((delivery.c.state == "dead", at + retry_for), else_=delivery.c.expires)
        early = or_(delivery.c.state == "dead", delivery.c.next_attempt > at)
        values = {"state": "queued", "next_attempt": at, "expires": expires, "by_hand": _by_hand(early)}
        connection.execute(update(delivery).where(chosen).values(**values))

    waiting = and_(_is_in("queued", "dead"), delivery.c.lease_owner.is_(None))
    return await _act_on_each(database, selectors, _Work("retry", waiting, act, by))


async def hold(database: Database, selectors: Sequence[Selector], by: Author | None = None) -> int:
    """Keep deliveries from being attempted until they are released; returns how many there were.

    What the filter or an access table holds is then kept without an end, too.

    Args:
        by: who does it, for the log.

    Raises:
        QueueUnavailable
    """

    def act(connection: Connection, chosen: ColumnElement[bool]) -> None:
        connection.execute(update(delivery).where(chosen).values(state="held", held_until=None))

    possible = or_(_is_in("queued"), delivery.c.held_until.is_not(None))
    return await _act_on_each(database, selectors, _Work("hold", possible, act, by))


async def release(
    database: Database, selectors: Sequence[Selector], now: float, patience: RetrySchedule, by: Author | None = None
) -> int:
    """Make held deliveries due: now, or when the attempt under way is over; returns how many there were.

    The attempt does not count for the pause after it, as with `retry`. What the filter or an access table has held
    expires as if it had come now.

    Args:
        patience: when a message expires.
        by: who does it, for the log.

    Raises:
        QueueUnavailable
    """
    idle = delivery.c.lease_owner.is_(None)
    clock = _clock(now)

    def act(connection: Connection, chosen: ColumnElement[bool]) -> None:
        at = clock()
        due = case((idle, at), else_=delivery.c.next_attempt)
        values = {
            "state": "queued",
            "next_attempt": due,
            "by_hand": _by_hand(and_(idle, delivery.c.next_attempt > at)),
            "expires": case(
                (delivery.c.hold_reason.is_(None), delivery.c.expires),
                (_IS_BOUNCE, at + patience.bounce_retry_for),
                else_=at + patience.retry_for,
            ),
            "held_until": None,
            "hold_reason": None,
        }
        connection.execute(update(delivery).where(chosen).values(**values))

    return await _act_on_each(database, selectors, _Work("release", _is_in("held"), act, by))


def _clock(now: float) -> Callable[[], float]:
    """A clock that shows `now` for the first page. Each page is due when it gets its turn: workers do not go far back
    for what is due since the command began."""
    began = math.inf

    def clock() -> float:
        nonlocal began
        here = time.monotonic()
        began = min(began, here)
        return now + (here - began)

    return clock


def _by_hand(early: ColumnElement[bool]) -> ColumnElement[int]:
    """How many attempts somebody has asked for, with one more where it is early; twice in a row counts once."""
    counts = and_(early, delivery.c.attempts > delivery.c.by_hand)
    return case((counts, delivery.c.by_hand + 1), else_=delivery.c.by_hand)


async def drop(database: Database, selectors: Sequence[Selector], by: Author | None = None) -> int:
    """Delete deliveries, and messages that have none left, and tell nobody; returns how many there were.

    Args:
        by: who does it, for the log.

    Raises:
        QueueUnavailable
    """

    def act(connection: Connection, chosen: ColumnElement[bool]) -> None:
        message_ids = set(connection.execute(select(delivery.c.message_id).where(chosen)).scalars())
        connection.execute(delete(delivery).where(chosen))
        work.left.extend(forget(connection, message_ids))

    work = _Work("drop", true(), act, by)
    return await _act_on_each(database, selectors, work)


async def count(database: Database) -> int:
    """How many deliveries there are.

    Raises:
        QueueUnavailable
    """
    statement = select(func.count()).select_from(delivery)
    return int(await database.read(lambda connection: connection.execute(statement).scalar_one(), long=True))


async def present(database: Database, selector: Selector) -> bool:
    """Whether the queue has a delivery that the selector means.

    Raises:
        QueueUnavailable
    """
    statement = select(delivery.c.n).where(selector.condition).limit(1)
    return await database.read(lambda connection: connection.execute(statement).first()) is not None


@dataclass(frozen=True, slots=True)
class _Work:
    """What a command does to deliveries.

    Attributes:
        possible: the deliveries to which it can be done.
        act: does it to those that meet a condition.
        left: messages that are gone and may have left content behind.
    """

    deed: Deed
    possible: ColumnElement[bool]
    act: Action
    by: Author | None
    left: list[int] = field(default_factory=list)

    def do(self, connection: Connection, chosen: ColumnElement[bool]) -> int:
        """Do it to the chosen deliveries as far as it is possible, and leave a record; returns how many there were."""
        affected = and_(chosen, self.possible)
        changed: dict[int, list[int]] = {}
        rows = connection.execute(_locked(select(*_KEY).where(affected), connection)).all()
        for message_id, n in sorted((row.message_id, row.n) for row in rows):
            changed.setdefault(message_id, []).append(n)
        if rows:
            self.act(connection, affected)
            if self.by is not None:
                leave(connection, self.by, self.deed, time.time(), changed)
        return len(rows)


def _locked(statement: Select[Any], connection: Connection) -> Select[Any]:
    """The statement with a lock on its rows, where others may write at the same time."""
    return statement.with_for_update() if connection.dialect.name == "postgresql" else statement


async def _act_on_each(database: Database, selectors: Sequence[Selector], work: _Work) -> int:
    """Act on the selected deliveries, or without selectors on all, a page at a time; returns how many there were.

    After each page there is a pause as long as the page took, so that the relay has half the time.
    """
    large = LargeContent(database)
    if selectors:
        chosen = or_(*(s.condition for s in selectors))
        count = await database.write(lambda c: work.do(c, chosen), durable=True)
        database.announce()
        await large.delete(work.left)
        return count
    count, after = 0, _FIRST
    while True:
        started = time.monotonic()
        changed, last = await database.write(partial(_act_on_page, work, after), durable=True)
        count += changed
        database.announce()
        await large.delete(work.left)
        work.left.clear()
        if last is None:
            return count
        after = last
        await asyncio.sleep(time.monotonic() - started)


def _act_on_page(work: _Work, after: _Place, connection: Connection) -> tuple[int, _Place | None]:
    follows = tuple_(*_KEY) > tuple_(*after)
    ends = connection.execute(select(*_KEY).where(follows).order_by(*_KEY).offset(PAGE - 1).limit(1)).first()
    last = None if ends is None else (ends.message_id, ends.n)
    return work.do(connection, and_(follows, true() if last is None else tuple_(*_KEY) <= tuple_(*last))), last


def _is_shown(state: ShownState) -> ColumnElement[bool]:
    leased = delivery.c.lease_owner.is_not(None)
    if state == "active":
        return and_(_is_in("queued"), leased)
    return and_(_is_in("queued"), ~leased) if state == "queued" else _is_in(state)


def _is_in(*states: State) -> ColumnElement[bool]:
    """In one of these states.

    The column is wrapped so that SQLite does not use the index over states: that one has another order, and SQLite
    would sort the whole queue for every page.
    """
    return func.coalesce(delivery.c.state, "").in_(states)
