"""A long queue costs no more than a short one: every statement for a message finds its rows by an index.

The databases are asked for their plans. PostgreSQL reads short tables whole, so it is told to use an index where it
can.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Executable, event

from relay.queue import admin, change, prepared, stored_policies
from relay.queue import sender_tokens as tokens
from relay.queue.admin import Selector
from relay.queue.change import LastAttempt
from relay.queue.database import Database
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.schema import CHUNK
from relay.queue.store import Change, Store
from relay.transport_security.stored_policy import StoredPolicy
from tests.queue.changes import arrival, bury

OF_THE_MAIL = re.compile(r"(FROM|INTO|UPDATE) (message|chunk|delivery|srs_token|mta_sts)\b")
INDEXES_ONLY = ("SET enable_seqscan = off", "SET enable_bitmapscan = off", "SET enable_sort = off")
WHOLE_TABLE = ("SCAN ", "Seq Scan")
SORTED = ("TEMP B-TREE", "Sort")

LAST: LastAttempt = {"at": 1.0, "code": 451, "status": "4.3.0", "text": "", "host": "", "address": "", "tls": ""}


@dataclass
class Plans:
    """The statements that were run, each with the steps of its plan."""

    by_statement: dict[str, str] = field(default_factory=dict)
    _asking: bool = False

    def note(
        self, connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        if self._asking or not OF_THE_MAIL.search(statement):
            return
        self._asking = True
        try:
            ask = "EXPLAIN QUERY PLAN "
            if connection.dialect.name == "postgresql":
                ask = "EXPLAIN "
                for setting in INDEXES_ONLY:
                    connection.exec_driver_sql(setting)
            rows = connection.exec_driver_sql(ask + statement, parameters[0] if many else parameters)
            self.by_statement[statement] = "\n".join(str(row[-1]) for row in rows)
        finally:
            self._asking = False

    def bad(self, *words: str) -> list[str]:
        """Statements whose plan has one of these words in it."""
        return [
            f"{statement}\n{plan}"
            for statement, plan in self.by_statement.items()
            if any(word in plan for word in words)
        ]


@contextmanager
def watched() -> Iterator[Plans]:
    plans = Plans()

    def run_prepared(connection: Connection, statement: Executable, rows: Iterable[Mapping[str, Any]]) -> None:
        """Note the statement here, because SQLite's driver executes it without SQLAlchemy."""
        rows = list(rows)
        sql, names = prepared.compiled(statement, connection.dialect)
        plans.note(connection, None, sql, [tuple(row[name] for name in names) for row in rows], None, True)
        prepared.run_prepared(connection, statement, rows)

    event.listen(Engine, "before_cursor_execute", plans.note)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(change, "run_prepared", run_prepared)
            yield plans
    finally:
        event.remove(Engine, "before_cursor_execute", plans.note)


async def test_the_way_of_a_message_reads_and_sorts_no_table(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.token_for("first@x.example", 0.0, 1.0)  # a worker's first one counts those that are there
    await store.keep_author("first@x.example", "a1", 0.0, 1.0)
    with watched() as plans:
        large = arrival(b"Subject: x\r\n\r\n" + b"x" * CHUNK, recipients=3)
        await store.apply(large)
        seen = await store.due(2000.0, 10)
        await store.due(2000.0, 10, after=seen[0])
        await store.due(2000.0, 10, hop="c.example")
        assert len(await store.recipients(seen)) == 3
        await store.rekey([due._replace(hop="other.example") for due in seen])
        first, second, third = await store.lease(seen, 2060.0)
        await store.load(first.message_id)
        await store.renew([first.key], 2070.0)
        report = arrival()
        await store.apply(Change(report.arrived, report.deliveries, finished=[first.key]))
        await store.apply(Change(updated=[(second.key, {"next_attempt": 9.0, "attempts": 1, "last": LAST})]))
        await store.apply(Change(finished=[third.key]))
        await store.free_abandoned(2000.0)
        await store.free("worker-1/", 2000.0)
        await store.ping()
        token = await store.token_for("long@x.example", 0.0, 1.0)
        await store.sender_of(token, 0.0)
        monkeypatch.setattr(tokens, "MAX_SENDERS", 1)
        await store.token_for("longer@x.example", 0.0, 1.0)
        monkeypatch.setattr(tokens, "MAX_AUTHORS", 1)
        await store.keep_author("long@x.example", "b2", 0.0, 1.0)
    assert len(plans.by_statement) > 20
    assert not plans.bad(*WHOLE_TABLE, *SORTED)


async def test_policies_are_found_and_dropped_without_reading_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_policies, "MAX_POLICIES", 1)
    policy = StoredPolicy("a.test", "1", "", 0.0, 9.0, 0.0, 1.0)
    await store.mta_sts.keep_policy(policy)  # counts all, once
    with watched() as plans:
        await store.mta_sts.keep_policy(replace(policy, domain="b.test"))
        assert await store.mta_sts.policy_of("b.test") and not await store.mta_sts.policy_of("a.test")
        await store.mta_sts.policy_used("b.test", 2.0)
        assert len(await store.mta_sts.policies_to_refresh(1.0, 0.0, 5.0, 10)) == 1
    assert len(plans.by_statement) > 5
    assert not plans.bad(*WHOLE_TABLE, *SORTED)


async def test_due_is_read_from_the_index_alone(store: Store) -> None:
    with watched() as plans:
        await store.apply(arrival())
        seen = await store.due(2000.0, 10)
        await store.due(2000.0, 10, after=seen[0])
        await store.due(2000.0, 10, hop="c.example")
    due = {s: plan for s, plan in plans.by_statement.items() if s.startswith("SELECT") and "LIMIT" in s}
    assert len(due) == 3
    assert not [f"{s}\n{plan}" for s, plan in due.items() if "COVERING INDEX" not in plan and "Index Only" not in plan]


async def test_sweeping_reads_and_sorts_no_table(store: Store) -> None:
    await store.apply(arrival())
    await bury(store, 2000.0)
    with watched() as plans:
        assert await store.dead.beyond(0) == 2000.0
        assert await store.dead.drop(1e10) == 1
        await store.sweep(1e10)
    assert len(plans.by_statement) > 5
    assert not plans.bad(*WHOLE_TABLE, *SORTED)


async def test_held_mail_whose_time_is_over_is_found_without_reading_what_is_held_by_hand(store: Store) -> None:
    await store.apply(arrival(state="held", held_until=5.0, hold_reason="filter.rspamd"))
    with watched() as plans:
        assert len(await store.held.drop_some(5.0)) == 1
    assert len(plans.by_statement) > 2
    assert not plans.bad(*WHOLE_TABLE, *SORTED, "delivery_due", "delivery_hop")


@pytest.mark.parametrize("state", [None, "queued"])
async def test_listing_sorts_nothing(store: Store, queue: Database, state: Any) -> None:
    """A page begins where the last one ended: the list is read once, in the order in which it lies there."""
    await store.apply(arrival(recipients=2))
    with watched() as plans:
        assert len([row async for row in admin.rows(queue, state)]) == 2
    assert len(plans.by_statement) == 1
    assert not plans.bad(*WHOLE_TABLE, *SORTED)


@pytest.mark.parametrize("everything", [True, False])
async def test_commands_find_their_deliveries_by_the_key(store: Store, queue: Database, everything: bool) -> None:
    arrived = arrival(recipients=2)
    await store.apply(arrived)
    chosen = [] if everything else [Selector(arrived.arrived[0].id, n) for n in (0, 1)]
    commands: list[Callable[[], Any]] = [
        lambda: admin.hold(queue, chosen),
        lambda: admin.release(queue, chosen, 1.0, RetrySchedule()),
        lambda: admin.retry(queue, chosen, 1.0, 1.0),
        lambda: admin.drop(queue, chosen),
    ]
    with watched() as plans:
        assert [await command() for command in commands] == [2, 2, 2, 2]
    assert not plans.bad(*WHOLE_TABLE, *SORTED, "delivery_due", "delivery_hop")
