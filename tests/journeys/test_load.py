"""Many messages at once between Postfix's own load tools: nothing is lost, nothing doubled, nothing left behind."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.journeys.clients import smtp_source
from tests.journeys.sinks import SmtpSink
from tests.journeys.world import MAILBOX, World
from tests.peers import needs, wait_until

pytestmark = [needs("smtp-sink", "smtp-source", root=True), pytest.mark.slow]

MESSAGES = 1000


def test_smtp_source_through_the_relay_to_smtp_sink(world: World) -> None:
    sink = world.start(SmtpSink(world.base / "sink", MAILBOX, world.port))
    relay = world.relay(
        aliases="alice@fwd.example carol@mailbox.example\n",
        delivery={"smarthost": {"url": f"smtp://{MAILBOX}:{world.port}"}},
    )
    smtp_source(
        (relay.address, relay.port),
        sender="ann@sender.example",
        recipient="alice@fwd.example",
        messages=MESSAGES,
        sessions=20,
        octets=5000,
    )
    wait_until(lambda: sink.count() >= MESSAGES, f"{MESSAGES} messages at smtp-sink", 60)
    relay.wait_for_empty_queue()
    messages = sink.messages()
    assert len(messages) == MESSAGES
    ids = Counter(re.findall(rb"^Message-Id: (.*)$", b"\n".join(messages), re.MULTILINE))
    assert len(ids) == MESSAGES
    assert all(b"X-Rcpt-Args: <carol@mailbox.example>\n" in message for message in messages)
    assert all(
        re.search(rb"^X-Mail-Args: <SRS0=[^>]*=ann@fwd\.example>", message, re.MULTILINE) for message in messages
    )
