"""SIGHUP and SIGTERM to a relay at work, and a second relay on the same queue: no client is turned away for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.relay_process import ROOT, RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, World
from tests.peers import wait_until

pytestmark = pytest.mark.slow

ANN, ALICE = "ann@sender.example", "alice@fwd.example"
ALIASES = f"{ALICE} carol@mailbox.example\n"
CONTENT = b"From: ann@sender.example\r\nSubject: hello\r\n\r\nhello\r\n"
STOP_BOUND = 10.0  # seconds that `docker stop` gives


def session(relay: RelayProcess) -> Dialogue:
    return Dialogue((relay.address, relay.port))


def in_data(relay: RelayProcess) -> Dialogue:
    """A client in the middle of a message; one that came to an old worker in its last moment has come again."""
    while True:
        client = session(relay)
        if (answer := client.offer(ANN, ALICE)).code != 421:
            break
        client.close()
    assert answer.code == 250
    assert client("DATA").code == 354
    client.send(CONTENT)
    return client


def hang_up(relay: RelayProcess) -> None:
    os.kill(relay.pid, signal.SIGHUP)


class Visitors:
    """Clients that come one after the other, are greeted and leave, until they are stopped.

    A worker that is about to go may ask a client that it has greeted to come again shortly, with a 421.
    """

    def __init__(self, relay: RelayProcess, count: int = 3) -> None:
        self.relay = relay
        self.greeted = 0
        self.problems: list[str] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._come, daemon=True) for _ in range(count)]

    def _come(self) -> None:
        while not self._stopping.wait(0.02):
            started = time.monotonic()
            try:
                with session(self.relay) as client:
                    answers = client.greeting, client("EHLO mx.sender.example")
                    if answers[0].code != 220 or answers[1].code not in (250, 421):
                        self.problems.append(f"no welcome: {answers}")
            except (OSError, EOFError) as error:
                self.problems.append(f"{type(error).__name__}: {error}")
            if (waited := time.monotonic() - started) > 5:
                self.problems.append(f"waited {waited:.1f} s for the greeting")
            self.greeted += 1

    @contextmanager
    def coming(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in self._threads:
                thread.join(30)


def test_a_bad_configuration_changes_nothing_and_is_logged(world: World) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay = world.relay(aliases=ALIASES)
    workers = relay.workers()
    good = relay.config_file.read_text()
    for bad, problem in (
        (good + "\n[nonsense]\n", "nonsense"),
        (good.replace("mx.fwd.example", "mx..example", 1), "hostname"),
        ("this is = not [toml", "relay.toml"),
        (good.replace('"srs.secret"', '"no.secret"'), "no.secret"),
        (good.replace('"workers" = 2', '"workers" = 3'), "workers"),
    ):
        already = len(relay.events("reload_failed"))
        relay.config_file.write_text(bad)
        hang_up(relay)
        wait_until(partial(relay.has_events, "reload_failed", already + 1), "a word on the bad configuration")
        assert problem in relay.events("reload_failed")[-1]["problem"]
    assert relay.workers() == workers
    with session(relay) as client:
        assert client.deliver(ANN, ALICE, CONTENT).code == 250
    sink.wait(1)


def test_a_good_configuration_takes_over_and_no_client_notices(world: World) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay = world.relay(aliases=ALIASES)
    workers = relay.workers()
    text = relay.config_file.read_text()
    visitors = Visitors(relay)
    with visitors.coming(), in_data(relay) as client:
        wait_until(lambda: visitors.greeted > 20, "some visitors")
        relay.config_file.write_text(text.replace("mx.fwd.example", "mx2.fwd.example", 1))
        hang_up(relay)
        wait_until(lambda: relay.events("reloaded"), "the new configuration")
        before = visitors.greeted
        wait_until(lambda: visitors.greeted > before + 20, "more visitors")
        client.send(b"the rest\r\n.\r\n")
        assert client.reply().code == 250, "the message that was under way"
        wait_until(lambda: len(relay.workers()) == 2, "the old workers to go")
    assert visitors.problems == []
    assert not set(relay.workers()) & set(workers)
    with session(relay) as client:
        assert client.greeting.text.startswith("mx2.fwd.example")
    assert sink.wait(1)[0].content.endswith(b"the rest\r\n")


def reloads(relay: RelayProcess, count: int) -> bool:
    """Tells whether the relay has been reloaded `count` times, with success or without."""
    return len(relay.events("reloaded") + relay.events("reload_failed")) >= count


def test_reloads_in_quick_succession_are_borne(world: World) -> None:
    """Every generation of workers still has clients to finish with when the next one comes."""
    relay = world.relay(aliases=ALIASES)
    with ExitStack() as clients:
        for count in range(1, 9):
            for _ in range(6):
                clients.enter_context(in_data(relay))
            hang_up(relay)
            wait_until(partial(reloads, relay, count), "a reload")
        last = clients.enter_context(in_data(relay))
        last.send(b".\r\n")
        assert last.reply().code == 250
    wait_until(lambda: len(relay.workers()) == 2, "the old workers to go")
    with session(relay) as client:
        assert client("EHLO mx.sender.example").code == 250


def test_a_message_under_way_at_sigterm_is_finished_and_kept(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    with in_data(relay) as client, session(relay) as idle:
        started = time.monotonic()
        os.kill(relay.pid, signal.SIGTERM)
        assert idle.reply().code == 421
        client.send(b".\r\n")
        assert client.reply().code == 250
        assert relay.terminate(STOP_BOUND) == 0
        assert time.monotonic() - started < STOP_BOUND
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay.start()
    sink.wait(1)
    relay.wait_for_empty_queue()


def test_clients_that_never_finish_do_not_hold_up_the_end(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    with in_data(relay), in_data(relay), session(relay):
        started = time.monotonic()
        assert relay.terminate(STOP_BOUND) == 0
        assert time.monotonic() - started < STOP_BOUND
    assert relay.events("stopped") and not relay.events("worker_killed")


def test_a_second_relay_on_the_same_queue_is_refused_and_takes_no_client_away(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    visitors = Visitors(relay)
    command = [sys.executable, "-m", "relay", "serve", "--config", str(relay.config_file)]
    started = time.monotonic()
    with visitors.coming():
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
        assert time.monotonic() - started < 10, "it is said at once"
        wait_until(lambda: visitors.greeted > 50, "more visitors")
    assert done.returncode == 1
    lock = relay.folder / "queue.db.lock"
    holder = f"srs-relay: {lock}: the queue is in use by the srs-relay with process id {relay.pid}, since "
    assert done.stderr.startswith(holder) and done.stderr.count("\n") == 1
    assert visitors.problems == []


def test_a_relay_that_is_started_while_another_one_stops_waits_for_it(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    command = [sys.executable, "-m", "relay", "serve", "--config", str(relay.config_file)]
    with in_data(relay):
        os.kill(relay.pid, signal.SIGTERM)
        wait_until(lambda: relay.events("stopping"), "the beginning of the end")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as second:
            assert second.stdout is not None
            events: list[dict[str, Any]] = []
            while not events or events[-1]["event"] != "ready":
                events.append(json.loads(second.stdout.readline()))
            second.terminate()
            second.stdout.read()
    (waited,) = [event for event in events if event["event"] == "waiting_for_queue"]
    assert relay.pid in waited["processes"]
    assert relay.events("stopped")


def test_mail_that_waits_goes_where_the_routes_of_today_lead(world: World) -> None:
    """A mailbox host has moved: what was taken for the old one must not wait for it until it is returned."""
    route = {"next_hop": f"smtp://{MAILBOX}:1", "recipients": "any"}
    relay = world.relay(routes={"domains": {"moved.example": route}}, queue={"retry_min": "1h", "retry_max": "1h"})
    with session(relay) as client:
        assert client.deliver(ANN, "carol@moved.example", CONTENT).code == 250
    wait_until(lambda: relay.events("deferred"), "an attempt in vain")
    sink = world.start(RecordingSink(MAILBOX, world.port))
    text = relay.config_file.read_text()
    relay.config_file.write_text(text.replace(f"smtp://{MAILBOX}:1", f"smtp://{MAILBOX}:{world.port}"))
    hang_up(relay)
    wait_until(lambda: relay.events("reloaded"), "the new configuration")
    assert relay.command("queue", "retry", "--all").returncode == 0
    assert sink.wait()[0].recipients == ("carol@moved.example",)
    relay.wait_for_empty_queue()
