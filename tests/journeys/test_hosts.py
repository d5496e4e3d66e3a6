"""Several hosts share one queue on PostgreSQL: each message leaves once, and none is left to a host that died."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator
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


def test_a_restarted_host_frees_its_leases_at_once_and_no_other_host_does_before(world: World, url: str) -> None:
    silence = Silence(MAILBOX, world.port)
    world.start(silence)
    lease = {"queue": {"lease": "1h"}}
    first, second = host(world, 1, url, **lease), host(world, 2, url, **lease)
    send(first, 1, 2, 3)
    wait_until(lambda: [row["state"] for row in second.queue()] == ["active"] * 3, "three attempts under way")
    first.kill9()
    silence.stop()
    sink = world.start(RecordingSink(MAILBOX, world.port))
    send(second, 4)
    sink.wait(1)
    assert arrived(sink) == {4: 1}, "the other host took what is leased"
    first.start()
    wait_until(lambda: len(arrived(sink)) == 4, "what the killed host had under way", 10)
    second.wait_for_empty_queue()
    assert arrived(sink) == Counter([1, 2, 3, 4])


def test_the_leases_of_a_host_that_stays_away_run_out(world: World, url: str) -> None:
    silence = Silence(MAILBOX, world.port)
    world.start(silence)
    lease = {"queue": {"lease": "3s"}}
    first, second = host(world, 1, url, **lease), host(world, 2, url, **lease)
    send(first, 1, 2, 3)
    wait_until(lambda: [row["state"] for row in second.queue()] == ["active"] * 3, "three attempts under way")
    first.kill9()
    silence.stop()
    sink = world.start(RecordingSink(MAILBOX, world.port))
    wait_until(lambda: len(arrived(sink)) == 3, "the other host", 20)
    second.wait_for_empty_queue()
    assert arrived(sink) == Counter([1, 2, 3])


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


def test_a_worker_that_dies_while_the_server_is_away_is_replaced_when_it_is_back(
    world: World, url: str, server: PostgresServer
) -> None:
    relay = host(world, 1, url)
    workers = relay.workers()
    server.stop()
    try:
        for worker in workers:
            relay.kill_worker(worker)
        wait_until(lambda: relay.events("worker_failed"), "a worker in vain")
    finally:
        server.start()
    send(relay, 1)
    wait_until(lambda: len(relay.workers()) == 2, "two workers", 30)
    assert "PostgreSQL at" in relay.events("worker_failed")[0]["problem"]
