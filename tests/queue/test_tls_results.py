"""The counts of sessions for TLS reports: added up over all workers, limited for each day, and forgotten in time."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import select

from relay.queue.connect import connect
from relay.queue.database import Database
from relay.queue.schema import tls_result
from relay.queue.store import Store
from relay.queue.tls_results import TlsResults, TlsSession

DAY = 20_000
STS = TlsSession(DAY, "d.test", "sts", "d.test", '["version: STSv1"]', "mx1.d.test", "success")
FAILED = STS._replace(result="certificate-expired", reason="r", address="192.0.2.1", source="192.0.2.9")


async def rows(database: Database) -> list[dict[str, Any]]:
    statement = select(tls_result).order_by(*tls_result.primary_key.columns)
    return await database.read(lambda c: [dict(row._mapping) for row in c.execute(statement)])


async def test_workers_add_to_the_same_rows(store: Store, queue: Database, url: str) -> None:
    other = Store(await connect(url), "worker-2/")
    counts = {STS: 2, FAILED: 1}
    await asyncio.gather(*(each.tls_results.add(counts) for each in (store, other) for _ in range(5)))
    await other.close()
    assert [(row["result"], row["sessions"]) for row in await rows(queue)] == [
        ("certificate-expired", 10),
        ("success", 20),
    ]


async def test_a_row_says_what_a_report_needs(store: Store, queue: Database) -> None:
    await store.tls_results.add({FAILED: 1})
    (row,) = await rows(queue)
    assert len(row.pop("policy_id")) == 16
    assert row == FAILED._asdict() | {"sessions": 1}


async def test_a_policy_that_changes_within_a_day_is_another_one(store: Store, queue: Database) -> None:
    await store.tls_results.add({STS: 1, STS._replace(policy_text='["version: STSv1", "mode: testing"]'): 1})
    assert [row["sessions"] for row in await rows(queue)] == [1, 1]


async def test_past_its_limit_a_day_is_counted_without_domains(queue: Database) -> None:
    table = TlsResults(queue, rows=3)
    await table.add({STS._replace(domain=f"d{number}.test"): 1 for number in range(10)})
    await table.add({STS._replace(domain="d0.test"): 1, FAILED: 5, STS._replace(domain="late.test", day=DAY + 1): 1})
    found = {(row["day"], row["domain"], row["result"]): row["sessions"] for row in await rows(queue)}
    assert found == {
        (DAY, "", "success"): 7,
        (DAY, "", "certificate-expired"): 5,
        (DAY, "d0.test", "success"): 2,
        (DAY, "d1.test", "success"): 1,
        (DAY, "d2.test", "success"): 1,
        (DAY + 1, "late.test", "success"): 1,
    }
    assert {row["mx"] for row in await rows(queue) if not row["domain"]} == {""}


async def test_days_are_forgotten(store: Store, queue: Database) -> None:
    for first in range(0, 450, 150):
        await store.tls_results.add({STS._replace(domain=f"d{number}.test"): 1 for number in range(first, first + 150)})
    await store.tls_results.add({STS._replace(day=DAY + 1): 1})
    assert await store.tls_results.drop(DAY + 1) == 450
    assert [row["day"] for row in await rows(queue)] == [DAY + 1]
