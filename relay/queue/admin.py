"""What the administrator sees of the queue and does to it, while the relay runs or while it does not.

Units of work over the tables, for the queue commands. A delivery under way keeps its lease: holding or dropping it does
not stop the attempt at hand, it only settles what comes after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select, update

from relay.queue.ids import number, text
from relay.queue.schema import delivery, message
from relay.queue.store import forget

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Selector:
    """Which deliveries a command means: all of a message, or one of them (`ID/N`)."""

    message_id: int
    n: int | None = None

    @classmethod
    def parse(cls, given: str) -> Selector:
        """Raises ValueError for what is neither ID nor ID/N."""
        name, slash, n = given.partition("/")
        if slash and not n.isdigit():
            raise ValueError(f"{given!r} is not a queue id (like 3F2KQ0Z81TWH, or 3F2KQ0Z81TWH/2 for one recipient)")
        return cls(number(name), int(n) if slash else None)

    @property
    def condition(self) -> ColumnElement[bool]:
        one_message = delivery.c.message_id == self.message_id
        return one_message if self.n is None else and_(one_message, delivery.c.n == self.n)


def rows(connection: Connection, state: str | None = None) -> Iterator[dict[str, Any]]:
    """Every delivery, the oldest message first, read page by page so that the queue may be of any length."""
    last = (-1, -1)
    while True:
        statement = (
            select(delivery, message.c.sender, message.c.received, message.c.size)
            .join(message, message.c.id == delivery.c.message_id)
            .where(
                or_(
                    delivery.c.message_id > last[0],
                    and_(delivery.c.message_id == last[0], delivery.c.n > last[1]),
                )
            )
            .order_by(delivery.c.message_id, delivery.c.n)
            .limit(PAGE)
        )
        if state is not None:
            statement = statement.where(delivery.c.state == state)
        page = connection.execute(statement).all()
        for row in page:
            yield describe(row._mapping)
        if len(page) < PAGE:
            return
        last = (page[-1].message_id, page[-1].n)


def show(connection: Connection, selector: Selector) -> list[dict[str, Any]]:
    """The deliveries that a selector means."""
    statement = (
        select(delivery, message.c.sender, message.c.received, message.c.size, message.c.verdict)
        .join(message, message.c.id == delivery.c.message_id)
        .where(selector.condition)
        .order_by(delivery.c.n)
    )
    return [describe(row._mapping) for row in connection.execute(statement)]


def describe(row: Any) -> dict[str, Any]:
    """A delivery as the commands print it; times are seconds since 1970."""
    active = row["lease_owner"] is not None
    described = {
        "id": text(row["message_id"]),
        "n": row["n"],
        "state": "active" if active and row["state"] == "queued" else row["state"],
        "sender": row["sender"],
        "recipient": row["recipient"],
        "original_recipient": row["original"],
        "next_hop": row["next_hop"] or None,
        "size": row["size"],
        "received": row["received"],
        "attempts": row["attempts"],
        "next_attempt": None if active or row["state"] != "queued" else row["next_attempt"],
        "expires": row["expires"],
        "last": row["last"],
    }
    if "verdict" in row:
        described["verdict"] = row["verdict"]
    return described


def retry(connection: Connection, selectors: Sequence[Selector], now: float, retry_for: float) -> int:
    """Make deliveries due now; a dead one gets a new life of `retry_for` seconds. How many there were."""
    waiting = and_(delivery.c.state.in_(("queued", "dead")), delivery.c.lease_owner.is_(None))
    revive = update(delivery).where(_any(selectors), delivery.c.state == "dead").values(expires=now + retry_for)
    connection.execute(revive)
    changed = update(delivery).where(_any(selectors), waiting).values(state="queued", next_attempt=now)
    return connection.execute(changed).rowcount


def hold(connection: Connection, selectors: Sequence[Selector]) -> int:
    """Keep deliveries from being attempted until they are released. How many there were."""
    changed = update(delivery).where(_any(selectors), delivery.c.state == "queued").values(state="held")
    return connection.execute(changed).rowcount


def release(connection: Connection, selectors: Sequence[Selector], now: float) -> int:
    """Let held deliveries go on, now. How many there were."""
    changed = update(delivery).where(_any(selectors), delivery.c.state == "held")
    return connection.execute(changed.values(state="queued", next_attempt=now)).rowcount


def drop(connection: Connection, selectors: Sequence[Selector]) -> int:
    """Delete deliveries, and messages that have none left; nobody is told. How many there were."""
    concerned = connection.execute(select(delivery.c.message_id).where(_any(selectors)).distinct()).scalars().all()
    dropped = connection.execute(delete(delivery).where(_any(selectors))).rowcount
    forget(connection, concerned)
    return dropped


def _any(selectors: Sequence[Selector]) -> ColumnElement[bool]:
    """No selectors mean every delivery."""
    return or_(*(s.condition for s in selectors)) if selectors else delivery.c.message_id.is_not(None)
