"""The relay in front of mailboxes: Dovecot's LMTP as the next hop of a domain, its users known by callout."""

from __future__ import annotations

import pytest

from relay.srs import address as srs
from tests.journeys.clients import Dialogue
from tests.journeys.dovecot import Dovecot
from tests.journeys.maildir import parse, return_path
from tests.journeys.world import MAILBOX, World
from tests.peers import free_port, needs, wait_until

pytestmark = [needs("dovecot", root=True), pytest.mark.slow]

ANN, CAROL, DAVE = "ann@sender.example", "carol@mailbox.example", "dave@mailbox.example"
MESSAGE = b"From: ann@sender.example\r\nSubject: hello\r\n\r\n..a dot\r\ngr\xc3\xbc\xc3\x9fe\r\n"


def routes(port: int, **more: object) -> dict[str, object]:
    route = {"next_hop": f"lmtp://{MAILBOX}:{port}", "recipients": "callout", **more}
    return {"domains": {"mailbox.example": route}, "postmaster": DAVE}


@pytest.mark.parametrize("rewritten", [True, False], ids=["SRS when needed", "srs = false"])
def test_mail_reaches_a_dovecot_mailbox_over_lmtp(world: World, rewritten: bool) -> None:
    dovecot = world.start(Dovecot(world.base / "dovecot", MAILBOX, free_port(), [CAROL, DAVE]))
    relay = world.relay(routes=routes(dovecot.port, **({} if rewritten else {"srs": False})))
    with Dialogue((relay.address, relay.port)) as client:
        assert client.deliver(ANN, CAROL, MESSAGE).code == 250
    [arrived] = dovecot.wait_for_mail(CAROL)
    assert srs.is_srs(return_path(arrived)) is rewritten
    assert rewritten or return_path(arrived) == ANN
    assert parse(arrived)["Delivered-To"] == CAROL and arrived.endswith(b"\n\n.a dot\ngr\xc3\xbc\xc3\x9fe\n")
    assert world.signers(arrived) == ["fwd.example"]
    relay.wait_for_empty_queue()


def test_dovecot_decides_which_users_there_are(world: World) -> None:
    dovecot = world.start(Dovecot(world.base / "dovecot", MAILBOX, free_port(), [CAROL, DAVE]))
    relay = world.relay(routes=routes(dovecot.port))
    with Dialogue((relay.address, relay.port)) as client:
        assert client.offer(ANN, CAROL).code == 250
        assert client(f"RCPT TO:<{DAVE}>").code == 250
        assert client("RCPT TO:<nobody@mailbox.example>")[:2] == (550, "5.1.1")
        assert client("DATA").code == 354
        client.send(MESSAGE + b".\r\n")
        assert client.reply().code == 250
    assert len(dovecot.wait_for_mail(CAROL)) == len(dovecot.wait_for_mail(DAVE)) == 1


def test_while_dovecot_is_down_users_are_deferred_and_accepted_mail_waits(world: World) -> None:
    dovecot = Dovecot(world.base / "dovecot", MAILBOX, free_port(), [CAROL])
    relay = world.relay(aliases=f"alice@fwd.example {CAROL}\n", routes=routes(dovecot.port))
    with Dialogue((relay.address, relay.port)) as client:
        assert client.offer(ANN, CAROL)[:2] == (451, "4.4.1")
        assert client("RCPT TO:<alice@fwd.example>").code == 250
        assert client("DATA").code == 354
        client.send(MESSAGE + b".\r\n")
        assert client.reply().code == 250
    world.start(dovecot)
    assert len(dovecot.wait_for_mail(CAROL)) == 1


def test_mail_reaches_a_dovecot_mailbox_through_its_socket(world: World) -> None:
    dovecot = world.start(Dovecot(world.base / "dovecot", MAILBOX, free_port(), [CAROL]))
    through = {"next_hop": f"lmtp://{dovecot.socket}", "recipients": "callout", "srs": False}
    relay = world.relay(routes={"domains": {"mailbox.example": through}}, delivery={"tls": "verify"})
    with Dialogue((relay.address, relay.port)) as client:
        assert client.offer(ANN, "nobody@mailbox.example")[:2] == (550, "5.1.1")
        assert client(f"RCPT TO:<{CAROL}>").code == 250
        assert client("DATA").code == 354
        client.send(MESSAGE + b".\r\n")
        assert client.reply().code == 250
    [arrived] = dovecot.wait_for_mail(CAROL)
    assert return_path(arrived) == ANN and parse(arrived)["Delivered-To"] == CAROL
    relay.wait_for_empty_queue()
    [delivered] = relay.events("delivered")
    assert (delivered["host"], delivered["address"]) == ("localhost", str(dovecot.socket)) and "tls" not in delivered
    assert relay.events("attempt")[0]["hop"] == f"lmtp://{dovecot.socket}"


def test_a_destination_may_be_a_socket_and_mail_waits_while_it_cannot_be_used(world: World) -> None:
    dovecot = Dovecot(world.base / "dovecot", MAILBOX, free_port(), [CAROL])
    destination = {"domains": ["mailbox.example"], "next_hop": f"lmtp://{dovecot.socket}"}
    relay = world.relay(aliases=f"alice@fwd.example {CAROL}\n", delivery={"destinations": [destination]})
    with Dialogue((relay.address, relay.port)) as client:
        assert client.deliver(ANN, "alice@fwd.example", MESSAGE).code == 250
    wait_until(lambda: relay.events("deferred"), "a deferral")
    assert relay.events("deferred")[0]["text"] == "there is no such socket"
    assert relay.events("deferred")[0]["address"] == str(dovecot.socket)
    world.start(dovecot)
    assert len(dovecot.wait_for_mail(CAROL)) == 1
