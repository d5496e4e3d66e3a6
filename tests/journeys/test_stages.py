"""When each stage has its turn, as the log shows it where a message goes no further."""

from __future__ import annotations

from typing import Any

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World
from tests.peers import wait_until

pytestmark = pytest.mark.slow

MESSAGE = b"From: news@sender.example\r\nTo: alice@fwd.example\r\nMessage-ID: <1@sender.example>\r\n\r\nhi\r\n"
ALIASES = "alice@fwd.example carol@mailbox.example\nlate@fwd.example bob@mailbox.example\n"


def outcome(relay: RelayProcess, recipient: str, event: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first `attempt` of a message to this recipient, and the line of its outcome."""
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        answer = client.deliver("news@sender.example", recipient, MESSAGE)
        assert answer.code == 250
    queue_id = answer.text.rpartition(" ")[2]

    def lines(name: str) -> list[dict[str, Any]]:
        return [line for line in relay.events(name) if line.get("id") == queue_id]

    wait_until(lambda: lines(event), f"the line {event}")
    return lines("attempt")[0], lines(event)[0]


def test_the_sender_is_fixed_before_the_connection_and_the_signature_after_rcpt(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    attempt, deferred = outcome(relay, "alice@fwd.example", "deferred")  # nobody listens there
    assert attempt["from"].startswith("SRS0=") and attempt["hop"] == "mailbox.example"
    assert "signed_by" not in deferred and deferred["text"] == "Connection refused"

    sink = world.start(RecordingSink(MAILBOX, world.port, refused={"bob@mailbox.example": "550 5.1.1 nobody"}))
    attempt, bounced = outcome(relay, "late@fwd.example", "bounced")
    assert attempt["from"].startswith("SRS0=") and "signed_by" not in bounced

    attempt, delivered = outcome(relay, "alice@fwd.example", "delivered")
    assert delivered["signed_by"] == ["fwd.example:relay1"]
    assert delivered["to"] == ["carol@mailbox.example"]
    assert sink.received[0].sender == attempt["from"]


def test_a_recipient_is_routed_before_the_content_is_examined(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        assert client.deliver("news@sender.example", "nobody@fwd.example", MESSAGE).code == 550
    wait_until(lambda: relay.events("disconnect"), "the end of the session")
    assert relay.events("rcpt")[0]["reply"] == "550 5.1.1 <nobody@fwd.example>: no such user here"
    assert not relay.events("authenticated")
