"""IPv6 clients of one network: what a /48 may take, and that honest neighbours are not hurt.

A proxy says who the clients are, as one does in front of many relays.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.journeys.clients import Answer, Dialogue
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, World, opened
from tests.peers import free_port, wait_until

pytestmark = pytest.mark.slow

ALICE, FORGED = "alice@fwd.example", "SRS0=AAAA=AA=sender.example=ann@fwd.example"
MESSAGE = b"From: ann@open.example\r\nSubject: hello\r\n\r\nhello\r\n"
CONNECTIONS, PER_CLIENT = 100, 3


class Network:
    """A relay behind a proxy, and clients at any address."""

    def __init__(self, world: World) -> None:
        world.zone["open.example", "TXT"] = ['"v=spf1 +all"']
        world.start(RecordingSink(MAILBOX, world.port))
        self.proxied = free_port()
        self.relay: RelayProcess = world.relay(
            aliases=f"{ALICE} carol@mailbox.example\n",
            listen=[
                {"address": f"{FWD}:{world.port}"},
                {"address": f"127.0.0.1:{self.proxied}", "proxy_protocol": True, "proxies": ["127.0.0.1"]},
            ],
            limits={"connections": CONNECTIONS, "connections_per_client": PER_CLIENT},
        )

    def client(self, ip: str) -> Dialogue:
        family = "TCP6" if ":" in ip else "TCP4"
        here = "2001:db8:ffff::1" if ":" in ip else "192.0.2.1"
        header = f"PROXY {family} {ip} {here} 40000 25\r\n".encode()
        return Dialogue(("127.0.0.1", self.proxied), proxy=header)

    def connect(self, stack: ExitStack, ips: list[str]) -> list[Answer]:
        """Connections that stay, and what each of them heard."""
        return [stack.enter_context(self.client(ip)).greeting for ip in ips]

    def deliver(self, ip: str) -> Answer:
        with self.client(ip) as client:
            return client.deliver("ann@open.example", ALICE, MESSAGE)

    def guess(self, ip: str, times: int) -> list[tuple[int, str]]:
        with self.client(ip) as client:
            client("EHLO guesser.example")
            client("MAIL FROM:<ann@open.example>")
            return [client(f"RCPT TO:<{FORGED}>")[:2] for _ in range(times)]


@pytest.fixture
def network() -> Iterator[Network]:
    with opened() as world:
        yield Network(world)


def test_sixty_clients_of_a_48_do_not_take_all_connections(network: Network) -> None:
    """Nor do the others of its /32; who had mail accepted comes in all the same, also after a reload."""
    honest, others = "2001:db8:0:ff00::1", [f"2001:db9:{n:x}::1" for n in range(15)] + ["192.0.2.7"]
    assert network.deliver(honest).code == 250
    for turn in range(2):
        with ExitStack() as stack:
            attack = [f"2001:db8:0:{n:x}00::{m}" for n in range(60) for m in range(1, 3)]
            heard = network.connect(stack, attack)
            codes = [answer.code for answer in heard]
            assert (codes.count(220), codes.count(421)) == (16 * PER_CLIENT, 120 - 16 * PER_CLIENT), turn
            assert heard[-1][:2] == (421, "4.7.0")
            assert heard[-1].text.endswith("too many connections from your network 2001:db8::/48")
            wider = network.connect(stack, [f"2001:db8:{n:x}::1" for n in range(1, 20)])
            assert [answer.code for answer in wider].count(220) == CONNECTIONS // 2 - 16 * PER_CLIENT
            assert {answer.code for answer in network.connect(stack, others)} == {220}
            assert network.deliver(honest).code == 250
        refused = [line for line in network.relay.events("refused") if "2001:db8::/48" in str(line.get("problem"))]
        assert len(refused) > 60 * (turn + 1), "the log says so of nearly all: two clients may count as one, by chance"
        if turn == 0:
            os.kill(network.relay.pid, signal.SIGHUP)
            wait_until(lambda: network.relay.events("reloaded"), "the reload")
            wait_until(lambda: len(network.relay.workers()) == 2, "the end of the old workers")


def test_guesses_from_a_48_are_bounded_together(network: Network) -> None:
    """Sixteen times what one client may: whatever it calls itself, until another minute gives some."""
    honest, elsewhere = "2001:db8:0:ff00::1", "2001:db9::1"
    assert network.deliver(honest).code == 250
    answers = [one for n in range(60) for one in network.guess(f"2001:db8:0:{n:x}00::1", 10)]
    refused = answers.count((550, "5.1.1"))
    assert 320 <= refused <= 320 + 32 * 3, "20 at once and 2 a minute, sixteen times"
    assert answers.count((450, "4.7.1")) == 600 - refused
    assert network.guess("2001:db8:0:ffff::1", 1) == [(450, "4.7.1")]
    for ip in (honest, elsewhere, "192.0.2.7"):
        assert network.guess(ip, 1) == [(550, "5.1.1")]
