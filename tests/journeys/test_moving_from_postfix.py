"""docs/moving-from-postfix.md, followed from its own snippets on a host with real Postfix and PostSRSd.

After every step, forwards and backwards, mail is forwarded with a sender that leads home, all addresses that were
written before come home, and forged ones are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from relay.cli.import_ import READERS
from tests.journeys.moving import OTHER, PAGE, Host
from tests.journeys.page import all_blocks, blocks, file_of
from tests.journeys.world import World
from tests.peers import needs, wait_until

pytestmark = [needs("postfix", "postsrsd", "swaks", root=True), pytest.mark.slow, pytest.mark.timeout(300)]

TABLES, RELAYHOST, MX = "1. Tables in the place of PostSRSd", "2. Relayhost", "3. The MX itself"
QUEUE = "srs-relay queue list --config /var/lib/srs-relay/relay.toml"  # in the text of the page
OTHERS = "Other ways to connect"
DO, SEE, BACK = "Do it", "See that it works", "Go back"


class Checks:
    """What has to hold at all times."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.written: list[str] = []

    def __call__(self, phase: str) -> None:
        """Forward a message, and let bounces come home to all senders that were ever written."""
        address = self.host.forwarded(f"user-{phase}")
        assert address.startswith("SRS0=") and address.endswith(f"=elsewhere.example=user-{phase}@example.com")
        self.written.append(address)
        for each in (*self.written, address.lower()):
            assert self.host.comes_home(each), f"{each}, after {phase}"
        assert self.host.refuses("SRS0=FAKE=JT=elsewhere.example=someone@example.com")
        assert self.host.refuses("nobody@example.com")
        subject = f"for bob after {phase}"
        assert self.host.offer("someone@elsewhere.example", "bob@example.com", subject).code == 250
        inbox = self.host.postfix.inbox
        wait_until(lambda: any(subject.encode() in mail for mail in inbox("bob@example.com")), subject)


@pytest.fixture
def checks(world: World) -> Iterator[Checks]:
    """The host before the move, which has forwarded a message already."""
    host = Host(world)
    world.start(host)
    checks = Checks(host)
    checks("before")
    yield checks


def bobs_sender(host: Host, phase: str) -> str:
    """The sender that bob's own mail leaves with."""
    host.run(f"printf 'Subject: from bob {phase}\\n\\nhello\\n' | sendmail -f bob@example.com {OTHER}\n")
    return host.arrived(OTHER, f"from bob {phase}").sender


def test_the_tables_take_the_place_of_postsrsd_and_give_it_back(checks: Checks) -> None:
    host = checks.host
    host.follow(TABLES, DO)
    host.stop_postsrsd()
    found = host.follow(TABLES, SEE).strip()
    assert found.startswith("SRS0=") and found.endswith("=elsewhere.example=someone@example.com")
    checks("tables")
    long = f"{'l' * 60}@elsewhere.example"
    assert host.offer(long, "alice@example.com", "long sender").code == 250
    assert host.arrived(OTHER, "long sender").sender == long
    assert any(line["key"] == long for line in host.relay.events("table_lookup"))
    assert not (host.relay.folder / "queue.db").exists()

    host.start_postsrsd()
    host.follow(TABLES, BACK)
    host.run("systemctl stop srs-relay\n")
    checks("back-at-postsrsd")


def test_on_the_ports_of_postsrsd_nothing_changes_in_postfix(checks: Checks) -> None:
    host = checks.host
    secret, *_ = blocks(PAGE, TABLES, DO)
    ports, *_ = [block for block in blocks(PAGE, TABLES, OTHERS) if 'protocol = "tcp"' in block]
    before = (host.postfix.folder / "etc" / "main.cf").read_text()
    host.run(secret)
    host.write(ports)
    host.stop_postsrsd()
    host.run("systemctl start srs-relay\n")
    checks("tcp")
    assert (host.postfix.folder / "etc" / "main.cf").read_text() == before
    host.run("systemctl stop srs-relay\n")
    host.start_postsrsd()
    checks("back-at-postsrsd")


def test_by_a_unix_socket(checks: Checks) -> None:
    host = checks.host
    secret, *_ = blocks(PAGE, TABLES, DO)
    folder, config, use, ask = blocks(PAGE, TABLES, OTHERS)[-4:]
    assert "unix:" in config and file_of(config)
    host.run(secret + folder)
    host.write(config)
    host.run("systemctl start srs-relay\n" + use)
    host.stop_postsrsd()
    assert host.run(ask).strip().endswith("=elsewhere.example=someone@example.com")
    checks("unix")


def test_the_relayhost_takes_the_place_of_the_tables_and_gives_it_back(checks: Checks) -> None:
    host = checks.host
    host.follow(TABLES, DO)
    host.stop_postsrsd()
    host.follow(RELAYHOST, DO)
    assert bobs_sender(host, "now") == "bob@example.com"
    checks("relayhost")
    assert len(host.relay.events("delivered")) >= 4, "all mail to the world leaves by the relay"
    host.follow(RELAYHOST, SEE)
    assert host.arrived(OTHER, host.run("cat /etc/hostname\n").strip()).sender.startswith("SRS0=")
    wait_until(lambda: "no deliveries" in host.run(QUEUE), "the queue to be empty")
    long = f"{'l' * 60}@elsewhere.example"
    assert host.offer(long, "alice@example.com", "long sender").code == 250
    stored = host.arrived(OTHER, "long sender").sender
    assert "==" in stored
    assert host.offer("", stored, "bounce to a long one", source="127.0.0.14").code == 250
    host.arrived(long, "bounce to a long one")

    host.follow(RELAYHOST, BACK)
    delivered = len(host.relay.events("delivered"))
    checks("back-at-the-tables")
    assert len(host.relay.events("delivered")) == delivered
    host.start_postsrsd()
    host.follow(TABLES, BACK)
    checks("back-at-postsrsd")


def test_the_relay_takes_the_place_of_the_mx_and_gives_it_back(checks: Checks) -> None:
    host = checks.host
    host.follow(TABLES, DO)
    host.stop_postsrsd()
    host.follow(RELAYHOST, DO)
    host.follow(MX, DO)
    checks("mx")
    assert host.relay.events("authenticated")
    assert "Postfix" not in host.greeting()
    [swaks] = blocks(PAGE, MX, SEE)
    assert "<** 550 5.1.1 " in host.run(f"{swaks.strip()} || true\n")
    assert bobs_sender(host, "behind the relay") == "bob@example.com"

    host.follow(MX, BACK)
    checks("back-at-the-relayhost")
    assert "Postfix" in host.greeting()
    host.follow(RELAYHOST, BACK)
    host.start_postsrsd()
    host.follow(TABLES, BACK)
    checks("back-at-postsrsd")


def test_the_page_has_no_blocks_but_those_that_are_followed() -> None:
    sections = [(TABLES, DO), (TABLES, SEE), (TABLES, BACK), (TABLES, OTHERS)]
    sections += [(step, part) for step in (RELAYHOST, MX) for part in (DO, SEE, BACK)]
    steps = all_blocks(PAGE, before="Importing what you have")
    assert [block for section in sections for block in blocks(PAGE, *section)] == steps != []


def test_the_page_names_every_import_there_is() -> None:
    commands = "".join(block for block in all_blocks(PAGE) if "srs-relay import" in block)
    assert set(re.findall(r"srs-relay import (\S+) \S+", commands)) == set(READERS)
