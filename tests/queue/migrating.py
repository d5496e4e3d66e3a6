"""Steps that no release has, and programs that run while the queue is migrated by them.

    python -m tests.queue.migrating start URL       what a supervisor of the next release does at its start
    python -m tests.queue.migrating hang URL        the same, but it never comes to the end of its step
    python -m tests.queue.migrating at-work URL     a worker of this release, that stores and finishes mail
    python -m tests.queue.migrating run python -m relay …   a command of the next release

Each of the first three prints a line when it has begun; `at-work` prints one more for every message.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
import time

from sqlalchemy import Connection

from relay.queue import migrations, schema
from relay.queue.connect import connect
from relay.queue.migrations import Step
from relay.queue.store import Change, Store
from tests.queue.changes import arrival, leased

NEXT = schema.VERSION + 1


def add_column(connection: Connection) -> None:
    """What an additive step may do."""
    connection.exec_driver_sql("ALTER TABLE delivery ADD COLUMN priority INTEGER NOT NULL DEFAULT 0")
    connection.exec_driver_sql("CREATE INDEX delivery_priority ON delivery (priority)")


def rename_column(connection: Connection) -> None:
    """What is not additive."""
    connection.exec_driver_sql("ALTER TABLE delivery RENAME COLUMN notify TO dsn_notify")


def rename_there_and_back(connection: Connection) -> None:
    """Not additive, and yet this program can read the result."""
    connection.exec_driver_sql("ALTER TABLE message RENAME TO moved")
    connection.exec_driver_sql("ALTER TABLE moved RENAME TO message")


ADDITIVE = Step(NEXT, additive=True, run=add_column)
NOT_ADDITIVE = Step(NEXT, additive=False, run=rename_there_and_back)


def become_next_release(*steps: Step) -> None:
    """Make this process a program of the next release."""
    schema.VERSION = NEXT
    migrations.STEPS = (*migrations.STEPS, *steps)


def _hang(connection: Connection) -> None:
    add_column(connection)
    print("in the middle", flush=True)
    time.sleep(60)


async def _start(url: str) -> None:
    print("starts", flush=True)
    queue = await connect(url)
    await queue.close()


async def _at_work(url: str) -> None:
    owner = "old/worker"
    store = Store(await connect(url, owner=owner), owner)
    print("at work", flush=True)
    while True:
        await store.apply(arrival())
        (delivery,) = await leased(store)
        assert await store.load(delivery.message_id) is not None
        await store.apply(Change(finished=[delivery.key]))
        print("finished", flush=True)


def _run() -> None:
    become_next_release(ADDITIVE)
    module = sys.argv.index("-m") + 1
    sys.argv = sys.argv[module:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        _run()
    role, url = sys.argv[1:]
    if role == "at-work":
        asyncio.run(_at_work(url))
    else:
        become_next_release(ADDITIVE if role == "start" else Step(NEXT, additive=True, run=_hang))
        asyncio.run(_start(url))
