"""`python -m tests.queue.writer PATH OWNER COUNT`: a worker that says on stdout what it stored, and what it forgets."""

from __future__ import annotations

import asyncio
import os
import sys

from relay.queue import sqlite
from relay.queue.connect import connect
from relay.queue.store import Change, Store
from tests.queue.changes import arrival


def say(word: str, change: Change) -> None:
    os.write(1, f"{word} {change.arrived[0].id}\n".encode())


async def main(path: str, owner: str, count: int) -> None:
    sqlite.CHECKPOINT_AT = 150_000
    store = Store(await connect(f"sqlite:///{path}"), owner)

    async def put() -> Change:
        change = arrival(b"Subject: x\r\n\r\n" + os.urandom(3000), lease_owner=owner, lease_token=7)
        await store.apply(change)
        say("stored", change)
        return change

    for _ in range(count):
        first, *_ = await asyncio.gather(put(), put(), put())
        say("forgets", first)
        await store.apply(Change(finished=[first.deliveries[0].key], durable=False))
    await store.close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
