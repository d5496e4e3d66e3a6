"""Two forwarders in a row: SRS0 becomes SRS1, and the bounce finds its way back through both."""

from __future__ import annotations

import time

import pytest

from relay.srs import address as srs
from tests.journeys.clients import swaks
from tests.journeys.maildir import parse, return_path
from tests.journeys.postfix import Postfix
from tests.journeys.world import MAILBOX, NEXT, SECRET, SENDER, World
from tests.peers import needs

pytestmark = [needs("postfix", "swaks", root=True), pytest.mark.slow]

ANN, CAROL, FULL = "ann@sender.example", "carol@mailbox.example", "full@mailbox.example"


@pytest.mark.parametrize(
    ("alias", "target"), [("alice", CAROL), ("overfull", FULL)], ids=["delivered", "bounced by the mailbox host"]
)
def test_a_chain_of_two_relays_and_back(world: World, alias: str, target: str) -> None:
    first = world.relay("fwd.example", aliases=f"{alias}@fwd.example {alias}@next.example\n")
    second = world.relay("next.example", aliases=f"{alias}@next.example {target}\n")
    mailbox = Postfix(
        world.base / "mailbox",
        "mx.mailbox.example",
        MAILBOX,
        world.port,
        mailboxes=[CAROL],
        full=[FULL],
        relayhost=f"[{NEXT}]:{world.port}",
    )
    home = Postfix(world.base / "home", "mx.sender.example", SENDER, world.port, mailboxes=[ANN])
    world.start_all(mailbox, home)

    sent = swaks(
        (first.address, first.port),
        source=SENDER,
        helo="mx.sender.example",
        sender=ANN,
        recipients=[f"{alias}@fwd.example"],
    )
    assert sent.returncode == 0, sent.stdout

    if target == CAROL:
        [arrived] = mailbox.wait_for_mail(CAROL)
        sender = return_path(arrived)
        assert sender.startswith("SRS1=") and sender.endswith("@next.example")
        back = srs.reverse(sender, srs.Scheme("next.example", (SECRET.encode(),)), time.time())
        assert isinstance(back, str) and back.startswith("SRS0=") and back.endswith("@fwd.example")
        assert srs.reverse(back, srs.Scheme("fwd.example", (SECRET.encode(),)), time.time()) == ANN
        assert world.signers(arrived) == ["next.example", "fwd.example"]
    else:
        [bounce] = home.wait_for_mail(ANN)
        assert return_path(bounce) == "" and "MAILER-DAEMON@mx.mailbox.example" in parse(bounce)["From"]
    first.wait_for_empty_queue()
    second.wait_for_empty_queue()
