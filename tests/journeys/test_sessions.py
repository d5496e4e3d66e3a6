"""Next hops that refuse our session and not the mail: nobody is bounced for it, and no user is unknown for it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.deliver.scripted import FINE, Part, ScriptedServer
from tests.journeys.clients import Dialogue
from tests.journeys.loop_thread import LoopThread
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, World
from tests.peers import wait_until

ANN, ALICE = "ann@sender.example", "alice@fwd.example"
CONTENT = b"From: ann@sender.example\r\nSubject: hello\r\n\r\nHi.\r\n"


class Script:
    """A `ScriptedServer` in a thread of its own."""

    def __init__(self, address: str, port: int, **play: Any) -> None:
        self.server = ScriptedServer(**play)
        self._where = (address, port)
        self._loop = LoopThread()
        self._open = AsyncExitStack()

    def start(self) -> None:
        self._loop.start()
        self._loop.run(self._open.enter_async_context(self.server(*self._where)))

    def stop(self) -> None:
        self._loop.run(self._open.aclose())
        self._loop.stop()


@pytest.mark.slow
@pytest.mark.parametrize("refusal", ["530 5.7.0 Must issue a STARTTLS command first", "554 5.7.1 Policy"])
def test_a_fault_of_tls_defers_with_both_reasons_until_it_is_over(world: World, refusal: str) -> None:
    script: dict[str, Part] = {"STARTTLS": "454 4.7.0 TLS not available", "MAIL": [refusal, FINE]}
    hop = Script(MAILBOX, world.port, offers=("STARTTLS", "PIPELINING"), script=script)
    world.start(hop)
    relay = world.relay(aliases=f"{ALICE} carol@mailbox.example\n", queue={"retry_min": "1m", "retry_max": "1m"})
    with Dialogue((relay.address, relay.port)) as session:
        assert session.deliver(ANN, ALICE, CONTENT).code == 250
    wait_until(lambda: relay.events("deferred"), "a deferral")
    (row,) = relay.queue()
    for text in (relay.command("queue", "show", row["id"]).stdout, relay.events("deferred")[0]["text"]):
        assert "TLS not available" in text and refusal.split()[-1] in text
    assert not relay.events("bounced")
    assert relay.events("tls_failed")
    assert relay.command("queue", "retry", "--all").returncode == 0
    wait_until(lambda: hop.server.contents, "the message, once the fault is over")
    relay.wait_for_empty_queue()


def test_what_a_mailbox_host_says_of_us_or_of_a_mailbox_is_not_taken_for_an_unknown_user(world: World) -> None:
    refused = {
        "gone@asked.example": "550 5.1.1 gone",
        "blocked@asked.example": "550 5.7.1 client blocked",
        "clear@asked.example": "530 5.7.0 STARTTLS first",
        "early@asked.example": "503 5.5.1 what",
        "full@asked.example": "552 5.2.2 over quota of wing 7",
        "off@asked.example": "450 4.2.1 not now",
    }
    sink = world.start(RecordingSink(MAILBOX, world.port, refused=refused))
    route = {"next_hop": f"smtp://{MAILBOX}:{world.port}", "recipients": "callout"}
    relay = world.relay(routes={"domains": {"asked.example": route}})
    heard: dict[str, tuple[int, str]] = {}
    with Dialogue((relay.address, relay.port)) as session:
        session("EHLO sender.example")
        session(f"MAIL FROM:<{ANN}>")
        for address in refused:
            answer = session(f"RCPT TO:<{address}>")
            assert "wing" not in answer.text
            heard[address.partition("@")[0]] = (answer.code, answer.enhanced)
    assert heard == {
        "gone": (550, "5.1.1"),
        "blocked": (451, "4.4.1"),
        "clear": (451, "4.4.1"),
        "early": (451, "4.4.1"),
        "full": (552, "5.2.2"),
        "off": (450, "4.2.1"),
    }
    words = [line["answer"] for line in relay.events("callout_deferred")]
    assert any("client blocked" in text for text in words) and any("STARTTLS first" in text for text in words)
    assert sink.refused.pop("gone@asked.example")
    for address in list(sink.refused):
        del sink.refused[address]
        with Dialogue((relay.address, relay.port)) as session:
            assert session.deliver(ANN, address, CONTENT).code == 250, f"{address}: the answer was kept"
    assert len(sink.wait(5)) == 5
