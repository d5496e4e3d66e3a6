"""What `srs-relay import --write` makes, served: the host works on as it did with its old programs."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay import cli
from tests.journeys.clients import Dialogue
from tests.journeys.lookups import postmap
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, SENDER, World
from tests.peers import answers, free_port, needs, program, wait_until

pytestmark = pytest.mark.slow

SENDERS = [
    "ann@elsewhere.example",
    "a=b+c@Elsewhere.Example",
    "SRS0=AbCd=JT=third.example=joe@elsewhere.example",
    "ann@ours.example",
    "ann@sub.ours.example",
    "ann@fwd.example",
]


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def imported(folder: Path, program_name: str, source: Path) -> RelayProcess:
    """A relay with the configuration that the command writes into a folder; nothing of the source has changed."""
    relay = RelayProcess(folder, {})
    relay.config_file.unlink()
    before = files(source.parent)
    assert cli.run(["import", program_name, str(source), "--write", str(folder)]) == 0
    assert files(source.parent) == before
    return relay


def is_open(port: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


@contextmanager
def postsrsd(settings: dict[str, str]) -> Iterator[None]:
    """PostSRSd as its start script runs it."""
    letters = {"DOMAIN": "d", "SECRET": "s", "EXCLUDE_DOMAINS": "X", "FORWARD_PORT": "f", "REVERSE_PORT": "r"}
    options = [f"-{letter}{settings[f'SRS_{name}']}" for name, letter in letters.items()]
    with subprocess.Popen([program("postsrsd"), *options, "-4"]) as daemon:
        wait_until(lambda: all(is_open(settings[f"SRS_{name}_PORT"]) for name in ("FORWARD", "REVERSE")), "ports")
        yield
        daemon.terminate()


@needs("postfix", "postsrsd")
def test_tables_that_are_imported_answer_postfix_as_postsrsd_did(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "postsrsd.secret").write_text("tops3cr3t\nolder\n")
    settings = {
        "SRS_DOMAIN": "fwd.example",
        "SRS_EXCLUDE_DOMAINS": "ours.example,other.example",
        "SRS_SECRET": f"{tmp_path}/etc/postsrsd.secret",
        "SRS_FORWARD_PORT": str(free_port()),
        "SRS_REVERSE_PORT": str(free_port()),
    }
    source = tmp_path / "etc" / "postsrsd"
    source.write_text("# comment\n" + "".join(f"{name}={value}\n" for name, value in settings.items()))
    forward, reverse = (f"tcp:127.0.0.1:{settings[f'SRS_{name}_PORT']}" for name in ("FORWARD", "REVERSE"))

    with postsrsd(settings):
        rewritten = [postmap(sender, forward) for sender in SENDERS]
        senders = [address for address in rewritten if address.startswith("SRS")]
        home = [postmap(address, reverse) for address in (*senders, *map(str.lower, senders))]
        forged = postmap("SRS0=AAAA=JT=elsewhere.example=ann@fwd.example", reverse)
    assert len(senders) == 4 and all(home) and not forged

    relay = imported(tmp_path / "relay", "postsrsd", source)
    relay.start()
    try:
        again = [postmap(sender, forward) for sender in SENDERS]
        assert [a for a in again if a.startswith("SRS")] == senders
        assert [postmap(address, reverse) for address in (*senders, *map(str.lower, senders))] == home
        assert not postmap("SRS0=AAAA=JT=elsewhere.example=ann@fwd.example", reverse)
        assert not (relay.folder / "queue.db").exists()
    finally:
        relay.stop()

    with postsrsd(settings):  # and back
        assert all(postmap(address, reverse) for address in again if address.startswith("SRS"))


MAIN_CF = """\
myhostname = mx.fwd.example
inet_interfaces = {address}
mydestination = localhost
mynetworks = 0.0.0.0/0, 127.0.0.9/32
virtual_alias_domains = fwd.example
virtual_alias_maps = hash:/etc/postfix/virtual
relay_domains = boxes.example
relay_recipient_maps = hash:/etc/postfix/users
transport_maps = hash:/etc/postfix/transport
smtpd_relay_restrictions = permit
"""


@needs("postfix", root=True)
def test_a_forwarding_postfix_that_is_imported_forwards(world: World) -> None:
    etc = world.base / "postfix"
    etc.mkdir()
    (etc / "main.cf").write_text(MAIN_CF.format(address=FWD))
    (etc / "virtual").write_text("alice@fwd.example carol@mailbox.example\n@fwd.example dave@mailbox.example\n")
    (etc / "users").write_text("joe@boxes.example OK\n")
    (etc / "transport").write_text(f"boxes.example smtp:[{MAILBOX}]:{world.port}\n")
    relay = imported(world.base / "relay", "postfix", etc / "main.cf")
    world.relays.append(relay)
    text = relay.config_file.read_text().replace(f'"{FWD}:25"', f'"{FWD}:{world.port}"')
    assert '\n#domain = "fwd.example"\n' in text
    text = text.replace('\n#domain = "fwd.example"\n', '\ndomain = "fwd.example"\n')
    relay.config_file.write_text(
        f'{text}\n[dns]\nnameservers = ["{world.nameserver()}"]\n[delivery]\npublic_addresses_only = false\n'
        f'port = {world.port}\nfamilies = ["ipv4"]\nsource_ipv4 = "{FWD}"\n[log]\nformat = "json"\n'
    )
    sink = world.start(RecordingSink(MAILBOX, world.port))
    world.start(relay)

    def offer(recipient: str, source: str = SENDER) -> int:
        with Dialogue((FWD, world.port), source=source) as client:
            return client.deliver("ann@sender.example", recipient, b"From: ann@sender.example\r\n\r\nhello\r\n").code

    wait_until(lambda: answers(FWD, world.port), "the relay")
    assert offer("alice@fwd.example") == 250
    assert offer("anyone@fwd.example") == 250
    assert offer("joe@boxes.example") == 250
    assert offer("nobody@boxes.example") == 550
    assert offer("someone@foreign.example") == 550, "0.0.0.0/0 is not trusted"
    assert offer("carol@mailbox.example", "127.0.0.9") == 250
    wait_until(lambda: len(sink.received) >= 4, "the mail")
