"""Mail that an access table holds, through the SMTP door: all kinds of it wait, and nobody hears of its end."""

from __future__ import annotations

import smtplib
from functools import partial

import pytest

from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World
from tests.peers import wait_until

ALIASES = "alice@fwd.example carol@mailbox.example\nboth@fwd.example carol@mailbox.example, dan@mailbox.example\n"
MESSAGE = b"From: ann@sender.example\r\nSubject: x\r\n\r\nHi.\r\n"


@pytest.mark.parametrize("mode", ["queue", "in-session"])
def test_mail_of_every_kind_waits_and_goes_without_notice(world: World, mode: str) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    table = world.base / "clients"
    table.write_text(f"{SENDER} HOLD\n")
    relay = world.relay(
        aliases=ALIASES,
        workers=2,
        clients={"access": str(table)},
        delivery={"mode": mode},
        filter={"hold_for": "15s"},
    )

    def send(sender: str, *recipients: str, options: tuple[str, ...] = ()) -> str:
        with smtplib.SMTP(relay.address, relay.port, "mx.sender.example", 60, (SENDER, 0)) as client:
            client.ehlo()
            assert client.mail(sender)[0] == 250
            for recipient in recipients:
                assert client.rcpt(recipient, list(options))[0] == 250
            code, text = client.data(MESSAGE)
            return f"{code} {text.decode()}"

    success = ("NOTIFY=SUCCESS,FAILURE,DELAY",)
    assert "queued as" in send("ann@sender.example", "alice@fwd.example")
    assert "queued as" in send("", "alice@fwd.example")
    assert "queued as" in send("ann@sender.example", "alice@fwd.example", options=success)
    assert "queued as" in send("ann@sender.example", "both@fwd.example", "alice@fwd.example")
    rows = relay.queue()
    assert [(row["state"], row["hold_reason"]) for row in rows] == [("held", f"clients.access {SENDER}")] * 5
    assert not sink.received
    released = rows[0]["id"]
    assert relay.command("queue", "release", released).returncode == 0
    sink.wait(1)
    wait_until(lambda: relay.queue() == [], "the rest to go", 60)
    assert len(sink.received) == 1
    wait_until(partial(relay.has_events, "hold_expired", len(rows) - 1), "the log to say so")
    assert {line["id"] for line in relay.events("hold_expired")} == {row["id"] for row in rows} - {released}
    assert not relay.events("bounced") and not relay.events("report")
