"""NOTIFY=SUCCESS through the door (RFC 3461): what is told of an alias with one mailbox behind it, and of a list."""

from __future__ import annotations

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.maildir import parse
from tests.journeys.sinks import Received, RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World

pytestmark = pytest.mark.slow

ANN = "ann@sender.example"
ALIASES = """\
alice@fwd.example carol@mailbox.example
list@fwd.example  carol@mailbox.example, dave@mailbox.example, erin@other.mailbox.example
"""


def report(received: Received) -> tuple[str, str]:
    """The Final-Recipient and the Action of a notification about one recipient."""
    [_, status, _] = parse(received.content).iter_parts()
    [_, recipient] = status.iter_parts()
    return recipient["Final-Recipient"], recipient["Action"]


@pytest.mark.parametrize(
    ("recipient", "copies", "action"), [("alice@fwd.example", 1, "relayed"), ("list@fwd.example", 3, "expanded")]
)
def test_success_is_told_once_whatever_stands_behind_an_address(
    world: World, recipient: str, copies: int, action: str
) -> None:
    world.zone["other.mailbox.example", "MX"] = ["10 mx.mailbox.example."]
    relay = world.relay(aliases=ALIASES)
    mailbox = world.start(RecordingSink(MAILBOX, world.port))
    home = world.start(RecordingSink(SENDER, world.port))
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        client("EHLO mx.sender.example")
        client(f"MAIL FROM:<{ANN}>")
        assert client(f"RCPT TO:<{recipient}> NOTIFY=SUCCESS,FAILURE").code == 250
        client("DATA")
        client.send(f"From: {ANN}\r\nSubject: hello\r\n\r\nHi.\r\n.\r\n".encode())
        assert client.reply().code == 250
    [told] = home.wait()
    relay.wait_for_empty_queue()
    assert sum(len(taken.recipients) for taken in mailbox.wait()) == copies
    assert (told.sender, told.recipients) == ("", (ANN,)) and len(home.received) == 1
    assert report(told) == (f"rfc822; {recipient}", action)
    assert b"mailbox.example" not in told.content
