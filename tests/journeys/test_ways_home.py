"""Rates on the way home: what counts, for whom, and what somebody who guesses addresses hears."""

from __future__ import annotations

import time

import pytest

from relay.srs import address as srs
from relay.srs.reply_address import forward
from tests.journeys.clients import Answer, Dialogue
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, SECRET, SENDER, World
from tests.peers import free_port, wait_until

pytestmark = pytest.mark.slow

ANN, CAROL, DAVE = "ann@sender.example", "carol@mailbox.example", "dave@sender.example"
SCHEME = srs.Scheme("fwd.example", (SECRET.encode(),))
LONG = srs.Scheme("fwd.example", (SECRET.encode(),), hash_length=8)
REPLY = str(forward(ANN, SCHEME))
BOUNCE = b"From: MAILER-DAEMON@mailbox.example\r\nSubject: it failed\r\n\r\nno such user\r\n"
TAKEN, LATER, FORGED = (250, "2.0.0"), (450, "4.7.1"), (550, "5.1.1")


def at_home(sender: str, scheme: srs.Scheme = SCHEME) -> str:
    return srs.forward(sender, scheme, time.time())


def forged(number: int, scheme: srs.Scheme = SCHEME) -> str:
    """The address of somebody else, under the hash of Ann's."""
    return at_home(ANN, scheme).replace("=ann@", f"=e{number}@")


def sent(relay: RelayProcess, sender: str, *recipients: str, source: str = MAILBOX) -> Answer:
    """One message: the first refusal, or the answer to the final dot."""
    with Dialogue((relay.address, relay.port), source=source) as session:
        session("EHLO mx.mailbox.example" if source == MAILBOX else "EHLO mx.sender.example")
        session(f"MAIL FROM:<{sender}>")
        for recipient in recipients:
            if (answer := session(f"RCPT TO:<{recipient}>")).code != 250:
                return answer
        session("DATA")
        session.send(BOUNCE + b".\r\n")
        return session.reply()


def guess(relay: RelayProcess, source: str = MAILBOX) -> None:
    """Two dozen forged addresses, from one client."""
    for start in (0, 11):
        with Dialogue((relay.address, relay.port), source=source) as session:
            session("EHLO mx.mailbox.example")
            session("MAIL FROM:<>")
            heard = [session(f"RCPT TO:<{forged(start + number)}>")[:2] for number in range(11)]
            assert heard[:9] == [FORGED] * 9


@pytest.mark.parametrize("address", [REPLY, at_home(ANN)], ids=["reply address", "SRS address"])
@pytest.mark.parametrize("sender", [CAROL, ""], ids=["a sender", "null sender"])
def test_what_never_becomes_a_message_uses_up_nothing(world: World, address: str, sender: str) -> None:
    relay = world.relay(srs={"reverse_rate": 2, "bounce_rate": 2})
    world.start(RecordingSink(SENDER, world.port))
    with Dialogue((relay.address, relay.port), source=MAILBOX) as session:
        session("EHLO mx.mailbox.example")
        for _ in range(2):
            session(f"MAIL FROM:<{sender}>")
            assert {session(f"RCPT TO:<{address}>").code for _ in range(50)} == {250}
            session("RSET")
    assert [sent(relay, sender, address)[:2] for _ in range(3)] == [TAKEN, TAKEN, LATER]
    other = DAVE if sender else ""
    assert sent(relay, other, address, source=SENDER)[:2] == TAKEN, "another client has a rate of its own"


def test_a_message_counts_once_for_each_person_it_is_for(world: World) -> None:
    relay = world.relay(srs={"reverse_rate": 2})
    world.start(RecordingSink(SENDER, world.port))
    for _ in range(2):
        assert sent(relay, CAROL, REPLY, at_home(ANN), REPLY.upper(), at_home("bob@sender.example"))[:2] == TAKEN
    assert sent(relay, CAROL, REPLY)[:2] == sent(relay, CAROL, at_home("bob@sender.example"))[:2] == LATER
    assert sent(relay, CAROL, at_home("eve@sender.example"))[:2] == TAKEN


def test_forged_addresses_never_keep_the_bounces_of_the_same_host_away(world: World) -> None:
    """Nor can the host hear which is which: a forged one is taken, kept as dead, and goes nowhere, also by a retry."""
    relay = world.relay(http={"address": f"{FWD}:{free_port()}"})
    home = world.start(RecordingSink(SENDER, world.port))
    guess(relay)
    good, bad = sent(relay, "", at_home(ANN)), sent(relay, "", forged(99))
    assert good[:2] == bad[:2] == TAKEN
    assert good.text.rpartition(" ")[0] == bad.text.rpartition(" ")[0] == "Ok: queued as"
    assert home.wait(1)[0].recipients == (ANN,)
    name = bad.text.rpartition(" ")[2]
    assert [line["id"] for line in relay.events("forged_kept")] == [name]

    def dead() -> bool:
        return [(row["id"], row["state"]) for row in relay.queue()] == [(name, "dead")]

    wait_until(dead, "only the dead letter in the queue")
    (row,) = relay.queue()
    assert row["recipient"] == row["original_recipient"] == forged(99)
    assert 'srs_relay_bounces_total{fate="dead"} 1.0' in relay.http("/metrics")[1]
    assert relay.command("queue", "retry", name).returncode == 0
    wait_until(lambda: dead() and relay.queue()[0]["attempts"] > 0, "the end of the retry")
    assert len(home.received) == 1 and not [line for line in relay.log if line.get("to") == ["e99@sender.example"]]


def test_a_forged_address_that_is_given_twice_keeps_no_other_recipient_waiting(world: World) -> None:
    """A refusal would also tell it from a good one, which may be given twice."""
    relay = world.relay()
    home = world.start(RecordingSink(SENDER, world.port))
    guess(relay)
    for twice in (forged(99), at_home(ANN)):
        assert sent(relay, "", twice, twice, twice.lower(), at_home("bob@sender.example"))[:2] == TAKEN
    recipients = sorted(name for one in home.wait(2) for name in one.recipients)
    assert recipients == [ANN, "bob@sender.example", "bob@sender.example"]
    assert [row["recipient"] for row in relay.queue() if row["state"] == "dead"] == [forged(99)]


def test_past_the_rate_all_other_mail_to_addresses_that_can_be_guessed_waits(world: World) -> None:
    relay = world.relay()
    home = world.start(RecordingSink(SENDER, world.port))
    guess(relay)
    assert sent(relay, CAROL, at_home(ANN))[:2] == sent(relay, CAROL, forged(99))[:2] == LATER
    assert sent(relay, CAROL, forged(99, LONG))[:2] == sent(relay, "", forged(99, LONG))[:2] == LATER
    assert sent(relay, CAROL, REPLY.replace("ann", "eve"))[:2] == LATER
    assert [sent(relay, CAROL, REPLY)[:2], sent(relay, CAROL, at_home(ANN, LONG))[:2]] == [TAKEN, TAKEN]
    assert [one.recipients for one in home.wait(2)] == [(ANN,), (ANN,)]
    assert sent(relay, "", forged(98), at_home(ANN), forged(99))[:2] == TAKEN
    assert home.wait(3)[-1].recipients == (ANN,), "also beside others"
    assert sent(relay, DAVE, at_home(ANN), source=SENDER)[:2] == TAKEN
