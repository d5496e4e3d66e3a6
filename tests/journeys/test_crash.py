"""kill -9 at random moments, of everything and of single workers: what got its 250 arrives.

Duplicates are what a crash may cost: at most what was between the final dot and its recording when the power went.
"""

from __future__ import annotations

import random
import smtplib
from functools import partial

import pytest

from tests.journeys.endless_load import Load, numbers
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, World
from tests.peers import wait_until

pytestmark = pytest.mark.slow

KILLS = 10
WORKERS = 2
CLIENTS = 4
PAUSES = {"queue": 0.0, "in-session": 0.15}  # more than the next hop can take at once goes into the queue
CONCURRENCY = 5  # deliveries in flight at the next hop for each worker
ALIASES = "alice@fwd.example carol@mailbox.example\n"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", ["queue", "in-session"])
def test_nothing_acknowledged_is_lost_by_kill_9(world: World, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port, delay=0.1))
    relay = world.relay(
        aliases=ALIASES,
        workers=WORKERS,
        delivery={"concurrency": CONCURRENCY, "mode": mode},
    )
    load = Load((relay.address, relay.port), clients=CLIENTS, pause=PAUSES[mode])
    world.start(load)
    seed = random.randrange(2**32)
    chance = random.Random(seed)

    def more_acknowledged() -> None:
        enough = len(load.acknowledged) + chance.randint(5, 80)
        wait_until(lambda: len(load.acknowledged) >= enough, "the relay to acknowledge more", 60)

    def replaced(victim: int) -> bool:
        workers = relay.workers()
        return len(workers) == WORKERS and victim not in workers

    for _ in range(KILLS):
        more_acknowledged()
        relay.kill9()
        relay.start()
        more_acknowledged()
        victim = chance.choice(relay.workers())
        relay.kill_worker(victim)
        wait_until(partial(replaced, victim), "the dead worker to be replaced")
    more_acknowledged()
    load.stop()

    wait_until(
        lambda: not load.acknowledged - numbers(sink).keys(), f"every acknowledged message (chance was {seed})", 60
    )
    relay.wait_for_empty_queue(60)
    arrived = numbers(sink)
    duplicates = sum(count - 1 for count in arrived.values())
    with capsys.disabled():
        print(
            f"\n    {mode}: {load.sent} sent, {len(load.acknowledged)} acknowledged, {len(arrived)} arrived, "
            f"{duplicates} duplicates after {KILLS} kills of the relay and {KILLS} of a worker"
        )
    assert not load.acknowledged - arrived.keys()
    # What was at the next hop is in doubt in either mode; in the session the client repeats what it got no reply to.
    in_flight = CONCURRENCY * (WORKERS + 1) + CLIENTS * 2
    assert duplicates <= KILLS * in_flight
    if mode == "in-session":
        assert len(relay.events("queued")) < len(arrived) / 2


def test_what_waits_when_the_relay_is_stopped_leaves_after_the_next_start(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    with smtplib.SMTP(relay.address, relay.port, local_hostname="mx.sender.example", timeout=30) as session:
        session.sendmail("ann@sender.example", ["alice@fwd.example"], "Subject: number 1.\r\n\r\n")
    wait_until(lambda: relay.events("deferred"), "a first attempt in vain")
    assert relay.terminate() == 0
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay.start()
    sink.wait(1)
    relay.wait_for_empty_queue()
    assert numbers(sink) == {1: 1}
