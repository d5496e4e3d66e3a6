"""Delivery in the session: the client hears what the next hop says, and what that does not settle enters the queue."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import time
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, NEXT, SENDER, World
from tests.peers import wait_until

ALIASES = """
alice@fwd.example carol@mailbox.example
gone@fwd.example nobody@mailbox.example
later@fwd.example busy@mailbox.example
slow@fwd.example slow@mailbox.example
both@fwd.example carol@mailbox.example, dave@mailbox.example
"""
REFUSED = {
    "nobody@mailbox.example": "550 5.1.1 nobody@mailbox.example is unknown here",
    "busy@mailbox.example": "451 4.2.1 not now",
}


class Sink(RecordingSink):
    """It says nothing to a RCPT for slow@… until `hold` is over."""

    hold = 5.0

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("slow@"):
            self.asked.append(address)
            await asyncio.sleep(self.hold)
        return await super().handle_RCPT(server, session, envelope, address, options)


@pytest.fixture
def sink(world: World) -> Sink:
    return world.start(Sink(MAILBOX, world.port, refused=REFUSED))


def relay_in_session(world: World, **tables: Any) -> RelayProcess:
    """A relay whose next hop has just answered."""
    tables.setdefault("delivery", {"mode": "in-session"})
    relay = world.relay(aliases=ALIASES, workers=1, **tables)
    said = send(relay, "alice@fwd.example", subject="first")
    assert b"queued as" in said  # nobody has asked this next hop before
    wait_until(lambda: relay.has_events("delivered", 1), "the first delivery")
    return relay


def send(relay: RelayProcess, *recipients: str, subject: str = "x", source: str = SENDER, **options: Any) -> bytes:
    """Send one message; the reply to its final dot."""
    with client(relay, source) as session:
        session.mail("ann@sender.example", options.pop("mail", ()))
        for recipient in recipients:
            code, reply = session.rcpt(recipient, options.get("rcpt", ()))
            assert code == 250, reply
        code, reply = session.data(f"From: ann@sender.example\r\nSubject: {subject}\r\n\r\nHello\r\n")
        return b"%d %b" % (code, reply)


def client(relay: RelayProcess, source: str = SENDER) -> smtplib.SMTP:
    session = smtplib.SMTP(relay.address, relay.port, "mx.sender.example", 60, (source, 0))
    session.ehlo_or_helo_if_needed()
    return session


def test_what_the_next_hop_takes_is_never_stored(world: World, sink: Sink) -> None:
    relay = relay_in_session(world)
    assert b"250 2.0.0 Ok: delivered as" in send(relay, "alice@fwd.example", subject="second")
    assert b"Subject: second" in sink.wait(2)[1].content
    (second,) = relay.events("delivered")[1:]
    assert [line["id"] for line in relay.events("queued")] == [relay.events("delivered")[0]["id"]] != [second["id"]]
    assert second["to"] == ["carol@mailbox.example"] and second["code"] == 250
    assert not relay.queue()


def test_what_the_next_hop_refuses_for_good_is_refused_and_never_bounced(world: World, sink: Sink) -> None:
    relay = relay_in_session(world)
    said = send(relay, "gone@fwd.example")
    assert said.startswith(b"550 5.1.1 ") and b"nobody" not in said  # the mailbox is behind an alias
    (refused,) = relay.events("refused_by_next_hop")
    assert refused["text"] == "nobody@mailbox.example is unknown here"
    assert not relay.queue() and not relay.events("bounced") and len(relay.events("queued")) == 1


def test_what_is_put_off_enters_the_queue(world: World, sink: Sink) -> None:
    relay = relay_in_session(world)
    assert b"250 2.0.0 Ok: queued as" in send(relay, "later@fwd.example")
    wait_until(lambda: relay.has_events("deferred", 1), "the deferral to be recorded")
    (waiting,) = relay.queue()
    assert waiting["recipient"] == "busy@mailbox.example" and waiting["attempts"] == 1
    del sink.refused["busy@mailbox.example"]
    sink.wait(2)
    relay.wait_for_empty_queue()
    assert len(sink.received) == 2


@pytest.mark.slow
def test_a_slow_next_hop_gets_the_message_once(world: World, sink: Sink) -> None:
    """The reply to the final dot takes longer than the client is asked to wait."""
    relay = relay_in_session(world)
    sink.delay = 23.0
    began = time.monotonic()
    assert b"250 2.0.0 Ok: queued as" in send(relay, "alice@fwd.example", subject="slow")
    assert 19 < time.monotonic() - began < 22.9
    wait_until(lambda: relay.has_events("delivered", 2), "the delivery to be recorded")
    relay.wait_for_empty_queue()
    assert len(sink.received) == 2


def test_a_client_that_leaves_takes_its_message_along(world: World, sink: Sink) -> None:
    relay = relay_in_session(world)
    send(relay, "alice@fwd.example")
    with socket.create_connection((relay.address, relay.port), 10, (SENDER, 0)) as raw:
        raw.sendall(
            b"EHLO mx.sender.example\r\nMAIL FROM:<ann@sender.example>\r\nRCPT TO:<slow@fwd.example>\r\nDATA\r\n"
            b"Subject: gone\r\n\r\nHello\r\n.\r\n"
        )
        wait_until(lambda: "slow@mailbox.example" in sink.asked, "the next hop to be asked")
    wait_until(lambda: relay.has_events("client_gone", 1), "the relay to notice")
    assert not relay.queue() and len(sink.received) == 2
    assert b"Ok: delivered as" in send(relay, "alice@fwd.example")


def test_a_next_hop_that_dies_costs_nothing(world: World) -> None:
    sink = Sink(MAILBOX, world.port)
    sink.start()
    relay = relay_in_session(world)
    send(relay, "alice@fwd.example")
    sink.stop()
    assert b"250 2.0.0 Ok: queued as" in send(relay, "alice@fwd.example", subject="late")
    again = world.start(Sink(MAILBOX, world.port))
    assert b"Subject: late" in again.wait(1)[0].content
    relay.wait_for_empty_queue()


def test_what_leads_to_several_addresses_is_queued(world: World, sink: Sink) -> None:
    relay = relay_in_session(world)
    assert b"Ok: queued as" in send(relay, "both@fwd.example")
    assert b"Ok: queued as" in send(relay, "alice@fwd.example", "later@fwd.example")
    assert b"Ok: queued as" in send(relay, "alice@fwd.example", rcpt=("NOTIFY=SUCCESS",))


@pytest.mark.parametrize(
    ("tables", "source", "word"),
    [
        ({"delivery": {"mode": "auto"}}, SENDER, b"delivered as"),
        ({"delivery": {"mode": "auto"}, "clients": {"trusted": [NEXT]}}, NEXT, b"queued as"),
        (
            {
                "delivery": {"mode": "auto"},
                "routes": {"domains": {"mailbox.example": {"recipients": "any"}}},
            },
            SENDER,
            b"queued as",
        ),
        (
            {
                "delivery": {"mode": "queue"},
                "routes": {"domains": {"mailbox.example": {"recipients": "any", "mode": "in-session"}}},
            },
            SENDER,
            b"delivered as",
        ),
    ],
    ids=["auto", "auto-trusted", "auto-own-domain", "route"],
)
def test_modes(world: World, sink: Sink, tables: dict[str, Any], source: str, word: bytes) -> None:
    relay = relay_in_session(world, **tables)
    assert word in send(relay, "alice@fwd.example", source=source)
