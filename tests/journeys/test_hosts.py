"""Several hosts share one queue on PostgreSQL: each message leaves once, and none is left to a host that died."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.endless_load import Load, numbers
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, World
from tests.peers import free_port, needs, wait_until
from tests.postgresql import PostgresServer

pytestmark = [needs("postgres"), pytest.mark.slow]

ANN, ALICE = "ann@sender.example", "alice@fwd.example"
WORKERS, CONCURRENCY, CLIENTS = 2, 3, 4
ALIASES = f"{ALICE} carol@mailbox.example\n"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.create_database()


def host(world: World, number: int, url: str, **tables: Any) -> RelayProcess:
    """A relay of fwd.example. The second one runs where the next forwarder of this world would, the third one where the
    sender does."""
    return world.relay(
        ("fwd.example", "next.example", "sender.example")[number - 1],
        aliases=ALIASES,
        hostname=f"mx{number}.fwd.example",
        srs={"domain": "fwd.example"},
        dkim=[],
        senders={"local_domains": ["fwd.example"]},
        **{**tables, "queue": {"url": url, **tables.get("queue", {})}},
    )


def send(relay: RelayProcess, *numbers: int) -> None:
    with Dialogue((relay.address, relay.port)) as session:
        for number in numbers:
            answer = session.deliver(ANN, ALICE, b"From: ann@sender.example\r\nSubject: number %d.\r\n\r\n" % number)
            assert answer.code == 250, answer


def test_two_hosts_deliver_what_one_of_them_took_each_message_once(world: World, url: str) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port, delay=0.1))
    first = host(world, 1, url, delivery={"concurrency": 1})
    second = host(world, 2, url, delivery={"concurrency": 1})
    send(first, *range(200))
    wait_until(lambda: len(numbers(sink)) == 200, "every message", 60)
    first.wait_for_empty_queue()
    assert second.queue() == []
    assert numbers(sink) == Counter(range(200))
    shares = [len(relay.events("delivered")) for relay in (first, second)]
    assert sum(shares) == 200 and min(shares) > 20, f"one host did it nearly alone: {shares}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_third_host_joins_and_leaves_under_load(
    world: World, url: str, killed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """More arrives than a host may deliver at once, so that the hosts take it from each other."""
    sink = world.start(RecordingSink(MAILBOX, world.port, delay=0.05))
    tables = {"workers": WORKERS, "delivery": {"concurrency": CONCURRENCY}, "queue": {"lease": "1h"}}
    hosts = [host(world, number, url, **tables) for number in (1, 2)]
    loads = [
        world.start(Load((relay.address, relay.port), CLIENTS, pause=0.02, after=1_000_000 * number))
        for number, relay in enumerate(hosts)
    ]

    def more_acknowledged(load: Load) -> None:
        enough = len(load.acknowledged) + 50
        wait_until(lambda: len(load.acknowledged) >= enough, "more mail to be acknowledged", 60)

    more_acknowledged(loads[0])
    third = host(world, 3, url, **tables)
    own = world.start(Load((third.address, third.port), CLIENTS, pause=0.02, after=3_000_000))
    more_acknowledged(own)
    if killed:
        third.kill9()
    else:
        assert third.terminate() == 0
    more_acknowledged(loads[0])
    own.stop(give_up=True)
    for load in loads:
        load.stop()

    acknowledged = own.acknowledged.union(*(load.acknowledged for load in loads))
    wait_until(lambda: not acknowledged - numbers(sink).keys(), "every acknowledged message", 60)
    hosts[0].wait_for_empty_queue(60)
    count = numbers(sink)
    duplicates = sum(count.values()) - len(count)
    shares = [len(relay.events("delivered")) for relay in (*hosts, third)]
    with capsys.disabled():
        print(f"\n    {len(acknowledged)} acknowledged, delivered by each host: {shares}, {duplicates} duplicates")
    assert min(shares) > 0
    # What a killed host had at the next hop is in doubt, and that was never more than it may have there at once.
    assert duplicates <= (WORKERS * CONCURRENCY if killed else 0)


def has_acknowledged(load: Load, enough: int) -> bool:
    return len(load.acknowledged) >= enough


@pytest.mark.timeout(300)
def test_a_server_that_restarts_under_load_costs_time_and_neither_loses_nor_doubles_mail(
    world: World, url: str, server: PostgresServer
) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port, delay=0.05))
    tables = {"workers": WORKERS, "delivery": {"concurrency": CONCURRENCY}}
    hosts = [host(world, number, url, **tables) for number in (1, 2)]
    workers = [relay.workers() for relay in hosts]
    loads = [
        world.start(Load((relay.address, relay.port), CLIENTS, pause=0.02, after=1_000_000 * number))
        for number, relay in enumerate(hosts)
    ]
    for _ in range(4):
        wanted = [len(load.acknowledged) + 30 for load in loads]
        for load, enough in zip(loads, wanted, strict=True):
            wait_until(partial(has_acknowledged, load, enough), "more mail", 60)
        server.stop("fast")
        server.start()
    for load in loads:
        load.stop()
    acknowledged = loads[0].acknowledged | loads[1].acknowledged
    wait_until(lambda: not acknowledged - numbers(sink).keys(), "every acknowledged message", 60)
    hosts[0].wait_for_empty_queue(60)
    assert set(numbers(sink).values()) == {1}
    assert [relay.workers() for relay in hosts] == workers, "workers died of it"


class Silence:
    """A next hop that accepts connections and says nothing, so that attempts stay under way."""

    def __init__(self, address: str, port: int) -> None:
        self._socket = socket.create_server((address, port))

    def start(self) -> None: ...

    def stop(self) -> None:
        self._socket.close()


def under_way(world: World, relay: RelayProcess, *numbers: int) -> Silence:
    """Messages whose attempts do not end, under leases of an hour."""
    silence = world.start(Silence(MAILBOX, world.port))
    send(relay, *numbers)
    wait_until(lambda: [row["state"] for row in relay.queue()] == ["active"] * len(numbers), "attempts under way")
    return silence


@pytest.mark.parametrize("restarted", [True, False], ids=["itself", "another"])
def test_what_a_killed_host_had_under_way_is_taken_over_long_before_its_leases_end(
    world: World, url: str, restarted: bool
) -> None:
    lease = {"queue": {"lease": "1h"}}
    first = host(world, 1, url, **lease)
    silence = under_way(world, first, 1, 2, 3)
    first.kill9()
    silence.stop()
    sink = world.start(RecordingSink(MAILBOX, world.port))
    survivor = first.start() if restarted else host(world, 2, url, **lease)
    wait_until(lambda: len(numbers(sink)) == 3, "what the killed host had under way", 20)
    survivor.wait_for_empty_queue()
    assert numbers(sink) == Counter([1, 2, 3])


@needs("unshare", root=True)
def test_hosts_that_bear_the_same_name_and_process_numbers_leave_each_other_alone(world: World, url: str) -> None:
    """Containers do: their relays are process 1."""
    lease, wrapper = {"queue": {"lease": "1h"}}, ("unshare", "--pid", "--fork")
    with ExitStack() as hosts:
        first = host(world, 1, url, wrapper=wrapper, **lease)
        hosts.callback(first.kill9)  # unshare heeds no other signal
        silence = under_way(world, first, 1, 2, 3)
        second = host(world, 2, url, wrapper=wrapper, **lease)
        hosts.callback(second.kill9)
        silence.stop()
        sink = world.start(RecordingSink(MAILBOX, world.port))
        send(second, 4)
        sink.wait(1)
        assert not second.events("leases_freed")
        assert numbers(sink) == {4: 1}, "the second host took what is under way at the first"
        first.kill9()
        wait_until(lambda: len(numbers(sink)) == 4, "what the first host had under way, once it is gone", 30)
        second.wait_for_empty_queue()
        assert numbers(sink) == Counter([1, 2, 3, 4])


def test_a_server_that_is_away_at_the_start_is_one_line(world: World, url: str, server: PostgresServer) -> None:
    relay = host(world, 1, url)
    assert relay.terminate() == 0
    server.stop()
    try:
        done = relay.command("serve")
        listing = relay.command("queue", "list")
    finally:
        server.start()
    for process in (done, listing):
        assert process.returncode == 1
        assert re.fullmatch(
            r"srs-relay: PostgreSQL at 127\.0\.0\.1/queue\d+: Connect call failed .*\n", process.stderr
        ), process.stderr


def test_while_the_server_is_away_clients_are_told_to_wait_and_nothing_is_lost(
    world: World, url: str, server: PostgresServer
) -> None:
    relay = host(world, 1, url, queue={"lease": "3s"})  # a crash of the server may cost it the end of an attempt
    send(relay, 1)
    wait_until(lambda: relay.events("deferred"), "a first attempt in vain")
    with Dialogue((relay.address, relay.port)) as session:
        server.stop()
        try:
            answer = session.deliver(ANN, ALICE, b"Subject: number 2.\r\n\r\n")
            assert (answer.code, answer.enhanced) == (452, "4.3.1")
            session("RSET")
        finally:
            server.start()
        assert session.deliver(ANN, ALICE, b"Subject: number 3.\r\n\r\n").code == 250
    sink = world.start(RecordingSink(MAILBOX, world.port))
    wait_until(lambda: numbers(sink).keys() >= {1, 3}, "what was acknowledged")
    relay.wait_for_empty_queue()
    assert len(relay.workers()) == 2


def test_monitoring_says_in_one_line_that_the_server_is_away(world: World, url: str, server: PostgresServer) -> None:
    relay = host(world, 1, url, http={"address": f"127.0.0.12:{free_port()}"})
    assert relay.http("/readyz") == (200, "ready\n")
    server.stop()
    try:
        assert relay.http("/readyz") == (503, "the queue does not answer\n")
        status, body = relay.http("/metrics")
        assert status == 200 and "srs_relay_connections_total" in body
        assert relay.http("/healthz") == (200, "ok\n")
    finally:
        server.start()
    assert wait_until(lambda: relay.http("/readyz")[0] == 200, "readiness")


def test_a_server_that_answers_nobody_holds_up_neither_monitoring_nor_the_end(
    world: World, url: str, server: PostgresServer
) -> None:
    relay = host(world, 1, url, http={"address": f"127.0.0.12:{free_port()}"})
    send(relay, 1)
    workers = relay.workers()
    with server.frozen():
        assert relay.http("/readyz") == (503, "the check takes too long\n")
        assert relay.http("/metrics")[0] == 200
        for worker in workers:
            relay.kill_worker(worker)
        wait_until(lambda: len(relay.workers()) == 2 and not {*relay.workers()} & {*workers}, "two new workers")
        assert relay.http("/healthz")[0] == 200
        assert relay.terminate(15) == 0


def test_workers_that_start_while_the_server_is_away_serve_as_soon_as_it_is_back(
    world: World, url: str, server: PostgresServer
) -> None:
    relay = host(world, 1, url)
    workers = relay.workers()
    server.stop()
    try:
        for worker in workers:
            relay.kill_worker(worker)
        wait_until(lambda: len(relay.workers()) == 2 and not {*relay.workers()} & {*workers}, "two new workers")
        with Dialogue((relay.address, relay.port)) as session:
            answer = session.deliver(ANN, ALICE, b"Subject: number 1.\r\n\r\n")
            assert (answer.code, answer.enhanced) == (452, "4.3.1")
    finally:
        server.start()
    send(relay, 2)
    assert len(relay.events("worker_died")) == 2, "workers died of it"
    problems = {line["problem"] for name in ("leases_not_freed", "worker_not_seen") for line in relay.events(name)}
    assert problems and all(problem.startswith("PostgreSQL") for problem in problems), problems
