"""`[filter]` through the SMTP door, with Debian's rspamd and clamd: what clients hear, and what leaves."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from tests.journeys.authors import publish, signed
from tests.journeys.filters import EICAR, GTUBE, SpamFilter, VirusFilter
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World
from tests.peers import needs, wait_until

ALIASES = """
alice@fwd.example carol@mailbox.example
both@fwd.example carol@mailbox.example, dave@strict.example
strict@fwd.example dave@strict.example
"""
HEADER = b"From: ann@sender.example\r\nTo: alice@fwd.example\r\nDate: Mon, 30 Nov 2026 12:00:00 +0000\r\nSubject: x\r\n"
FORGED = b"X-Spam: No\r\nX-SPAM-Score:\r\n\t-99\r\n"

MODES = pytest.mark.parametrize("mode", ["queue", "in-session"])


@pytest.fixture
def sink(world: World) -> RecordingSink:
    world.zone["strict.example", "MX"] = ["10 mx.mailbox.example."]
    return world.start(RecordingSink(MAILBOX, world.port))


def filtering(world: World, mode: str = "queue", **tables: Any) -> RelayProcess:
    """A relay with a filter, whose next hops have answered before."""
    delivery = {"mode": mode, **tables.pop("delivery", {})}
    relay = world.relay(aliases=ALIASES, workers=1, delivery=delivery, **tables)
    for number, recipient in enumerate(("alice@fwd.example", "strict@fwd.example"), 1):
        assert send(relay, recipient).startswith("250 ")
        wait_until(partial(relay.has_events, "delivered", number), "a delivery before the test")
    return relay


def message(*fields: bytes, body: bytes = b"Hi.\r\n") -> bytes:
    return b"".join(field + b"\r\n" for field in fields) + HEADER + b"\r\n" + body


def send(relay: RelayProcess, recipient: str, content: bytes = message(), source: str = SENDER) -> str:
    """The reply to the final dot."""
    with smtplib.SMTP(relay.address, relay.port, "mx.sender.example", 60, (source, 0)) as client:
        client.ehlo_or_helo_if_needed()
        client.mail("ann@sender.example")
        code, text = client.rcpt(recipient)
        assert code == 250, text
        code, text = client.data(content)
        return f"{code} {text.decode()}"


REPLIES: Mapping[bytes, tuple[str, bytes]] = {
    b"X-Test-Score: 1.5": ("250 ", b"X-Spam-Score: 1.50\r\n"),
    b"X-Test-Score: -3": ("250 ", b"X-Spam-Score: -3.00\r\n"),
    b"X-Test-Score: 4.5": ("451 4.7.1 greylisted", b""),
    b"X-Test-Score: 7.25": ("250 ", b"X-Spam: Yes\r\nX-Spam-Score: 7.25\r\n"),
    b"X-Test-Score: 15": ("550 5.7.1 the message was found to be spam", b""),
    b"X-Test-Action: reject;not here": ("550 5.7.1 not here", b""),
    b"X-Test-Action: soft reject;come back": ("451 4.7.1 come back", b""),
    b"X-Test-Action: rewrite subject;x": ("250 ", b"X-Spam: Yes\r\nX-Spam-Score: 0.00\r\n"),
}


@needs("rspamd")
@MODES
def test_what_rspamd_says_is_done(world: World, sink: RecordingSink, mode: str) -> None:
    rspamd = world.start(SpamFilter(world.base / "rspamd"))
    relay = filtering(world, mode, filter={"rspamd": rspamd.url, "on_failure": "defer"})
    taken = 2
    for field, (reply, on_top) in REPLIES.items():
        content = message(FORGED.rstrip(), field)
        assert send(relay, "alice@fwd.example", content).startswith(reply), field
        if on_top:
            taken += 1
            left = sink.wait(taken)[-1].content
            ours, _, theirs = left.partition(b"Received: ")
            assert on_top in ours and b"x-spam" not in theirs.lower()
            assert left.endswith(content.removeprefix(FORGED)) and b"\r\nSubject: x\r\n" in left
    assert send(relay, "alice@fwd.example", message(body=GTUBE)) == "550 5.7.1 Gtube pattern"
    for score, reply in ((b"20", "550 5.7.1 "), (b"4.5", "451 4.7.1 ")):
        copied = message(b"X-Test-Score: " + score, b"X-Test-Copy: \xff\xe4\x80")
        assert send(relay, "alice@fwd.example", copied).startswith(reply)
    assert send(relay, "alice@fwd.example", message()).startswith("250 ")  # honest mail beside them
    assert len(sink.wait(taken + 1)) == taken + 1
    assert not relay.events("filter_failed")
    said = [line["action"] for line in relay.events("filtered")]
    assert {"no action", "greylist", "soft reject", "add header", "rewrite subject", "reject"} == set(said)
    address, host, helo, sender, recipients, user, queue_id, name, _, octets = rspamd.told[-1]
    assert [address, helo, sender, recipients, name] == [
        *(SENDER, "mx.sender.example", "ann@sender.example", "alice@fwd.example", "mx.fwd.example")
    ]
    assert [host, user, int(octets)] == ["", "", len(message())]
    assert queue_id == relay.events("filtered")[-1]["id"]


@needs("rspamd")
def test_quarantined_mail_is_held_and_leaves_when_it_is_released(world: World, sink: RecordingSink) -> None:
    rspamd = world.start(SpamFilter(world.base / "rspamd", path=True))
    relay = filtering(world, "in-session", filter={"rspamd": rspamd.url, "on_failure": "defer"})
    assert send(relay, "alice@fwd.example", message(b"X-Test-Action: quarantine;look at it")).startswith("250 ")
    (held,) = relay.queue()
    assert held["state"] == "held" and relay.events("held")[-1]["reason"] == "filter.rspamd"
    assert relay.command("queue", "release", held["id"]).returncode == 0
    assert b"X-Spam: Yes\r\n" in sink.wait(3)[-1].content


@needs("rspamd")
@MODES
def test_quarantined_mail_goes_without_notice_unless_somebody_keeps_it(
    world: World, sink: RecordingSink, mode: str
) -> None:
    rspamd = world.start(SpamFilter(world.base / "rspamd"))
    relay = filtering(world, mode, filter={"rspamd": rspamd.url, "on_failure": "defer", "hold_for": "3s"})
    spam = message(b"X-Test-Action: quarantine;look at it")
    assert send(relay, "alice@fwd.example", spam).startswith("250 ")
    assert send(relay, "alice@fwd.example", spam).startswith("250 ")
    goes, stays = relay.queue()
    assert goes["hold_reason"] == "filter.rspamd" and goes["held_until"] == pytest.approx(goes["received"] + 3)
    assert "held by filter.rspamd; deleted 20" in relay.command("queue", "show", goes["id"]).stdout
    assert relay.command("queue", "hold", stays["id"]).returncode == 0
    wait_until(lambda: [row["id"] for row in relay.queue()] == [stays["id"]], "the message to go", 30)
    (gone,) = relay.events("hold_expired")
    assert (gone["id"], gone["to"], gone["reason"]) == (goes["id"], [goes["recipient"]], "filter.rspamd")
    assert not relay.events("bounced") and len(sink.received) == 2


@needs("rspamd")
def test_what_rspamd_discards_is_said_in_the_log_alone(world: World, sink: RecordingSink) -> None:
    rspamd = world.start(SpamFilter(world.base / "rspamd"))
    relay = filtering(world, filter={"rspamd": rspamd.url, "on_failure": "defer"})
    assert send(relay, "alice@fwd.example", message(b"X-Test-Action: discard;")).startswith("250 ")
    assert relay.events("discarded")[-1]["reason"] == "filter.rspamd"
    assert send(relay, "alice@fwd.example").startswith("250 ")
    assert len(sink.wait(3)) == 3 and not relay.queue()


@needs("rspamd")
@MODES
def test_a_destination_can_be_stricter(world: World, sink: RecordingSink, mode: str) -> None:
    rspamd = world.start(SpamFilter(world.base / "rspamd"))
    relay = filtering(
        world,
        mode,
        filter={"rspamd": rspamd.url, "on_failure": "defer"},
        delivery={"destinations": [{"domains": ["strict.example"], "max_score": 2.5}]},
    )
    for recipient, score, reply in (
        ("strict@fwd.example", b"2.5", "250 "),
        ("strict@fwd.example", b"2.51", "550 5.7.1 "),
        ("both@fwd.example", b"2.51", "550 5.7.1 "),
        ("alice@fwd.example", b"2.51", "250 "),
        ("alice@fwd.example", b"7", "250 "),
    ):
        answer = send(relay, recipient, message(b"X-Test-Score: " + score))
        assert answer.startswith(reply), (recipient, score)
        assert "dave" not in answer and "strict.example" not in answer
    with smtplib.SMTP(relay.address, relay.port, "mx.sender.example", 60, (SENDER, 0)) as client:
        client.ehlo_or_helo_if_needed()
        client.mail("ann@sender.example")
        codes = [client.rcpt(name)[0] for name in ("alice@fwd.example", "strict@fwd.example")]
        assert codes == [250, 452] and client.data(message(b"X-Test-Score: 3"))[0] == 250


@needs("rspamd")
def test_signatures_of_others_hold_and_a_trusted_clients_mail_is_read_too(world: World, sink: RecordingSink) -> None:
    publish(world.zone, "sender.example", SENDER)
    rspamd = world.start(SpamFilter(world.base / "rspamd"))
    relay = filtering(world, filter={"rspamd": rspamd.url, "on_failure": "defer"}, clients={"trusted": ["127.0.0.21"]})
    content = signed(message(b"X-Test-Score: 7").replace(b"Subject", b"X-Spam: x\r\nSubject"), "sender.example")
    assert send(relay, "alice@fwd.example", content).startswith("250 ")
    left = sink.wait(3)[-1].content
    assert "sender.example" in world.signers(left) and left.lower().count(b"\r\nx-spam: ") == 1
    (removed,) = relay.events("spam_fields_removed")
    assert removed["fields"] == 1 and removed["signed"] is False
    assert send(relay, "alice@fwd.example", message(body=GTUBE), "127.0.0.21") == "550 5.7.1 Gtube pattern"


@needs("rspamd")
@pytest.mark.parametrize(("on_failure", "reply"), [("accept", "250 "), ("defer", "451 4.3.0 ")])
def test_an_rspamd_that_goes_away_and_comes_back(
    world: World, sink: RecordingSink, on_failure: str, reply: str
) -> None:
    rspamd = world.start(SpamFilter(world.base / "rspamd"))
    relay = filtering(world, filter={"rspamd": rspamd.url, "on_failure": on_failure})
    rspamd.stop()
    began = time.monotonic()
    assert send(relay, "alice@fwd.example", message(FORGED.rstrip(), body=GTUBE)).startswith(reply)
    assert time.monotonic() - began < 5
    (failed,) = relay.events("filter_failed")
    assert failed["level"] == "warning" and failed["effect"] == on_failure and failed["problem"] == "Connection refused"
    if on_failure == "accept":
        assert b"x-spam" not in sink.wait(3)[-1].content.lower()
    rspamd.start()
    assert send(relay, "alice@fwd.example", message(body=GTUBE)) == "550 5.7.1 Gtube pattern"


@needs("clamd")
@MODES
@pytest.mark.parametrize("tcp", [False, True])
def test_a_virus_is_refused(world: World, sink: RecordingSink, mode: str, tcp: bool) -> None:
    clamd = world.start(VirusFilter(world.base / "clamd", tcp=tcp, largest="1M"))
    relay = filtering(world, mode, filter={"clamav": clamd.address, "on_failure": "defer"})
    mime = b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: 7bit"
    found = "550 5.7.1 the message has a virus: Eicar-Test-Signature.UNOFFICIAL"
    assert send(relay, "alice@fwd.example", message(mime, body=EICAR)) == found
    assert send(relay, "alice@fwd.example", message(mime, body=b"0123456789abcde\r\n" * 50_000 + EICAR)) == found
    # Too large for this clamd: not read, and no clamd ever will.
    assert send(relay, "alice@fwd.example", message(mime, body=b"0123456789abcde\r\n" * 200_000)).startswith("250 ")
    assert [line["effect"] for line in relay.events("filter_failed")] == ["accept"]
    assert "StreamMaxLength" in relay.events("filter_failed")[0]["problem"]
    clamd.stop()
    assert send(relay, "alice@fwd.example").startswith("451 4.3.0 ")


@needs("rspamd", "clamd")
def test_a_virus_goes_before_what_rspamd_says(world: World, sink: RecordingSink) -> None:
    rspamd, clamd = SpamFilter(world.base / "rspamd"), VirusFilter(world.base / "clamd")
    world.start_all(rspamd, clamd)
    relay = filtering(world, filter={"rspamd": rspamd.url, "clamav": clamd.address, "on_failure": "defer"})
    infected = message(b"X-Test-Action: soft reject;later", body=EICAR)
    assert send(relay, "alice@fwd.example", infected).startswith("550 5.7.1 the message has a virus: Eicar")
    assert send(relay, "alice@fwd.example", message(body=GTUBE)) == "550 5.7.1 Gtube pattern"
    assert send(relay, "alice@fwd.example", message(b"X-Test-Score: 7")).startswith("250 ")
    assert b"X-Spam: Yes\r\n" in sink.wait(3)[-1].content
