"""Opening a queue: made where it may be, refused with the reason where it cannot be used."""

from __future__ import annotations

import asyncio
import os

import pytest
from sqlalchemy import update

from relay.queue import schema
from relay.queue.connect import connect
from relay.queue.database import Database, QueueUnavailable
from relay.queue.schema import CHUNK
from relay.queue.store import Store

EMPTY = {"message": 0, "chunk": 0, "delivery": 0}
LARGE = b"Subject: x\r\n\r\n" + os.urandom(CHUNK * 2 + 17)


async def test_a_queue_of_another_version_is_refused(url: str, store: Store, queue: Database) -> None:
    await queue.write(lambda c: c.execute(update(schema.version).values(version=99)), durable=True)
    with pytest.raises(QueueUnavailable, match=f"the queue has schema version 99, this program knows {schema.VERSION}"):
        await connect(url)


async def test_a_queue_that_is_not_there_is_not_made_by_a_queue_command(url: str) -> None:
    with pytest.raises(QueueUnavailable, match="there is no queue yet"):
        await connect(url, create=False)


async def test_several_workers_may_make_the_queue_at_once(url: str) -> None:
    opened = await asyncio.gather(*(asyncio.create_task(connect(url)) for _ in range(4)))
    for queue in opened:
        await queue.close()
