"""Who hears of a failure, through the door: the sender whom SPF or a signature vouches for, and nobody who is named by
a stranger."""

from __future__ import annotations

import time

import pytest

from relay.config.sections import DkimSection
from relay.mail.message import Message
from relay.sign import keys
from relay.sign.dkim_signature import signature_fields
from tests.journeys.clients import Dialogue
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World
from tests.peers import wait_until

pytestmark = pytest.mark.slow

STRANGER = "127.0.0.66"
ANN, EVE = "ann@sender.example", "eve@next.example"
UNKNOWN = "550 5.1.1 no such user"


def signed(relay: RelayProcess, author: str) -> bytes:
    """A message of the author's, signed with the key of the author's domain."""
    domain = author.partition("@")[2]
    key = keys.load(DkimSection(domain=domain, selector="relay1", private_key=relay.folder / f"{domain}.pem"))
    content = f"From: {author}\r\nTo: alice@fwd.example\r\nSubject: hello\r\n\r\nHi.\r\n".encode()
    return signature_fields(Message(content), [key], int(time.time())) + content


@pytest.mark.parametrize(
    ("author", "sender", "to", "state"),
    [
        pytest.param(ANN, ANN, "verified", "bounced", id="a signature of the sender's domain vouches for the sender"),
        pytest.param(EVE, ANN, "verified", "dead", id="one of another domain does not, although DMARC passes"),
        pytest.param(EVE, ANN, "all", "bounced", id="all"),
        pytest.param(EVE, "", "all", "dead", id="the null sender is told of nothing"),
    ],
)
def test_who_is_told(world: World, author: str, sender: str, to: str, state: str) -> None:
    for domain in ("sender.example", "next.example"):
        world.zone[domain, "TXT"] = [f'"v=spf1 ip4:{SENDER} ~all"']
        world.zone[f"_dmarc.{domain}", "TXT"] = ['"v=DMARC1; p=reject"']
    relay = world.relay(aliases="alice@fwd.example carol@mailbox.example\n", bounces={"to": to})
    world.start(RecordingSink(MAILBOX, world.port, refused={"carol@mailbox.example": UNKNOWN}))
    home = world.start(RecordingSink(SENDER, world.port))
    with Dialogue((relay.address, relay.port), source=STRANGER) as client:
        assert client.deliver(sender, "alice@fwd.example", signed(relay, author)).code == 250
    if state == "bounced":
        [told] = home.wait()
        relay.wait_for_empty_queue()
        assert (told.sender, told.recipients) == ("", (ANN,))
        assert b"alice@fwd.example" in told.content and b"mailbox.example" not in told.content
    else:
        wait_until(lambda: relay.events("dead"), "the end of the delivery")
        assert not home.received and [one["state"] for one in relay.queue()] == ["dead"]
    [checked] = relay.events("authenticated")
    assert checked["dmarc"] == "pass" and checked["spf"] != "pass"
