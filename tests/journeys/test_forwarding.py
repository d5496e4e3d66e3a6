"""The relay as the MX of a forwarding domain: strangers hand mail in, aliases lead on, bounces come home."""

from __future__ import annotations

import time

import pytest

from relay.srs import address as srs
from tests.journeys.clients import swaks
from tests.journeys.maildir import parse, return_path
from tests.journeys.postfix import Postfix
from tests.journeys.relay_process import RelayProcess
from tests.journeys.unbound import Unbound
from tests.journeys.world import FWD, MAILBOX, SECRET, SENDER, World
from tests.peers import needs, wait_until

pytestmark = [needs("postfix", "swaks", root=True), pytest.mark.slow]

ANN = "ann@sender.example"
ALICE = "alice@fwd.example"
CAROL = "carol@mailbox.example"
FULL = "full@mailbox.example"
ALIASES = f"""\
{ALICE}             {CAROL}
overfull@fwd.example {FULL}
gone@fwd.example     nobody@mailbox.example
list@fwd.example     {CAROL}, nobody@mailbox.example, dave@mailbox.example
"""


def mailbox_host(world: World) -> Postfix:
    return Postfix(
        world.base / "mailbox",
        "mx.mailbox.example",
        MAILBOX,
        world.port,
        mailboxes=[CAROL, "dave@mailbox.example"],
        full=[FULL],
        relayhost=f"[{FWD}]:{world.port}",
    )


def sender_host(world: World) -> Postfix:
    return Postfix(world.base / "sender", "mx.sender.example", SENDER, world.port, mailboxes=[ANN])


def send(relay: RelayProcess, recipient: str, *options: str, sender: str = ANN, source: str = SENDER) -> str:
    """One message by swaks, which must be accepted; its dialogue."""
    server = (relay.address, relay.port)
    done = swaks(
        server, source=source, helo="mx.sender.example", sender=sender, recipients=[recipient], options=options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def scheme(domain: str = "fwd.example") -> srs.Scheme:
    return srs.Scheme(domain, (SECRET.encode(),))


def test_an_alias_leads_to_the_mailbox_under_an_srs_sender(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    mailbox = world.start(mailbox_host(world))
    send(relay, ALICE)
    [arrived] = mailbox.wait_for_mail(CAROL)
    assert srs.reverse(return_path(arrived), scheme(), time.time()) == ANN
    message = parse(arrived)
    assert message["Delivered-To"] == CAROL and message["To"] == ALICE
    assert "spf=pass" in message["Authentication-Results"] and "mx.fwd.example" in message["Authentication-Results"]
    ours = next(field for field in message.get_all("Received", []) if "by mx.fwd.example" in field)
    assert f"[{SENDER}]" in ours and f"for <{ALICE}>" in ours
    assert world.signers(arrived) == ["fwd.example"]


def test_a_bounce_of_the_mailbox_host_finds_the_true_sender(world: World) -> None:
    """The mailbox host takes the message and bounces it later, to the SRS address."""
    relay = world.relay(aliases=ALIASES)
    mailbox, home = mailbox_host(world), sender_host(world)
    world.start_all(mailbox, home)
    send(relay, "overfull@fwd.example", "--header", "Subject: for a full mailbox")
    [bounce] = home.wait_for_mail(ANN)
    assert return_path(bounce) == ""
    report = parse(bounce)
    assert "MAILER-DAEMON@mx.mailbox.example" in report["From"]
    assert report["To"].startswith("SRS0=") and b"Subject: for a full mailbox" in bounce
    relay.wait_for_empty_queue()
    assert mailbox.queued() == 0 and len(home.inbox(ANN)) == 1


def test_our_own_bounce_names_the_alias_and_not_the_mailbox(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    mailbox, home = mailbox_host(world), sender_host(world)
    world.start_all(mailbox, home)
    send(relay, "gone@fwd.example")
    [bounce] = home.wait_for_mail(ANN)
    assert b"gone@fwd.example" in bounce and b"mailbox.example" not in bounce
    assert world.signers(bounce) == ["fwd.example"]


def test_one_target_of_three_refused_is_one_bounce_and_two_delivered(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    mailbox, home = mailbox_host(world), sender_host(world)
    world.start_all(mailbox, home)
    send(relay, "list@fwd.example")
    mailbox.wait_for_mail(CAROL)
    mailbox.wait_for_mail("dave@mailbox.example")
    home.wait_for_mail(ANN)
    relay.wait_for_empty_queue()
    boxes = [mailbox.inbox(CAROL), mailbox.inbox("dave@mailbox.example"), home.inbox(ANN)]
    assert [len(box) for box in boxes] == [1, 1, 1]
    assert b"list@fwd.example" in boxes[2][0] and b"mailbox.example" not in boxes[2][0]


def test_a_bounce_that_cannot_be_delivered_is_kept_and_never_bounced(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    mailbox, home = mailbox_host(world), sender_host(world)
    world.start_all(mailbox, home)
    send(relay, "gone@fwd.example", sender="nobody@sender.example")
    [dead] = wait_until(lambda: [row for row in relay.queue() if row["state"] == "dead"], "the bounce to be dead")
    assert dead["recipient"] == "nobody@sender.example"
    assert home.inbox(ANN) == [] and mailbox.inbox(CAROL) == []


@needs("unbound")
def test_names_come_from_a_name_server_of_the_field(world: World) -> None:
    unbound = world.start(Unbound(world.base / "unbound", world.zone))
    relay = world.relay(aliases=ALIASES, dns={"nameservers": [unbound.endpoint]})
    mailbox = world.start(mailbox_host(world))
    send(relay, ALICE)
    [arrived] = mailbox.wait_for_mail(CAROL)
    assert "spf=pass" in parse(arrived)["Authentication-Results"]
