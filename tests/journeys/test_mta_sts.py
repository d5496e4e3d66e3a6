"""A relay that delivers to a domain with an MTA-STS policy: real policy host, real certificates, and who gets the mail.

The domain has two mail hosts. The policy names one of them; the other, which DNS prefers, is what an attacker who can
change DNS answers would add.
"""

from __future__ import annotations

import smtplib
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.https_server import Answer, Authority, HttpsServer, plain
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World
from tests.peers import needs, wait_until

pytestmark = [needs(root=True), pytest.mark.slow]  # the policy host has port 443

NAMED, ROGUE, POLICY_HOST = MAILBOX, "127.0.0.15", "127.0.4.44"
RECORD, HOST = ("_mta-sts.mailbox.example", "TXT"), "mta-sts.mailbox.example"


def policy(mode: str = "enforce", max_age: int = 604800) -> bytes:
    return plain(f"version: STSv1\nmode: {mode}\nmx: mx.mailbox.example\nmax_age: {max_age}\n")


class Domain:
    """mailbox.example with its policy and its two mail hosts, and the relay that forwards there."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.authority = Authority(folder)
        self.answers: dict[str, Answer] = {HOST: policy()}
        files = {HOST: self.authority.issue(HOST)}
        self.policy_host = world.start(HttpsServer(files, self.answers, (POLICY_HOST, 443)))
        world.zone |= {
            ("mailbox.example", "MX"): ["5 rogue.mailbox.example.", "10 mx.mailbox.example."],
            ("rogue.mailbox.example", "A"): [ROGUE],
            (HOST, "A"): [POLICY_HOST],
            RECORD: ['"v=STSv1; id=1;"'],
        }
        self.named = self._sink(NAMED, "mx.mailbox.example")
        self.rogue = self._sink(ROGUE, "rogue.mailbox.example")
        nameserver = world.nameserver()
        self.dns = world.nameservers[0]
        dns = {"nameservers": [nameserver], "timeout": "2s", "cache_entries": 0}
        self.relay = world.relay(
            aliases="alice@fwd.example carol@mailbox.example\n",
            dns=dns,
            delivery={"messages_per_connection": 1},  # each message looks for hosts again
        )

    def _sink(self, address: str, name: str) -> RecordingSink:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.authority.issue(name))
        return self.world.start(RecordingSink(address, self.world.port, tls=context))

    def only_the_rogue(self) -> None:
        self.dns.put("mailbox.example", "MX", "5 rogue.mailbox.example.")

    def vanish(self) -> None:
        """The record is gone, and the policy host is away."""
        self.dns.put(*RECORD)
        self.policy_host.stop()

    def send(self) -> None:
        send(self.relay)

    def line(self, event: str) -> dict[str, Any]:
        """The first line of the log with this event."""
        wait_until(lambda: self.relay.has_events(event, 1), event, 30)
        return self.relay.events(event)[0]


def send(relay: RelayProcess) -> None:
    content = "From: ann@sender.example\r\nTo: alice@fwd.example\r\nSubject: x\r\n\r\nx\r\n"
    with smtplib.SMTP(relay.address, relay.port, "mx.sender.example", source_address=(SENDER, 0)) as session:
        session.sendmail("ann@sender.example", ["alice@fwd.example"], content)


@pytest.fixture
def domain(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Domain:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return Domain(world, tmp_path)


def test_mail_goes_to_the_host_that_the_policy_names(domain: Domain) -> None:
    domain.send()
    domain.named.wait()
    assert domain.rogue.commands == []
    line = domain.line("delivered")
    assert (line["host"], line["policy"]) == ("mx.mailbox.example", "sts")
    found = domain.line("mta_sts_policy")
    assert (found["domain"], found["mode"], found["hosts"]) == ("mailbox.example", "enforce", ["mx.mailbox.example"])


def test_a_policy_that_is_tested_keeps_no_mail(domain: Domain) -> None:
    domain.answers[HOST] = policy("testing")
    domain.send()
    domain.rogue.wait()


def test_a_host_without_a_good_certificate_gets_nothing(domain: Domain) -> None:
    domain.dns.put("mx.mailbox.example", "A", ROGUE)  # whose certificate has another name
    domain.send()
    line = domain.line("deferred")
    assert line["status"] == "4.7.5" and "MTA-STS policy (enforce) of mailbox.example" in line["text"]
    assert domain.rogue.commands == domain.named.commands == []


def test_the_policy_outlives_record_host_and_relay(domain: Domain) -> None:
    domain.send()
    domain.named.wait()
    domain.vanish()
    domain.only_the_rogue()
    assert domain.relay.terminate() == 0
    domain.relay.start()
    domain.send()
    line = domain.line("deferred")
    assert line["status"] == "4.7.5" and "MTA-STS policy (enforce) of mailbox.example" in line["text"]
    domain.relay.kill9()
    before = len(domain.relay.events("deferred"))
    domain.relay.start()
    wait_until(lambda: domain.relay.has_events("deferred", before + 1), "a retry", 60)
    assert domain.rogue.commands == []


def test_a_policy_ends_with_its_max_age(domain: Domain) -> None:
    domain.answers[HOST] = policy(max_age=8)
    domain.send()
    domain.named.wait()
    domain.vanish()
    domain.only_the_rogue()
    domain.send()
    domain.line("deferred")
    assert domain.rogue.commands == []
    domain.rogue.wait()  # by a retry


def test_a_policy_host_that_is_away_keeps_no_mail(domain: Domain) -> None:
    domain.policy_host.stop()
    started = time.monotonic()
    domain.send()
    domain.rogue.wait()
    assert time.monotonic() - started < 8
    assert "mta-sts.mailbox.example" in domain.line("mta_sts_not_fetched")["problem"]


def test_private_policy_hosts_are_not_asked(domain: Domain) -> None:
    assert domain.relay.terminate() == 0
    text = domain.relay.config_file.read_text().replace(
        '"public_addresses_only" = false', '"public_addresses_only" = true'
    )
    domain.relay.config_file.write_text(text)
    domain.relay.start()
    domain.send()
    assert "no public address" in domain.line("mta_sts_not_fetched")["problem"]
    assert domain.policy_host.names == []


def test_a_relay_stops_while_a_policy_host_is_silent(domain: Domain) -> None:
    released = threading.Event()
    domain.answers[HOST] = lambda _: released.wait(60)
    domain.send()
    wait_until(lambda: domain.policy_host.requests, "the relay at the policy host", 20)
    started = time.monotonic()
    assert domain.relay.terminate() == 0
    assert time.monotonic() - started < 20
    released.set()
    domain.answers[HOST] = policy()
    domain.relay.start()
    domain.named.wait()
