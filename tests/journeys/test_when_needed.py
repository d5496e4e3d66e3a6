"""`srs = "when-needed"` through the door: what one next hop sees as the sender, for its domains of either kind."""

from __future__ import annotations

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, SENDER, World

pytestmark = pytest.mark.slow

COVERED, UNCOVERED = "ann@sender.example", "bob@careful.example"
TO_NEEDED, TO_ALWAYS = "carol@mailbox.example", "carol@always.example"


def test_a_sender_whose_spf_covers_us_stays_and_any_other_is_rewritten(world: World) -> None:
    world.zone["sender.example", "TXT"] = [f'"v=spf1 ip4:{SENDER} ip4:{FWD} -all"']
    world.zone["careful.example", "TXT"] = [f'"v=spf1 ip4:{SENDER} -all"']
    route = {"next_hop": f"smtp://{MAILBOX}:{world.port}", "recipients": "any"}
    relay = world.relay(
        routes={"domains": {"mailbox.example": {**route, "srs": "when-needed"}, "always.example": route}}
    )
    sink = world.start(RecordingSink(MAILBOX, world.port))
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        client("EHLO mx.sender.example")
        for sender in (COVERED, UNCOVERED):
            client(f"MAIL FROM:<{sender}>")
            for recipient in (TO_NEEDED, TO_ALWAYS):
                assert client(f"RCPT TO:<{recipient}>").code == 250
            client("DATA")
            client.send(f"From: {sender}\r\nSubject: hello\r\n\r\nHi.\r\n.\r\n".encode())
            assert client.reply().code == 250
    relay.wait_for_empty_queue()
    seen = {
        (recipient, taken.content.partition(b"\r\nFrom: ")[2].partition(b"\r\n")[0].decode()): taken.sender
        for taken in sink.received
        for recipient in taken.recipients
    }
    assert seen.pop((TO_NEEDED, COVERED)) == COVERED
    assert len(seen) == 3
    for (_, author), sender in seen.items():
        local, _, domain = author.partition("@")
        assert sender.startswith("SRS0=") and sender.endswith(f"={domain}={local}@fwd.example")
    reasons = {line["to"][0]: line["rewriting"] for line in relay.events("attempt") if line["from"] == COVERED}
    assert reasons == {TO_NEEDED: "unneeded"}
