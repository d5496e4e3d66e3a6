"""What only a PostgreSQL queue has: a server that is reached over the network, or is not.

`test_store.py` runs on it too, and `tests/journeys/test_hosts.py` has the relays of several hosts.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import asyncpg
import pytest
from sqlalchemy import Connection

from relay.queue.connect import connect
from relay.queue.database import Database, QueueUnavailable, Rejected
from relay.queue.postgresql import PostgresDatabase
from relay.queue.schema import CHUNK
from relay.queue.store import Change, Due, Key, Store
from tests.peers import free_port, needs, wait_for
from tests.postgresql import PostgresServer
from tests.queue.changes import arrival, leased, sizes


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.create_database()


@contextmanager
def away(server: PostgresServer) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


async def refusal(url: str) -> str:
    with pytest.raises(QueueUnavailable) as raised:
        await connect(url)
    return str(raised.value)


async def test_without_the_driver_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "relay.queue.postgresql", raising=False)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    text = await refusal("postgresql://relay@db.example/queue")
    assert text == "a queue on PostgreSQL needs asyncpg: pip install 'srs-relay[postgresql]'"


async def test_a_server_that_is_away_is_one_line_without_the_password() -> None:
    port = free_port()
    text = await refusal(f"postgresql://relay:hunter2@127.0.0.1:{port}/mail")
    assert text == f"PostgreSQL at 127.0.0.1/mail: Connect call failed ('127.0.0.1', {port})"


async def test_a_port_that_is_none_is_one_line() -> None:
    assert "'many'" in await refusal("postgresql://relay@127.0.0.1:many/mail")


@needs("postgres")
async def test_a_database_that_is_not_there_is_one_line(server: PostgresServer) -> None:
    text = await refusal(server.url("nowhere"))
    assert text == 'PostgreSQL at 127.0.0.1/nowhere: database "nowhere" does not exist'


@needs("postgres")
async def test_the_uri_is_read_as_libpq_reads_it(server: PostgresServer) -> None:
    url = server.create_database()
    await (await connect(f"{url}?sslmode=disable")).close()
    assert "rejected SSL upgrade" in await refusal(f"{url}?sslmode=require")


@needs("postgres")
async def test_connections_that_the_server_ended_are_opened_again(store: Store, server: PostgresServer) -> None:
    await store.apply(arrival())
    server.break_connections()
    await store.apply(arrival())
    assert len(await leased(store)) == 2


@asynccontextmanager
async def worker(url: str, owner: str) -> AsyncIterator[Store]:
    """A worker as `serve` has it, that others can see, on a queue that its supervisor has prepared."""
    store = Store(await connect(url, owner=owner), owner)
    try:
        yield store
    finally:
        await store.close()


async def hold(store: Store) -> int:
    """Store a message and lease it; its id."""
    change = arrival()
    await store.apply(change)
    assert len(await leased(store)) == 1
    return change.arrived[0].id


@needs("postgres")
async def test_the_leases_of_workers_that_are_gone_are_freed_and_no_others(store: Store, url: str) -> None:
    async with worker(url, "vm/one") as living:
        await hold(living)
        async with worker(url, "vm/two") as dying:
            lost = await hold(dying)
            assert await store.free_abandoned(2000.0) == 0
        assert await store.free_abandoned(2000.0) == 1
        assert await living.free_abandoned(2000.0) == 0
        assert [due.message_id for due in await store.due(2000.0, 10)] == [lost]


@needs("postgres")
async def test_a_worker_whose_connection_broke_is_not_taken_for_dead(url: str, server: PostgresServer) -> None:
    class Observer(PostgresDatabase):
        seen_dead: Sequence[str] = ()

        async def dead_owners(self, owners: Sequence[str]) -> list[str]:
            self.seen_dead = dead = await super().dead_owners(owners)
            return dead

    await (await connect(url)).close()
    async with worker(url, "vm/one") as living:
        await hold(living)
        observer = Observer(url)
        store = Store(observer, "vm/observer")
        assert await store.free_abandoned(2000.0) == 0
        name = url.rpartition("/")[2]
        server.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        freeing = asyncio.create_task(store.free_abandoned(2000.0))
        await wait_for(lambda: observer.seen_dead, "a first look in which it is not there")
        with pytest.raises(QueueUnavailable, match="not currently accepting connections"):
            await living.apply(arrival())
        server.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert await freeing == 0
        assert await observer.dead_owners(["vm/one", "vm/none"]) == ["vm/none"]
        await store.close()


@needs("postgres")
async def test_a_worker_that_starts_while_the_server_is_away_works_when_it_is_back(
    url: str, server: PostgresServer
) -> None:
    await (await connect(url)).close()
    with away(server):
        early = Store(await connect(url, owner="vm/one"), "vm/one")
        with pytest.raises(QueueUnavailable, match=r"PostgreSQL at 127\.0\.0\.1"):
            await early.apply(arrival())
    await hold(early)
    await early.close()


@needs("postgres")
async def test_while_the_server_is_away_nothing_is_stored_and_afterwards_it_is(
    store: Store, server: PostgresServer
) -> None:
    first, lost, last = arrival(), arrival(), arrival()
    await store.apply(first)
    with away(server):
        with pytest.raises(QueueUnavailable, match="PostgreSQL"):
            await store.apply(lost)
        with pytest.raises(QueueUnavailable, match="PostgreSQL"):
            await store.due(2000.0, 10)
    await store.apply(last)
    assert [d.message_id for d in await leased(store)] == [c.arrived[0].id for c in (first, last)]


@needs("postgres")
async def test_a_server_that_goes_away_during_a_transaction_is_no_loss(store: Store, server: PostgresServer) -> None:
    """What was acknowledged is there; what was not may be."""
    changes = [arrival() for _ in range(200)]
    acknowledged: set[int] = set()

    async def keep(number: int) -> None:
        try:
            await store.apply(changes[number])
        except QueueUnavailable:
            return
        acknowledged.add(changes[number].arrived[0].id)

    async def all_of_them() -> None:
        for start in range(0, 200, 10):
            await asyncio.gather(*(keep(number) for number in range(start, start + 10)))

    storing = asyncio.create_task(all_of_them())
    while len(acknowledged) < 20:
        await asyncio.sleep(0.001)
    with away(server):
        await asyncio.wait_for(storing, 60)
    kept = {d.message_id for d in await store.due(2000.0, 1000)}
    assert 20 <= len(acknowledged) < 200
    assert acknowledged <= kept


@needs("postgres")
async def test_work_that_is_cut_short_leaves_no_transaction_open(
    store: Store, queue: Database, server: PostgresServer
) -> None:
    def work(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_sleep(60)")

    writing = asyncio.create_task(queue.write(work, durable=True))
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query ~ '^SELECT pg_sleep'"
    await wait_for(lambda: server.sql(asleep) == "1", "the statement under way")
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await store.apply(arrival())
    in_transaction = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    await wait_for(lambda: server.sql(f"{asleep} UNION {in_transaction}") == "0", "the end of the transaction")
    await queue.write(lambda c: c.exec_driver_sql("SELECT 1"), durable=True)


@needs("postgres")
async def test_work_that_is_refused_changes_nothing_and_the_next_one_is_carried_out(
    queue: Database, store: Store
) -> None:
    def work(connection: Connection) -> None:
        connection.exec_driver_sql("DELETE FROM message")
        connection.exec_driver_sql("SELECT 1 / 0")

    await store.apply(arrival())
    for _ in range(20):
        with pytest.raises(Rejected, match="division by zero"):
            await queue.write(work, durable=True)
    assert (await sizes(queue))["message"] == 1


@needs("postgres")
async def test_every_connection_that_the_server_ended_is_replaced_when_it_is_needed(
    queue: Database, server: PostgresServer
) -> None:
    def one(connection: Connection) -> int:
        return int(connection.exec_driver_sql("SELECT 1").scalar_one())

    async def use_all() -> list[int]:
        writing, reading = [queue.write(one, durable=False) for _ in range(3)], [queue.read(one) for _ in range(3)]
        return await asyncio.gather(*writing, *reading)

    for _ in range(3):
        assert await use_all() == [1] * 6
        server.break_connections()
        assert await use_all() == [1] * 6


@needs("postgres")
async def test_a_connection_that_just_ends_is_as_good_as_one_that_has(
    queue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg has an error of its own for a question between the server's last word and the end of the connection."""
    execute, ends = asyncpg.Connection.execute, [True]

    async def execute_or_end(connection: asyncpg.Connection, query: str, *values: object) -> str:
        if query.startswith("BEGIN") and ends:
            ends.pop()
            raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
        return str(await execute(connection, query, *values))

    def one(connection: Connection) -> int:
        return int(connection.exec_driver_sql("SELECT 1").scalar_one())

    await queue.write(one, durable=True)
    monkeypatch.setattr(asyncpg.Connection, "execute", execute_or_end)
    assert await queue.write(one, durable=True) == 1
    assert not ends


@needs("postgres")
async def test_a_long_queue_is_claimed_and_finished_by_plans_that_were_made_when_it_had_one_message(
    store: Store, queue: Database, server: PostgresServer, url: str
) -> None:
    database = url.rpartition("/")[2]
    await store.apply(arrival())
    server.sql("VACUUM ANALYZE", database)
    server.sql(f"ALTER DATABASE {database} SET plan_cache_mode = force_generic_plan", database)
    server.break_connections()
    for _ in range(10):  # on whichever connections
        assert await store.lease([Due(1, 0, "", 1.0)], 3000.0) == []
        await store.apply(Change(finished=[Key(1, 0, 1)]))
    for table in ("message", "delivery"):
        key = "id" if table == "message" else "message_id"
        server.sql(
            f"INSERT INTO {table} SELECT (jsonb_populate_record(t, jsonb_build_object('{key}', i))).* "
            f"FROM {table} AS t, generate_series(1, 100000) AS i",
            database,
        )
    due = await store.due(2000.0, 500)
    assert len(due) == 500
    async with asyncio.timeout(4):
        claimed = await store.lease(due, 3000.0)
        await store.apply(Change(finished=[delivery.key for delivery in claimed]))
    assert (await sizes(queue))["message"] == 100_001 - 500


@needs("postgres")
@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
async def test_of_two_hosts_that_finish_the_last_deliveries_the_second_one_deletes_the_message(
    store: Store, queue: Database, url: str, server: PostgresServer, isolation: str
) -> None:
    server.sql(f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_isolation = '{isolation}'")
    server.break_connections()
    await store.apply(arrival(b"Subject: x\r\n\r\n" + b"x" * CHUNK, recipients=2))
    mine, others = await leased(store)
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute(f"DELETE FROM delivery WHERE n = {others.n}")
        await other.execute("SELECT FROM message FOR UPDATE")
        finishing = asyncio.create_task(store.apply(Change(finished=[mine.key])))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        await wait_for(lambda: server.sql(waiting) == "1", "the first host to be waited for")
    await finishing
    await other.close()
    assert await sizes(queue) == {"message": 0, "chunk": 0, "delivery": 0}


@needs("postgres")
async def test_mail_is_compressed_in_the_quick_way(store: Store, queue: Database) -> None:
    await store.apply(arrival(b"Subject: x\r\n\r\n" + b"A line of text.\r\n" * 1000))
    asked = "SELECT pg_column_compression(content) FROM message"
    assert await queue.read(lambda c: c.exec_driver_sql(asked).scalar_one()) == "lz4"


@needs("postgres")
async def test_hosts_that_claim_the_same_deliveries_share_them_and_wait_for_nobody(store: Store, url: str) -> None:
    for _ in range(20):
        await store.apply(arrival())
    due = await store.due(2000.0, 100)
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute(f"SELECT FROM delivery WHERE message_id = {due[0].message_id} FOR UPDATE")
        async with asyncio.timeout(10):
            assert len(await store.lease(due[:2], 3000.0)) == 1
    await other.close()
    async with worker(url, "vm/one") as one, worker(url, "vm/two") as two:
        claimed = await asyncio.gather(*(host.lease(due[::step], 3000.0) for host in (one, two) for step in (1, -1)))
    numbers = sorted(delivery.message_id for deliveries in claimed for delivery in deliveries)
    assert numbers == sorted(d.message_id for d in due if d != due[1])
