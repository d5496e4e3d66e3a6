"""What comes in leaves octet for octet, below what the relay puts on top, and an author's signature stays valid.

The corpus goes in over one session and is compared with what a sink got from the wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import dkim
import pytest

from tests import corpus
from tests.journeys.clients import Dialogue
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World
from tests.judges import dkimpy

pytestmark = pytest.mark.slow

ANN, ALICE = "ann@sender.example", "alice@fwd.example"
OURS = {
    "arc-seal",
    "arc-message-signature",
    "arc-authentication-results",
    "dkim-signature",
    "authentication-results",
    "x-srs-relay",
    "received",
}


@pytest.fixture
def sink(world: World) -> RecordingSink:
    return world.start(RecordingSink(MAILBOX, world.port))


def passed_on(world: World, sink: RecordingSink, mail: Iterable[corpus.Mail]) -> Iterator[tuple[str, bytes, bytes]]:
    """Send all of it through a relay: the name, what went in, and what came out."""
    relay = world.relay(aliases=f"{ALICE} carol@mailbox.example\n")
    with Dialogue((relay.address, relay.port), source=SENDER) as session:
        for count, (name, content) in enumerate(mail, start=1):
            stuffed = re.sub(rb"^\.", b"..", content, flags=re.MULTILINE)
            answer = session.deliver(ANN, ALICE, stuffed)
            assert answer.code == 250, f"{name}: {answer}"
            yield name, content, sink.wait(count)[-1].content


def put_on_top(name: str, content: bytes, arrived: bytes) -> bytes:
    """The octets above the content, which must be there as it was; all of them are fields of ours."""
    assert arrived.endswith(content), f"{name} was changed"
    ours = arrived[: len(arrived) - len(content)]
    fields = re.findall(rb"^([!-9;-~]+):", ours, re.MULTILINE)
    assert {field.decode().lower() for field in fields} <= OURS, f"{name}: {fields}"
    return ours


def test_made_mail_leaves_as_it_came(world: World, sink: RecordingSink) -> None:
    for name, content, arrived in passed_on(world, sink, corpus.made()):
        ours = put_on_top(name, content, arrived)
        assert ours.endswith(b"\r\n\r\n") is name.startswith("no-header"), name


def test_signed_mail_leaves_with_its_signature_valid(world: World, sink: RecordingSink) -> None:
    verified = 0
    for name, content, arrived in passed_on(world, sink, corpus.signed()):
        put_on_top(name, content, arrived)
        try:
            verdicts = dkimpy(arrived, {**corpus.RECORDS, **world.keys})
        except dkim.MessageFormatError:
            assert name.endswith("-ours"), f"{name}: dkimpy could read it before"
            continue
        assert [v.result for v in verdicts if v.domain == corpus.DOMAIN] == ["pass"], name
        assert [v.result for v in verdicts if v.domain == "fwd.example"] == ["pass"], name
        verified += 1
    assert verified > 50


@pytest.mark.parametrize("source", corpus.SOURCES)
def test_mail_that_packages_ship_leaves_as_it_came(world: World, sink: RecordingSink, source: str) -> None:
    count = 0
    for name, content, arrived in passed_on(world, sink, corpus.shipped(source)):
        put_on_top(name, content, arrived)
        count += 1
    assert count


def test_a_message_of_20_mb_leaves_as_it_came(world: World, sink: RecordingSink) -> None:
    body = b"".join(b"%08d %s\r\n" % (n, b"x" * 60) for n in range(280_000))
    large = ("large", b"From: ann@sender.example\r\nSubject: large\r\n\r\n" + body)
    for name, content, arrived in passed_on(world, sink, [large]):
        put_on_top(name, content, arrived)
        assert world.signers(arrived) == ["fwd.example"]
