"""Messages for the queues under test, and the number of rows in their tables."""

from __future__ import annotations

import time
from typing import Any, cast

from sqlalchemy import Table, func, select

from relay.mail.message import Message
from relay.mail.queue_id import QueueIds
from relay.queue.change import DeliveryUpdate
from relay.queue.database import Database
from relay.queue.schema import chunk, delivery, message
from relay.queue.store import Change, Delivery, Store, StoredMessage
from relay.queue.stored_verdict import StoredVerdict

IDS = QueueIds(time.time)
BODY = b"Subject: hello\r\n\r\nA line.\r\n"


def arrival(content: bytes = BODY, recipients: int = 1, **values: Any) -> Change:
    """A new message for `r0@c.example` and on; `values` are those of its deliveries."""
    number = IDS.new()
    stored = StoredMessage(
        number, 1000.0, "a@b.example", b"Received: x\r\n", Message(content), StoredVerdict(spf="pass")
    )
    values = {"hop": "c.example", **values}
    return Change(
        arrived=[stored],
        deliveries=[
            Delivery(number, n, recipient=f"r{n}@c.example", original="r@d.example", **values)
            for n in range(recipients)
        ],
    )


async def leased(store: Store, now: float = 2000.0) -> list[Delivery]:
    """What is due, leased for a minute."""
    return await store.lease(await store.due(now, 100), now + 60)


async def bury(store: Store, died: float, **values: Any) -> None:
    """Make dead letters of what is due."""
    dead = cast(DeliveryUpdate, {"state": "dead", "next_attempt": died, **values})
    await store.apply(Change(updated=[(d.key, dead) for d in await leased(store, died)]))


async def sizes(queue: Database) -> dict[str, int]:
    """The number of rows of every table that holds mail."""

    async def size(table: Table) -> int:
        return await queue.read(lambda c: c.execute(select(func.count()).select_from(table)).scalar_one())

    return {table.name: await size(table) for table in (message, chunk, delivery)}
