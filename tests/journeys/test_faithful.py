"""What comes in leaves octet for octet, below what the relay puts on top, and an author's signature stays valid.

Only the first line of a mailbox file, which some programs leave on top, is no part of the message.

The corpus goes in over one session, with every check on and a policy of the author that forwarding alone would break.
Each message goes two ways: to the outside, where From is rewritten if nothing but SPF speaks for the author, and to a
host that trusts us. Both are compared with what a sink got from the wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import dkim
import pytest

from tests import corpus
from tests.journeys.clients import Dialogue
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, World
from tests.judges import dkimpy

pytestmark = pytest.mark.slow

ANN, ALICE, CAROL = f"ann@{corpus.DOMAIN}", "alice@fwd.example", "carol@trusting.example"
SEAL = ["arc-seal", "arc-message-signature", "arc-authentication-results"]
OURS = {*SEAL, "dkim-signature", "authentication-results", "x-srs-relay", "received"}


MBOX_LINE = re.compile(rb"\A>?From [^:\r\n][^\r\n]*\r\n(?=[!-9;-~]+:)")


class Passage(NamedTuple):
    """One message: what went in, and what arrived outside and at the host that trusts us."""

    name: str
    content: bytes
    outside: bytes
    trusting: bytes


@pytest.fixture
def sink(world: World) -> RecordingSink:
    return world.start(RecordingSink(MAILBOX, world.port))


def passed_on(world: World, sink: RecordingSink, mail: Iterable[corpus.Mail]) -> Iterator[Passage]:
    """Send all of it through a relay, and see that everything below our fields on top is as it came."""
    world.zone[corpus.DOMAIN, "TXT"] = ['"v=spf1 ip4:127.0.0.1 -all"']
    world.zone[f"_dmarc.{corpus.DOMAIN}", "TXT"] = ['"v=DMARC1; p=reject"']
    for name, record in corpus.RECORDS.items():
        world.zone[name, "TXT"] = [" ".join(f'"{part}"' for part in re.findall(".{1,255}", record))]
    route = {"next_hop": f"smtp://{MAILBOX}:{world.port}", "recipients": "any", "srs": False}
    relay = world.relay(
        aliases=f"{ALICE} alice@mailbox.example\n",
        routes={"domains": {"trusting.example": route}},
        dmarc={"reject": "tag"},  # what has two authors fails, and passes all the same
    )
    with Dialogue((relay.address, relay.port)) as session:
        for count, (name, content) in enumerate(mail, start=1):
            assert session.offer(ANN, ALICE).code == session(f"RCPT TO:<{CAROL}>").code == 250
            assert session("DATA").code == 354
            session.send(re.sub(rb"^\.", b"..", content, flags=re.MULTILINE) + b".\r\n")
            answer = session.reply()
            assert answer.code == 250, f"{name}: {answer}"
            outside, trusting = sorted(sink.wait(2 * count)[-2:], key=lambda one: one.recipients)
            assert trusting.recipients == (CAROL,)
            yield Passage(name, MBOX_LINE.sub(b"", content), outside.content, trusting.content)


def put_on_top(name: str, content: bytes, arrived: bytes) -> bytes:
    """The octets above the content, which must be there as it was; all of them are fields of ours."""
    assert arrived.endswith(content), f"{name} was changed"
    ours = arrived[: len(arrived) - len(content)]
    fields = [field.decode().lower() for field in re.findall(rb"^([!-9;-~]+):", ours, re.MULTILINE)]
    assert set(fields) <= OURS, f"{name}: {fields}"
    assert fields[:3] == SEAL or "arc-seal" not in fields, f"{name}: {fields}"
    sealable = "dkim-signature" in fields and b"\nARC-Seal:" not in b"\n" + content
    assert ("arc-seal" in fields) is sealable, (
        f"{name}: all but a chain that came broken, and mail of nobody, is sealed"
    )
    return ours


FROM = re.compile(rb"^from[ \t]*:", re.MULTILINE | re.IGNORECASE)
IN_ITS_PLACE = re.compile(
    rb"^From: .*\r\n(?:[ \t].*\r\n)*(?:Reply-To: .*\r\n(?:[ \t].*\r\n)*)?X-Original-From:(?:\r\n (?=.{900}))?",
    re.MULTILINE,
)


def with_its_own_from(arrived: bytes, content: bytes) -> bytes:
    """What arrived, with a From that was rewritten put back as it came."""
    place, own = IN_ITS_PLACE.search(arrived), FROM.search(content)
    assert place is not None and own is not None
    return arrived[: place.start()] + own[0] + arrived[place.end() :]


def is_rewritten(passage: Passage) -> bool:
    return b"\nX-Original-From:" in passage.outside


def test_made_mail_leaves_as_it_came(world: World, sink: RecordingSink) -> None:
    rewritten = verified = 0
    for passage in passed_on(world, sink, corpus.made()):
        name, content, outside, trusting = passage
        ours = put_on_top(name, content, trusting)
        assert ours.endswith(b"\r\n\r\n") is name.startswith("no-header"), name
        if is_rewritten(passage):
            put_on_top(name, content, with_its_own_from(outside, content))
            rewritten += 1
            try:
                assert world.signers(outside) == ["fwd.example"], name
            except dkim.MessageFormatError:
                continue
            verified += 1
        else:
            put_on_top(name, content, outside)
    assert rewritten > 50 and verified > 40


def test_signed_mail_leaves_with_its_signature_valid(world: World, sink: RecordingSink) -> None:
    verified = 0
    for name, content, outside, trusting in passed_on(world, sink, corpus.signed()):
        for arrived in (outside, trusting):
            put_on_top(name, content, arrived)
            try:
                verdicts = dkimpy(arrived, {**corpus.RECORDS, **world.keys})
            except dkim.MessageFormatError:
                assert name.endswith("-ours"), f"{name}: dkimpy could read it before"
                continue
            assert [v.result for v in verdicts if v.domain == corpus.DOMAIN] == ["pass"], name
            assert [v.result for v in verdicts if v.domain == "fwd.example"] == ["pass"], name
            verified += 1
    assert verified > 100


@pytest.mark.parametrize("source", corpus.SOURCES)
def test_mail_that_packages_ship_leaves_as_it_came(world: World, sink: RecordingSink, source: str) -> None:
    count = 0
    for name, content, outside, trusting in passed_on(world, sink, corpus.shipped(source)):
        put_on_top(name, content, outside)
        put_on_top(name, content, trusting)
        count += 1
    assert count


def test_a_message_of_20_mb_leaves_as_it_came(world: World, sink: RecordingSink) -> None:
    body = b"".join(b"%08d %s\r\n" % (n, b"x" * 60) for n in range(280_000))
    large = ("large", f"From: {ANN}\r\nSubject: large\r\n\r\n".encode() + body)
    for passage in passed_on(world, sink, [large]):
        assert is_rewritten(passage)
        put_on_top("large", passage.content, passage.trusting)
        put_on_top("large", passage.content, with_its_own_from(passage.outside, passage.content))
        assert world.signers(passage.outside) == world.signers(passage.trusting) == ["fwd.example"]
