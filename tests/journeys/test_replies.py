"""Replies to the address of ours that stood in From, through the door: home to the author, or refused."""

from __future__ import annotations

import time

import pytest

from relay.srs import address as srs
from relay.srs.reply_address import forward
from tests.journeys import authors
from tests.journeys.clients import Dialogue
from tests.journeys.maildir import parse
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SECRET, SENDER, World
from tests.peers import free_port

pytestmark = pytest.mark.slow

ANN, CAROL = "ann@sender.example", "carol@mailbox.example"
SCHEME = srs.Scheme("fwd.example", (SECRET.encode(),))
REPLY = str(forward(ANN, SCHEME))
REPLY_TEXT = f"From: {CAROL}\r\nTo: {REPLY}\r\nSubject: Re: hello\r\n\r\nHi.\r\n"


def test_a_reply_reaches_the_author_and_a_forged_one_nobody(world: World) -> None:
    relay = world.relay(srs={"accept": "null"}, http={"address": f"127.0.0.12:{free_port()}"})
    home = world.start(RecordingSink(SENDER, world.port))
    with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
        client("EHLO mx.mailbox.example")
        client(f"MAIL FROM:<{CAROL}>")
        for forged in (REPLY.replace("ann", "eve"), REPLY.replace("sender.example", "bank.example")):
            answer = client(f"RCPT TO:<{forged}>")
            assert answer[:2] == (550, "5.1.1") and "forged reply address" in answer.text
        answer = client("RCPT TO:<reply=unknown@fwd.example>")
        assert answer[:2] == (550, "5.1.1") and "malformed reply address" in answer.text
        assert client(f"RCPT TO:<{REPLY.lower()}>").code == 250
        client("DATA")
        client.send(REPLY_TEXT.encode() + b".\r\n")
        assert client.reply().code == 250
    [arrived] = home.wait()
    relay.wait_for_empty_queue()
    assert arrived.recipients == (ANN,)
    assert srs.reverse(arrived.sender, SCHEME, time.time()) == CAROL
    assert arrived.content.endswith(REPLY_TEXT.encode())
    assert world.signers(arrived.content) == ["fwd.example"]
    _, metrics = relay.http("/metrics")
    assert 'srs_relay_reply_addresses_total{step="reversed"} 1.0' in metrics
    assert 'srs_relay_reply_addresses_total{step="rejected"} 3.0' in metrics


@pytest.mark.parametrize(
    "value",
    [
        f"Ann <<{ANN}>>",
        f"<mailto:{ANN}>",
        f"Ann <MAILTO:{ANN}?subject=x>",
        f"Ann <<mailto:{ANN}>>",
        f"Ann <'{ANN}'>",
        f'Ann <"{ANN}">',
    ],
)
def test_replies_to_an_author_who_is_oddly_written_reach_him(world: World, value: str) -> None:
    authors.publish(world.zone, "sender.example", SENDER, "p=reject")
    relay = world.relay(aliases=f"alice@fwd.example {CAROL}\n")
    mailbox, home = (world.start(RecordingSink(address, world.port)) for address in (MAILBOX, SENDER))
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        text = f"From: {value}\r\nSubject: hello\r\n\r\nHello.\r\n"
        assert client.deliver(ANN, "alice@fwd.example", text.encode()).code == 250
    [author] = parse(mailbox.wait()[0].content)["From"].addresses
    assert author.addr_spec == REPLY
    with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
        assert client.deliver(CAROL, author.addr_spec, REPLY_TEXT.encode(), helo="mx.mailbox.example").code == 250
    assert home.wait()[0].recipients == (ANN,)
