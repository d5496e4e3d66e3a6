"""Fifty next hops that hold on to what is sent to them, and an honest one: mail to that one keeps flowing.

As it is run by default: 400 places, minutes of patience for every phase. Both tests last longer than it takes a
transaction to become slow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice

import pytest

from relay.deliver.concurrency import SLOW
from tests.journeys.clients import Dialogue
from tests.journeys.hostile import HostileHops
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, World
from tests.peers import wait_until

pytestmark = pytest.mark.slow

HOPS, GOOD, MORE = 50, 10, 13
ALICE, CAROL = "alice@fwd.example", "carol@mailbox.example"
CONTENT = b"From: ann@sender.example\r\nSubject: number %d.\r\n\r\nHi.\r\n"
LASTING = SLOW + 15  # seconds


class House:
    def __init__(self, world: World) -> None:
        self.hostile = HostileHops(HOPS, world.port, GOOD)
        world.zone |= self.hostile.zone()
        world.start(self.hostile)
        self.honest = world.start(RecordingSink(MAILBOX, world.port))
        self.relay = world.relay(aliases=f"{ALICE} {CAROL}\n", workers=1, clients={"trusted": ["127.0.0.1"]})

    def delays(self) -> list[float]:
        """Seconds from the 250 to the delivery at the honest next hop."""
        return sorted(line["delay"] for line in self.relay.events("delivered") if line["to"] == [CAROL])


@contextmanager
def client(relay: RelayProcess, source: str = "127.0.0.1") -> Iterator[Dialogue]:
    with Dialogue((relay.address, relay.port), source=source) as session:
        session("EHLO mx.sender.example")
        yield session


def send(session: Dialogue, sender: str, recipient: str, number: int, notify: str = "") -> None:
    session(f"MAIL FROM:<{sender}>")
    session(f"RCPT TO:<{recipient}>{notify}")
    session("DATA")
    session.send(CONTENT % number + b".\r\n")
    assert session.reply().code == 250


def keep_sending(house: House, seconds: float) -> int:
    """Four messages a second to the honest next hop; how many."""
    ends, sent = time.monotonic() + seconds, 0
    with client(house.relay) as session:
        while time.monotonic() < ends:
            send(session, "ann@sender.example", CAROL, sent)
            sent += 1
            time.sleep(0.25)
    return sent


def test_mail_to_next_hops_that_turn_silent_does_not_stop_the_others(world: World) -> None:
    house = House(world)
    hostile = house.hostile
    with client(house.relay) as session:
        for domain in hostile.domains * GOOD:
            send(session, "ann@sender.example", f"u@{domain}", 0)
        wait_until(lambda: len(house.relay.events("delivered")) == HOPS * GOOD, "what they take well", 90)
        for number, domain in enumerate(islice(cycle(hostile.domains), HOPS * MORE)):
            send(session, "ann@sender.example", f"u@{domain}", number)
    wait_until(lambda: hostile.held >= 100, "connections that are held")
    sent = keep_sending(house, LASTING)
    wait_until(lambda: len(house.delays()) == sent, "every message to the honest next hop", SLOW)
    delays = house.delays()
    print(f"held {hostile.most_held}, {sent} sent, p50 {delays[sent // 2]:.3f} s, p99 {delays[sent * 99 // 100]:.3f} s")
    assert delays[-1] < SLOW / 2
    assert hostile.most_held >= 100


def test_notices_to_next_hops_that_turn_silent_hold_a_tenth_of_the_places(world: World) -> None:
    house = House(world)
    hostile = house.hostile
    with client(house.relay) as session:
        for number, domain in enumerate(islice(cycle(hostile.domains), HOPS * (GOOD + MORE))):
            send(session, f"u@{domain}", CAROL, number, " NOTIFY=SUCCESS")
    wait_until(lambda: hostile.held >= 30, "connections that are held")
    sent = keep_sending(house, 10)
    wait_until(lambda: len(house.delays()) == sent + HOPS * (GOOD + MORE), "every message to the honest next hop", SLOW)
    delays = house.delays()
    print(
        f"held {hostile.most_held}, p50 {delays[len(delays) // 2]:.3f} s, p99 {delays[len(delays) * 99 // 100]:.3f} s"
    )
    assert delays[-1] < SLOW / 2
    assert hostile.most_held <= 40
