"""Bounces of the next hop on their way home: as they came, or as ours, which do not show the mailbox."""

from __future__ import annotations

import email
import re
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from flufl.bounce import scan_message

from relay.srs import address as srs
from tests.bounce import samples
from tests.journeys.clients import Dialogue
from tests.journeys.postfix import Postfix
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SECRET, SENDER, World
from tests.peers import needs

pytestmark = pytest.mark.slow

ANN, ALIAS, CAROL = "ann@sender.example", "alice@fwd.example", "carol.private@mailbox.example"
ALIASES = f"{ALIAS} {CAROL}\n"
MESSAGE = f"From: {ANN}\r\nTo: {ALIAS}\r\nSubject: hello\r\nMessage-ID: <one@sender.example>\r\n\r\nHi.\r\n".encode()
HOST = "mx.mailbox.example"
SCHEME = srs.Scheme("fwd.example", (SECRET.encode(),))


def address(sender: str = ANN) -> str:
    return srs.forward(sender, SCHEME, time.time())


@needs("postfix", root=True)
@pytest.mark.parametrize("bounces", ["pass", "rebuild"])
def test_a_mailbox_that_bounces_later(world: World, bounces: str) -> None:
    relay = world.relay(aliases=ALIASES, srs={"bounces": bounces})
    home = world.start(RecordingSink(SENDER, world.port))
    mailbox = Postfix(
        world.base / "mailbox",
        "mx.mailbox.example",
        MAILBOX,
        world.port,
        full=[CAROL],
        relayhost=f"[{relay.address}]:{relay.port}",
    )
    world.start(mailbox)
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        assert client.deliver(ANN, ALIAS, MESSAGE).code == 250
    [told] = home.wait()
    relay.wait_for_empty_queue()
    assert (told.sender, told.recipients) == ("", (ANN,))
    assert world.signers(told.content)[0] == "fwd.example"
    if bounces == "pass":
        assert scan_message(email.message_from_bytes(told.content)) == {CAROL.encode()}
        return
    assert b"mailbox.example" not in told.content and b"carol" not in told.content
    assert scan_message(email.message_from_bytes(told.content)) == {ALIAS.encode()}
    assert b"\r\nStatus: 5.2.2\r\n" in told.content
    assert b"\r\nAuto-Submitted: auto-replied\r\n" in told.content
    assert b"\r\nIn-Reply-To: <one@sender.example>\r\n" in told.content
    [line] = relay.events("bounce_rebuilt")
    [first] = [one["id"] for one in relay.events("queued") if one["from"] == ANN]
    assert line["home"] == ANN and f"quote {first} at" in " ".join(told.content.decode().split())


@pytest.mark.parametrize("host", [*samples.READABLE, "qmail"])
@pytest.mark.parametrize("bounces", ["pass", "rebuild"])
def test_the_bounce_of_any_host(world: World, bounces: str, host: str) -> None:
    """What passes is what came, to the octet; so is what cannot be read."""
    relay = world.relay(srs={"bounces": bounces})
    home = world.start(RecordingSink(SENDER, world.port))
    theirs = {**samples.READABLE, "qmail": samples.qmail}[host]()
    with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
        assert client.deliver("", address(), theirs, HOST).code == 250
    [told] = home.wait()
    if bounces == "rebuild" and host != "qmail":
        assert b"hidden" not in told.content.lower()
        assert scan_message(email.message_from_bytes(told.content)) == {samples.ALIAS.encode()}
        assert world.signers(told.content) == ["fwd.example"]
    else:
        assert told.content.endswith(b"\r\n" + theirs)
        assert b"Received: from mx.mailbox.example " in told.content
    passed = [line["reason"] for line in relay.events("bounce_passed")]
    assert passed == (["text/plain, no multipart/report"] if (bounces, host) == ("rebuild", "qmail") else [])


def test_what_is_no_bounce_or_not_for_an_srs_address_is_left_alone(world: World) -> None:
    relay = world.relay(aliases=ALIASES, srs={"bounces": "rebuild"})
    home, mailbox = (world.start(RecordingSink(host, world.port)) for host in (SENDER, MAILBOX))
    with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
        assert client.deliver("", ALIAS, samples.postfix(), HOST).code == 250
        assert client.deliver(CAROL, address(), samples.postfix(), HOST).code == 250
    for sink in (home, mailbox):
        [told] = sink.wait()
        assert told.content.endswith(b"\r\n" + samples.postfix())
    assert not relay.events("bounce_rebuilt") and not relay.events("bounce_passed")


def test_a_bounce_that_is_too_large_passes(world: World) -> None:
    relay = world.relay(srs={"bounces": "rebuild"})
    home = world.start(RecordingSink(SENDER, world.port))
    large, larger = (
        samples.report(samples.letter("x\r\n" * n), samples.status(samples.failed()), samples.whole())
        for n in (100_000, 400_000)
    )
    with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
        assert client.deliver("", address(), large, HOST).code == 250
        assert client.deliver("", address(), larger, HOST).code == 250
    small, passed = sorted((told.content for told in home.wait(2)), key=len)
    assert len(small) < 10_000 and passed.endswith(larger)
    [line] = relay.events("bounce_passed")
    assert line["reason"] == "larger than 1048576 octets"


def test_a_bounce_is_for_one_recipient(world: World) -> None:
    relay = world.relay(aliases=ALIASES, srs={"bounces": "rebuild"})
    for first, second in ((address(), ALIAS), (ALIAS, address())):
        with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
            assert client.offer("", first, HOST).code == 250
            assert client(f"RCPT TO:<{second}>")[:2] == (452, "4.5.3")


def test_a_sender_whose_mail_leads_back_here_makes_no_endless_loop(world: World) -> None:
    """The host behind the SRS address sends all it gets to that very address."""
    relay = world.relay(srs={"bounces": "rebuild"})
    home = world.start(RecordingSink(SENDER, world.port))
    with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
        assert client.deliver("", address(), samples.postfix(), HOST).code == 250
    for count in (1, 2):
        content = home.wait(count)[-1].content
        with Dialogue((relay.address, relay.port), source=SENDER) as client:
            assert client.deliver("", address(), content).code == 250
    last = home.wait(3)[-1].content
    hops = re.findall(rb"^Received: from mx\.sender\.example .*\r\n\tby mx\.fwd\.example", last, re.MULTILINE)
    assert len(hops) == 2  # they count now, up to receive.max_hops
    assert [line["reason"] for line in relay.events("bounce_passed")] == [
        "it has been rebuilt for the same sender before"
    ] * 2


@pytest.mark.parametrize("hashed", ["compatible", "framed"])
def test_an_address_of_one_sender_and_the_mail_for_another(world: World, hashed: str) -> None:
    """The compatible hash is that of other forwarders, and has no borders between its fields."""
    relay = world.relay(srs={"hash": hashed})
    scheme = replace(SCHEME, framed=hashed == "framed")
    good = srs.forward("joe@sender.example", scheme, time.time())
    shifted = good.replace("sender.example=joe", "sender.exampl=ejoe")
    first = srs.forward("SRS0-ab=x=y=z@sender.example", scheme, time.time())
    with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
        assert client.offer("", good, HOST).code == 250
        assert client(f"RCPT TO:<{first}>").code == 250
        for forged in (shifted, first.replace("example=-ab=", "example-ab==")):
            answer = client(f"RCPT TO:<{forged}>")
            assert answer[:2] == ((550, "5.1.1") if hashed == "framed" else (250, "2.1.5")), forged
            assert hashed == "compatible" or "forged SRS address" in answer.text


def test_a_change_of_the_hash_loses_no_bounce(world: World) -> None:
    now = time.time()
    today = datetime.fromtimestamp(now, UTC).date()
    relay = world.relay(srs={"hash": "framed", "framed_since": today.isoformat(), "hash_length": 8})
    framed = replace(SCHEME, framed=True, hash_length=8)
    yesterday = now - 86400
    good = [
        srs.forward("joe@sender.example", SCHEME, yesterday),
        srs.forward("joe@sender.example", framed, now),
        srs.forward("SRS0=w=x=y=z@sender.example", SCHEME, yesterday),
        srs.forward("SRS0=w=x=y=z@sender.example", framed, now),
    ]
    with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
        assert client.offer("", good[0], HOST).code == 250
        assert [client(f"RCPT TO:<{one}>").code for one in good[1:]] == [250] * 3
        if datetime.now(UTC).date() == today:
            late = srs.forward("joe@sender.example", SCHEME, now)
            assert client(f"RCPT TO:<{late}>")[:2] == (550, "5.1.1")
