"""What a message asks of TLS, from one host to the next: REQUIRETLS and TLS-Required (RFC 8689)."""

from __future__ import annotations

import json
import smtplib
import sqlite3
import ssl
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.deliver.scripted import ESMTP
from tests.deliver.test_client_tls import Authority, server_context
from tests.journeys.clients import Dialogue
from tests.journeys.postfix import Postfix
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.test_dane import Pair
from tests.journeys.test_sessions import Script
from tests.journeys.world import FWD, MAILBOX, NEXT, SENDER, World
from tests.peers import free_port, needs, wait_until

pytestmark = pytest.mark.slow

ANN, ALICE = "ann@sender.example", "alice@fwd.example"
CONTENT = f"From: {ANN}\r\nTo: {ALICE}\r\nSubject: hello\r\n\r\nA secret.\r\n".encode()


class Site:
    """A world whose hosts have certificates of one authority."""

    def __init__(self, world: World) -> None:
        self.world = world
        folder = world.base / "authority"
        folder.mkdir()
        self.authority = Authority(folder)

    def context(self, host: str) -> ssl.SSLContext:
        return server_context(self.authority.files(host))

    def relay(self, domain: str, aliases: str, to: str, **tables: Any) -> RelayProcess:
        """A relay with TLS, and with the MX of another domain as its configured next hop."""
        address = {"fwd.example": FWD, "next.example": NEXT}[domain]
        pair = self.authority.files(f"mx.{domain}").pairs[0]
        return self.world.relay(
            domain,
            aliases=aliases,
            wrapper=["env", f"SSL_CERT_FILE={self.authority.file}"],
            listen=[{"address": f"{address}:{self.world.port}", "tls": "starttls"}],
            tls={"certificate": str(pair.certificate), "private_key": str(pair.private_key)},
            delivery={
                "destinations": [{"domains": [to], "next_hop": f"smtp://mx.{to}:{self.world.port}"}],
                **tables.pop("delivery", {}),
            },
            **tables,
        )

    def mailbox(self, *offers: str) -> Script:
        script = Script(MAILBOX, self.world.port, offers=(*ESMTP, *offers), tls=self.context("mx.mailbox.example"))
        return self.world.start(script)


def send(relay: RelayProcess, options: Sequence[str] = ("REQUIRETLS",), content: bytes = CONTENT) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP(relay.address, relay.port, "mx.sender.example", source_address=(SENDER, 0)) as session:
        session.starttls(context=context)
        session.sendmail(ANN, [ALICE], content, mail_options=tuple(options))


def test_requiretls_goes_from_relay_to_relay_and_through_aliases(world: World) -> None:
    site = Site(world)
    mailbox = site.mailbox("REQUIRETLS")
    last = site.relay("next.example", "dave@next.example carol@mailbox.example\n", "mailbox.example")
    first = site.relay("fwd.example", f"{ALICE} dave@next.example\n", "next.example")
    send(first)
    wait_until(lambda: mailbox.server.contents, "the message at the mailbox host", 30)
    (session,) = mailbox.server.sessions
    (mail,) = (line for line in session.commands if line.startswith("MAIL"))
    assert mail.startswith(("MAIL FROM:<SRS1=", "MAIL FROM:<SRS0="))
    assert "REQUIRETLS" in mail.split() and session.encrypted
    for relay in (first, last):
        wait_until(lambda relay=relay: relay.events("delivered"), "the line of the delivery")  # type: ignore[misc]
        assert [line["tls_wish"] for line in relay.events("queued")] == ["require"]
        assert [line["policy"] for line in relay.events("delivered")] == ["verify"]


def test_where_the_way_ends_the_sender_gets_the_header_back(world: World) -> None:
    site = Site(world)
    mailbox = site.mailbox()
    home = world.start(RecordingSink(SENDER, world.port))
    last = site.relay("next.example", "dave@next.example carol@mailbox.example\n", "mailbox.example")
    first = site.relay("fwd.example", f"{ALICE} dave@next.example\n", "next.example")
    send(first)
    (bounce,) = home.wait()
    assert (bounce.sender, bounce.recipients) == ("", (ANN,))
    assert b"Status: 5.7.30" in bounce.content and b"encryption all the way" in bounce.content
    assert b"Subject: hello" in bounce.content and b"A secret." not in bounce.content
    assert b"carol" not in bounce.content
    assert mailbox.server.contents == []
    (line,) = last.events("bounced")
    assert (line["code"], line["status"]) == (550, "5.7.30")
    assert "mx.mailbox.example does not offer it" in line["text"]
    assert [line["tls_wish"] for line in last.events("queued")] == ["require", "prefer"]


def test_queue_and_log_show_what_is_asked_and_which_policy_held(world: World) -> None:
    site = Site(world)
    hop = Script(NEXT, world.port, offers=(*ESMTP, "REQUIRETLS"), tls=site.context("elsewhere.example"))
    world.start(hop)
    relay = site.relay(
        "fwd.example", f"{ALICE} dave@next.example\n", "next.example", queue={"retry_min": "1h", "retry_max": "1h"}
    )
    send(relay)
    wait_until(lambda: relay.events("deferred"), "a deferral", 30)
    (row,) = relay.queue()
    assert row["tls_wish"] == "require"
    assert (row["last"]["status"], row["last"]["policy"]) == ("4.7.5", "verify")
    shown = relay.command("queue", "show", row["id"]).stdout
    assert "asks for: TLS all the way (REQUIRETLS)\n" in shown
    assert "TLS failed, policy verify" in shown
    (line,) = relay.events("deferred")
    assert (line["policy"], line["host"]) == ("verify", "mx.next.example")
    assert hop.server.contents == []


def test_tls_required_no_is_kept_and_goes_along(world: World) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    port = free_port()
    relay = world.relay(aliases=f"{ALICE} carol@mailbox.example\n", http={"address": f"127.0.0.1:{port}"}, workers=1)
    content = b"TLS-Required: No\r\n" + CONTENT
    with smtplib.SMTP(relay.address, relay.port, "mx.sender.example", source_address=(SENDER, 0)) as session:
        session.sendmail(ANN, [ALICE], content)
        session.sendmail(ANN, [ALICE], CONTENT)
    taken = sink.wait(2)
    assert sorted(b"TLS-Required: No\r\n" in received.content for received in taken) == [False, True]
    wait_until(lambda: relay.has_events("delivered", 2), "the lines of the deliveries")
    assert sorted(str(line.get("tls_wish")) for line in relay.events("queued")) == ["None", "no"]
    assert {line["policy"] for line in relay.events("delivered")} == {"may"}
    assert 'srs_relay_tls_deliveries_total{policy="may"} 2.0' in relay.http("/metrics")[1]
    assert relay.terminate() == 0
    # Only the message to which the domain's policies apply is one that a report is about.
    with closing(sqlite3.connect(Path(relay.folder) / "queue.db")) as queue:
        rows = queue.execute("SELECT domain, policy, mx, result, address, sessions FROM tls_result").fetchall()
    assert rows == [("mailbox.example", "no-policy-found", "mx.mailbox.example", "starttls-not-supported", MAILBOX, 1)]


@needs("postfix")
@pytest.mark.parametrize(
    ("host", "expired", "level", "options", "result"),
    [
        ("mx.mailbox.example", False, "verify", (), ""),
        ("mx.mailbox.example", True, "verify", (), "certificate-expired"),
        ("mx.mailbox.example", True, "require", (), ""),
        ("elsewhere.example", False, "verify", (), "certificate-host-mismatch"),
        ("", False, "require", (), "starttls-not-supported"),
        ("mx.mailbox.example", False, "may", ("REQUIRETLS",), "5.7.30"),
    ],
)
def test_postfix_at_every_level(
    world: World, host: str, expired: bool, level: str, options: Sequence[str], result: str
) -> None:
    """Postfix shows its certificate, and offers no REQUIRETLS."""
    site = Site(world)
    settings = {"smtpd_tls_security_level": "none"}
    if host:
        pair = site.authority.files(host, expired=expired).pairs[0]
        settings = {
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": str(pair.certificate),
            "smtpd_tls_key_file": str(pair.private_key),
        }
    folder = world.base / "postfix"
    folder.mkdir()
    carol = "carol@mailbox.example"
    postfix = Postfix(folder, "mx.mailbox.example", MAILBOX, world.port, [carol], settings=settings)
    world.start(postfix)
    # The host is configured, which proves its name, with the level that the table of the domain has.
    table = {"domains": ["mailbox.example"], "next_hop": f"smtp://mx.mailbox.example:{world.port}", "tls": level}
    relay = site.relay("fwd.example", f"{ALICE} {carol}\n", "mailbox.example", delivery={"destinations": [table]})
    send(relay, options)
    if not result:
        assert len(postfix.wait_for_mail(carol)) == 1
        wait_until(lambda: relay.events("delivered"), "the line of the delivery")
        assert relay.events("delivered")[0]["policy"] == level and relay.events("delivered")[0]["tls"]
    elif result == "5.7.30":
        wait_until(lambda: relay.events("bounced"), "the line of the failure", 30)
        assert relay.events("bounced")[0]["status"] == "5.7.30"
        assert postfix.inbox(carol) == []
    else:
        wait_until(lambda: relay.events("deferred"), "a deferral", 30)
        line = relay.events("deferred")[0]
        assert (line["policy"], line["status"]) == (level, "4.7.4" if not host else "4.7.5")
        assert postfix.inbox(carol) == []


@needs("unbound", root=True)
def test_tls_required_no_leaves_where_dane_stops_all_other_mail(world: World) -> None:
    pair = Pair(world, wrong=["mx1", "mx2"])
    assert pair.event("deferred")["policy"] == "dane"
    with Dialogue((pair.relay.address, pair.relay.port), source=SENDER) as client:
        client.deliver(ANN, "user@far.example", b"TLS-Required: No\r\n" + CONTENT)
    event = pair.event("delivered")
    assert (event["policy"], event["host"]) == ("may", "mx1.far.example") and event["tls"]
    (received,) = pair.sink.received
    assert b"\r\nTLS-Required: No\r\n" in b"\r\n" + received.content
    (row,) = pair.relay.queue()
    assert (row["last"]["policy"], row["last"]["status"]) == ("dane", "4.7.5")
    assert pair.relay.terminate() == 0
    # What a report says of it: both hosts, with the records that did not fit.
    with closing(sqlite3.connect(pair.relay.folder / "queue.db")) as queue:
        columns = "domain, policy, policy_domain, policy_text, mx, result, address, sessions"
        rows = queue.execute(f"SELECT {columns} FROM tls_result ORDER BY mx").fetchall()
    assert [(*row[:3], *row[4:]) for row in rows] == [
        ("far.example", "tlsa", f"{mx}.far.example", f"{mx}.far.example", "validation-failure", address, 1)
        for mx, address in (("mx1", "127.0.54.1"), ("mx2", "127.0.54.2"))
    ]
    assert all(json.loads(row[3])[0].startswith("3 1 1 ") for row in rows)
