"""Several hosts share one queue on PostgreSQL: each message leaves once, and none is left to a host that died."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, World
from tests.peers import free_port, needs, wait_until
from tests.postgresql import PostgresServer

pytestmark = [needs("postgres"), pytest.mark.slow]

ANN, ALICE = "ann@sender.example", "alice@fwd.example"
ALIASES = f"{ALICE} carol@mailbox.example\n"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.create_database()


def host(world: World, number: int, url: str, **tables: Any) -> RelayProcess:
    """A relay of fwd.example; the second one runs where the next forwarder of this world would."""
    return world.relay(
        "fwd.example" if number == 1 else "next.example",
        aliases=ALIASES,
        hostname=f"mx{number}.fwd.example",
        srs={"domain": "fwd.example"},
        dkim=[],
        **{**tables, "queue": {"url": url, **tables.get("queue", {})}},
    )


def send(relay: RelayProcess, *numbers: int) -> None:
    with Dialogue((relay.address, relay.port)) as session:
        for number in numbers:
            answer = session.deliver(ANN, ALICE, b"From: ann@sender.example\r\nSubject: number %d.\r\n\r\n" % number)
            assert answer.code == 250, answer


def arrived(sink: RecordingSink) -> Counter[int]:
    found = (re.search(rb"^Subject: number (\d+)\.", message.content, re.MULTILINE) for message in tuple(sink.received))
    return Counter(int(match.group(1)) for match in found if match)


def test_two_hosts_deliver_what_one_of_them_took_each_message_once(world: World, url: str) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port, delay=0.1))
    first = host(world, 1, url, delivery={"concurrency": 1})
    second = host(world, 2, url, delivery={"concurrency": 1})
    send(first, *range(200))
    wait_until(lambda: len(arrived(sink)) == 200, "every message", 60)
    first.wait_for_empty_queue()
    assert second.queue() == []
    assert arrived(sink) == Counter(range(200))
    shares = [len(relay.events("delivered")) for relay in (first, second)]
    assert sum(shares) == 200 and min(shares) > 20, f"one host did it nearly alone: {shares}"


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
    wait_until(lambda: len(arrived(sink)) == 3, "what the killed host had under way", 20)
    survivor.wait_for_empty_queue()
    assert arrived(sink) == Counter([1, 2, 3])


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
        assert arrived(sink) == {4: 1}, "the second host took what is under way at the first"
        first.kill9()
        wait_until(lambda: len(arrived(sink)) == 4, "what the first host had under way, once it is gone", 30)
        second.wait_for_empty_queue()
        assert arrived(sink) == Counter([1, 2, 3, 4])


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
    wait_until(lambda: arrived(sink).keys() >= {1, 3}, "what was acknowledged")
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
