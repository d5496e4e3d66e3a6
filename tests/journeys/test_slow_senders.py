"""Strangers that send most of a large message and then next to nothing: nobody else waits for them."""

from __future__ import annotations

import re
import select
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SENDER, opened
from tests.peers import free_port, wait_until

pytestmark = pytest.mark.slow

ANN, ALICE = "ann@sender.example", "alice@fwd.example"
TRUSTED = "127.0.0.9"
STRANGERS = [f"127.0.0.{n}" for n in (21, 22, 23, 24)]
LINE = b"x" * 76 + b"\r\n"


def content(octets: int) -> bytes:
    return b"From: ann@sender.example\r\nSubject: hello\r\n\r\n" + LINE * (octets // len(LINE))


class Gate:
    """A relay with little memory."""

    def __init__(self, relay: RelayProcess, http: int) -> None:
        self.relay = relay
        self._http = http

    def session(self, source: str = SENDER) -> Dialogue:
        return Dialogue((self.relay.address, self.relay.port), source=source)

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._http}/metrics", timeout=10) as page:
            found = re.search(rf"^srs_relay_{name} (\S+)$", page.read().decode(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    def takes(self, octets: int, source: str = SENDER) -> int:
        """The code of the reply to a message."""
        with self.session(source) as session:
            return session.deliver(ANN, ALICE, content(octets)).code


@contextmanager
def gate(memory: str) -> Iterator[Gate]:
    with opened() as world:
        world.zone["sender.example", "TXT"] = ['"v=spf1 ip4:127.0.0.0/8 -all"']
        http = free_port()
        world.start(RecordingSink(MAILBOX, world.port))
        relay = world.relay(
            aliases=f"{ALICE} carol@mailbox.example\n",
            http={"address": f"127.0.0.1:{http}"},
            limits={"message_memory": memory},
            receive={"max_message_size": "5MB"},
            clients={"trusted": [TRUSTED]},
        )
        yield Gate(relay, http)


def begin(session: Dialogue, octets: int) -> None:
    """A message without its end."""
    assert session.offer(ANN, ALICE).code == 250
    assert session("DATA").code == 354
    session.send(content(octets))


def test_large_messages_without_an_end_take_no_memory_from_others() -> None:
    """Four strangers with nearly twice of what fits into the memory."""
    with gate("40MB") as one, ExitStack() as stack:
        slow = [stack.enter_context(one.session(source)) for source in STRANGERS * 4]
        for session in slow:
            begin(session, 4_900_000)
        wait_until(lambda: one.metric("message_spool_bytes") > 14 * 4_900_000, "them on disk")
        wait_until(lambda: one.metric("message_memory_bytes") < 16 * 400_000, "memory")
        assert [one.takes(size, source) for size in (1000, 4_900_000) for source in (SENDER, TRUSTED)] == [250] * 4
        slow[0].send(b".\r\n")
        assert slow[0].reply().code == 250, "and who sends the end of it has it taken"
        stack.close()
        wait_until(lambda: one.metric("message_spool_bytes") == 0, "the disk")
        assert one.metric("message_memory_bytes") == 0


def test_the_slowest_strangers_are_ended_once_half_of_the_memory_is_taken() -> None:
    """Many messages below what goes to disk, an octet a second each: for a minute at most."""
    with gate("8MB") as one, ExitStack() as stack:
        slow = [stack.enter_context(one.session(source)) for source in STRANGERS * 7]
        for session in slow:
            begin(session, 250_000)
        wait_until(lambda: one.metric("message_memory_bytes") > 28 * 249_000, "them in memory")
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(1):
                for session in slow:
                    try:
                        session.send(b"x")
                    except OSError:
                        pass  # it was ended

        trickling = threading.Thread(target=trickle)
        trickling.start()
        try:
            assert one.takes(100_000, TRUSTED) == 250, "trusted clients have memory of their own"
            assert not one.relay.events("too_slow"), "not within a minute"
            wait_until(lambda: one.metric("message_memory_bytes") <= 4_000_000, "the end of the slow ones", 90)
        finally:
            stop.set()
            trickling.join()
        ended = len(one.relay.events("too_slow"))
        assert 12 <= ended <= 15, "as many as it takes"
        assert one.takes(100_000) == 250
        replies = [session.reply() for session in slow if _heard(session)]
        assert len(replies) == ended and {reply[:2] for reply in replies} == {(421, "4.4.2")}


def _heard(session: Dialogue) -> bool:
    """Whether there is a reply to read."""
    return bool(select.select([session._socket], [], [], 0)[0])
