"""Delivery in the session: the client hears what the next hop says, and what that does not settle enters the queue."""

from __future__ import annotations

import asyncio
import os
import signal
import smtplib
import socket
import ssl
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.certificates import write_certificate
from tests.deliver.scripted import STALL, ScriptedServer
from tests.journeys.loop_thread import LoopThread
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, NEXT, SENDER, World
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
    wait_until(lambda: relay.has_events("delivered", 2), "the second delivery in the log")
    (second,) = relay.events("delivered")[1:]
    assert [line["id"] for line in relay.events("queued")] == [relay.events("delivered")[0]["id"]] != [second["id"]]
    assert second["to"] == ["carol@mailbox.example"] and second["code"] == 250
    assert not relay.queue()


def test_what_the_next_hop_refuses_for_good_is_refused_and_never_bounced(world: World, sink: Sink) -> None:
    relay = relay_in_session(world)
    said = send(relay, "gone@fwd.example")
    assert said.startswith(b"550 5.1.1 ") and b"nobody" not in said  # the mailbox is behind an alias
    wait_until(lambda: relay.has_events("refused_by_next_hop", 1), "the refusal in the log")
    (refused,) = relay.events("refused_by_next_hop")
    assert refused["text"] == "nobody@mailbox.example is unknown here"
    assert not relay.queue() and not relay.events("bounced") and len(relay.events("queued")) == 1


def test_what_is_put_off_enters_the_queue(world: World, sink: Sink) -> None:
    relay = relay_in_session(world)
    assert b"250 2.0.0 Ok: queued as" in send(relay, "later@fwd.example")
    wait_until(lambda: relay.has_events("deferred", 1), "the deferral to be recorded")
    (waiting,) = relay.queue()
    assert waiting["recipient"] == "busy@mailbox.example" and waiting["attempts"] >= 1
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


WHOLE = (
    b"EHLO mx.sender.example\r\nMAIL FROM:<ann@sender.example>\r\nRCPT TO:<slow@fwd.example>\r\nDATA\r\n"
    b"Subject: gone\r\n\r\nHello\r\n.\r\n"
)


def close(raw: socket.socket) -> None:
    raw.close()


def reset(raw: socket.socket) -> None:
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()


@pytest.mark.parametrize("leave", [close, reset, lambda raw: raw.shutdown(socket.SHUT_WR)], ids=["FIN", "RST", "half"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "tls"])
def test_a_client_that_leaves_takes_its_message_along(
    world: World, sink: Sink, leave: Callable[[socket.socket], None], encrypted: bool
) -> None:
    tables: dict[str, Any] = {}
    if encrypted:
        write_certificate(world.base, "fwd", "mx.fwd.example")
        tables = {
            "tls": {"certificate": str(world.base / "cert.pem"), "private_key": str(world.base / "key.pem")},
            "listen": [{"address": f"{FWD}:{world.port}", "tls": "starttls"}],
        }
    relay = relay_in_session(world, **tables)
    send(relay, "alice@fwd.example")
    with socket.create_connection((relay.address, relay.port), 10, (SENDER, 0)) as raw:
        if encrypted:
            raw.sendall(b"EHLO mx.sender.example\r\nSTARTTLS\r\n")
            wait_until(lambda: b"220 2.0.0" in raw.recv(4096, socket.MSG_PEEK), "STARTTLS")
            raw.recv(4096)
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            raw = context.wrap_socket(raw)
        raw.sendall(WHOLE)
        wait_until(lambda: "slow@mailbox.example" in sink.asked, "the next hop to be asked")
        leave(raw)
        wait_until(lambda: relay.has_events("client_gone", 1), "the relay to notice")
        raw.close()
    assert not relay.queue() and len(sink.received) == 2
    assert b"Ok: delivered as" in send(relay, "alice@fwd.example")


def test_a_client_that_closes_its_side_behind_quit_gets_its_reply(world: World, sink: Sink) -> None:
    sink.hold = 1.0
    relay = relay_in_session(world)
    with socket.create_connection((relay.address, relay.port), 30, (SENDER, 0)) as raw:
        raw.sendall(WHOLE + b"QUIT\r\n")
        raw.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: raw.recv(4096), b""))
    assert b"\r\n250 2.0.0 Ok: delivered as" in said and b"\r\n221 " in said


def test_pipelined_transactions_each_get_their_reply(world: World, sink: Sink) -> None:
    sink.hold = 1.0
    relay = relay_in_session(world)
    one = WHOLE.partition(b"\r\n")[2]
    with socket.create_connection((relay.address, relay.port), 30, (SENDER, 0)) as raw:
        raw.sendall(WHOLE + one.replace(b"slow@", b"gone@") + one.replace(b"slow@", b"later@") + one + b"QUIT\r\n")
        said = b"".join(iter(lambda: raw.recv(4096), b""))
    ends = [line for line in said.split(b"\r\n") if b"Ok: " in line or line.startswith(b"550")]
    words = [b"delivered as", b"550 5.1.1", b"queued as", b"delivered as"]
    assert len(ends) == 4 and all(word in line for word, line in zip(words, ends, strict=True))


def test_a_client_that_leaves_early_does_not_make_a_next_hop_look_out_of_reach(world: World) -> None:
    """It takes its time to greet; while one client leaves, another one waits for the only connection there may be."""
    sink = Sink(MAILBOX, world.port)
    sink.start()
    relay = relay_in_session(world, delivery={"mode": "in-session", "concurrency": 1})
    sink.stop()
    scripted = ScriptedServer(greeting=[STALL, "220 scripted.test ESMTP"])
    loop, stack = LoopThread(), AsyncExitStack()
    loop.start()
    try:
        loop.run(stack.enter_async_context(scripted(MAILBOX, world.port)))
        with socket.create_connection((relay.address, relay.port), 30, (SENDER, 0)) as leaving:
            leaving.sendall(WHOLE.replace(b"slow@", b"alice@"))
            wait_until(lambda: scripted.sessions, "the next hop to be asked")
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(send, relay, "alice@fwd.example", subject="stays")
                wait_until(lambda: relay.has_events("attempt", 3), "the second to be offered")
                leaving.close()
                assert b"delivered as" in waiting.result(40)
    finally:
        loop.run(stack.aclose())
        loop.stop()
    assert len(relay.events("client_gone")) == 1 and not relay.events("deferred")


def said_to_the_dot(relay: RelayProcess, octets: bytes) -> bytes:
    with socket.create_connection((relay.address, relay.port), 30, (SENDER, 0)) as raw:
        raw.sendall(octets)
        said = b""
        while b"354 " not in said or said.rpartition(b"354 ")[2].count(b"\r\n") < 2:
            more = raw.recv(4096)
            assert more, said
            said += more
        return said


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGHUP"])
def test_a_relay_that_stops_stores_what_is_not_settled(world: World, sink: Sink, signal_name: str) -> None:
    sink.hold = 5.0
    relay = relay_in_session(world)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(said_to_the_dot, relay, WHOLE)
        wait_until(lambda: "slow@mailbox.example" in sink.asked, "the next hop to be asked")
        os.kill(relay.pid, getattr(signal, signal_name))
        began = time.monotonic()
        assert b"250 2.0.0 Ok: queued as" in waiting.result(20)
        assert time.monotonic() - began < 4, "the client is not kept waiting"
    if signal_name == "SIGTERM":
        relay.terminate()
        relay.start()
    assert b"Subject: gone" in sink.wait(2)[1].content
    relay.wait_for_empty_queue()


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
        ({"delivery": {"destinations": [{"domains": [".example"], "mode": "in-session"}]}}, SENDER, b"delivered as"),
        (
            {
                "delivery": {"destinations": [{"domains": ["mailbox.example"], "mode": "queue"}], "mode": "in-session"},
                "routes": {"domains": {"mailbox.example": {"recipients": "any", "mode": "in-session"}}},
            },
            SENDER,
            b"queued as",
        ),
    ],
    ids=["auto", "auto-trusted", "auto-own-domain", "route", "destination", "destination-before-route"],
)
def test_modes(world: World, sink: Sink, tables: dict[str, Any], source: str, word: bytes) -> None:
    relay = relay_in_session(world, **tables)
    assert word in send(relay, "alice@fwd.example", source=source)
