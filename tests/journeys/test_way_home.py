"""The way home through real hosts: the relay itself as MX, a Postfix in front of it, and Postfix with PostSRSd.

The MX of fwd.example is FRONT where a test says so. The check connects from the relay's own address.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from relay.check.finding import Finding
from relay.check.site import Site
from relay.check.way_home import check
from relay.check.way_home_watch import START_AFTER
from relay.config.file import load
from relay.dns import CachingResolver
from relay.process.files import read_files
from relay.sending_addresses import sending_addresses
from relay.srs.address import is_srs
from tests.journeys.clients import Dialogue
from tests.journeys.postfix import Postfix
from tests.journeys.relay_process import RelayProcess
from tests.journeys.world import FWD, SECRET, SENDER, World
from tests.peers import free_port, needs, program, wait_until
from tests.postgresql import PostgresServer

pytestmark = pytest.mark.slow

FRONT, FRONT_NAME = "127.0.0.15", "front.fwd.example"
DOCUMENTED = {
    "relay_domains": "fwd.example",
    "mynetworks": "127.0.0.1/32",
    "smtpd_recipient_restrictions": "permit_mynetworks, reject_unauth_destination, "
    "check_recipient_access inline:{ fwd.example=reject_unverified_recipient }",
    "unverified_recipient_reject_code": "550",
    "address_verify_poll_delay": "1s",
}


def tried(relay: RelayProcess) -> list[Finding]:
    """The findings of the check with the configuration of a relay."""

    async def run() -> list[Finding]:
        config = load(relay.config_file)
        delivery = config.delivery
        resolver = CachingResolver(config.dns.nameservers)
        addresses = sending_addresses(delivery.families, delivery.source_ipv4, delivery.source_ipv6)
        try:
            return await check(Site(config, read_files(config), resolver, addresses, time.time()))
        finally:
            await resolver.close()

    return asyncio.run(run())


def only(relay: RelayProcess) -> Finding:
    [finding] = tried(relay)
    return finding


# the relay itself is the MX


def test_a_relay_that_is_the_mx_proves_its_own_way_home_and_nothing_is_sent(world: World) -> None:
    relay = world.relay(aliases="alice@fwd.example carol@mailbox.example\n")
    finding = only(relay)
    assert finding.level == "ok" and f"mx.fwd.example [{FWD}]" in finding.text
    assert relay.queue() == [] and not relay.events("data")


@pytest.mark.parametrize("srs", [{}, {"hash_length": 8, "hash_min": 8, "hash": "framed", "accept": "null"}])
def test_trying_it_again_and_again_never_comes_to_a_false_alarm(world: World, srs: Any) -> None:
    """Past the rate of forged addresses the relay hides the truth about hashes that can be guessed."""
    relay = world.relay(aliases="alice@fwd.example carol@mailbox.example\n", srs={"forged_rate": 1, **srs})
    levels = [only(relay).level for _ in range(25)]
    assert levels[:20] == ["ok"] * 20 and set(levels[20:]) == {"warning"}


def test_another_secret_than_the_mx_has_is_an_error(world: World) -> None:
    mx = world.relay("next.example", srs={"domain": "fwd.example"}, files={"srs.secret": "another secret\n"})
    world.zone["fwd.example", "MX"] = ["10 mx.next.example."]
    finding = only(world.relay())
    assert finding.level == "error" and "550 5.1.1" in finding.text and "forged SRS address" in finding.text
    assert mx.queue() == []


def test_a_relay_that_trusts_its_own_address_proves_nothing(world: World) -> None:
    finding = only(world.relay(clients={"trusted": [FWD]}))
    assert finding.level == "warning" and "trusts this host" in finding.text


@needs("swaks")
def test_the_commands_for_another_host_prove_it_there(world: World) -> None:
    relay = world.relay(clients={"trusted": [FWD]})
    good, forged = (shlex.split(command) for command in re.findall(r"`(swaks [^`]+)`", only(relay).mend))
    for command, status, code in ((good, 0, "250"), (forged, 24, "550")):
        command[command.index("--server") + 1] = FWD
        ran = [program("swaks"), *command[1:], "--local-interface", SENDER, "--helo", "mx.sender.example"]
        done = subprocess.run(ran, capture_output=True, text=True, timeout=60)
        assert done.returncode == status and re.search(rf"^<[-*~ ]*{code}", done.stdout, re.MULTILINE), done.stdout
    assert not relay.events("data")


# Postfix is the MX, and the relay is behind it


def front(world: World, relay: RelayProcess, **settings: str) -> Postfix:
    """The Postfix of docs/postfix-relayhost.md as the MX of fwd.example."""
    postfix = Postfix(
        world.base / "front",
        FRONT_NAME,
        FRONT,
        world.port,
        relayhost=f"[{relay.address}]:{relay.port}",
        settings={**DOCUMENTED, **settings},
    )
    return world.start(postfix)


def behind(world: World, **tables: Any) -> RelayProcess:
    world.zone["fwd.example", "MX"] = [f"10 {FRONT_NAME}."]
    world.zone[FRONT_NAME, "A"] = [FRONT]
    return world.relay(clients={"trusted": [FRONT]}, **tables)


@needs("postfix", root=True)
def test_a_postfix_in_front_that_asks_the_relay_is_the_way_home(world: World) -> None:
    relay = behind(world)
    postfix = front(world, relay)
    for _ in range(2):  # Postfix remembers what it has found out about an address
        finding = only(relay)
        assert finding.level == "ok" and f"{FRONT_NAME} [{FRONT}]" in finding.text, postfix.log
    asked = [line["rcpt"] for line in relay.events("rcpt")]
    assert len(set(filter(is_srs, asked))) >= 4, "each trial goes as far as the relay"
    assert postfix.queued() == 0 and relay.queue() == []


@needs("postfix", root=True)
@pytest.mark.parametrize(
    ("settings", "level", "said"),
    [
        ({"smtpd_recipient_restrictions": "reject_unauth_destination"}, "error", "accepts a forged SRS address"),
        ({"unverified_recipient_reject_code": "450"}, "warning", "for now only: 450"),
        ({"relay_domains": "elsewhere.example"}, "error", "Relay access denied"),
        (
            {"relay_domains": "", "smtpd_relay_restrictions": "defer_unauth_destination"},
            "error",
            "454 4.7.1",
        ),
        ({"relay_recipient_maps": "inline:{ joe@fwd.example=OK }"}, "error", "User unknown"),
        ({"mynetworks": "127.0.0.0/8"}, "warning", "trusts this host"),
        ({"relayhost": "[127.0.0.99]:9"}, "warning", "it defers the SRS address: 450"),
    ],
    ids=["takes all", "defers forged", "another domain", "defers all", "a list of users", "mynetworks", "no relay"],
)
def test_a_postfix_in_front_that_is_not_set_up_for_it(
    world: World, settings: dict[str, str], level: str, said: str
) -> None:
    relay = behind(world)
    front(world, relay, **settings)
    finding = only(relay)
    assert (finding.level, said in finding.text) == (level, True), finding
    assert finding.mend


@contextmanager
def postsrsd(world: World, secret: str) -> Iterator[int]:
    """A PostSRSd; the port of its reverse table."""
    ports = free_port(), free_port()
    (world.base / "postsrsd.secret").write_text(f"{secret}\n")
    command = [program("postsrsd"), "-4", "-s", str(world.base / "postsrsd.secret"), "-d", "fwd.example"]
    with subprocess.Popen([*command, "-f", str(ports[0]), "-r", str(ports[1])]) as daemon:
        try:
            wait_until(lambda: _listens(ports[1]), "postsrsd")
            yield ports[1]
        finally:
            daemon.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@needs("postfix", "postsrsd", root=True)
@pytest.mark.parametrize(("secret", "level"), [(SECRET, "ok"), ("another secret", "error")])
def test_a_postfix_with_postsrsd_is_the_way_home_with_the_same_secret_alone(
    world: World, secret: str, level: str
) -> None:
    relay = behind(world)
    with postsrsd(world, secret) as port:
        front(
            world,
            relay,
            relay_domains="",
            mydestination="fwd.example",
            local_recipient_maps="inline:{ postmaster=OK }",
            recipient_canonical_maps=f"tcp:127.0.0.1:{port}",
            recipient_canonical_classes="envelope_recipient",
            smtpd_recipient_restrictions="reject_unauth_destination",
        )
        assert only(relay).level == level


# serve


def test_serve_tries_it_by_itself_and_tells_monitoring(world: World) -> None:
    http = f"127.0.0.1:{free_port()}"
    relay = world.relay(http={"address": http})
    wait_until(lambda: relay.events("way_home"), "the first trial", 30)
    assert len(relay.events("way_home")) == 1, "one worker does it"
    assert 'srs_relay_way_home{result="ok"} 1.0' in relay.http("/metrics")[1]
    relay.kill_worker(relay.workers()[0])
    wait_until(lambda: len(relay.workers()) == 2, "another worker")
    assert 'srs_relay_way_home{result="ok"} 1.0' in relay.http("/metrics")[1]


def test_serve_says_loudly_that_the_way_home_is_broken_and_goes_on(world: World) -> None:
    world.zone["fwd.example", "MX"] = ["0 ."]
    relay = world.relay(
        aliases="alice@fwd.example carol@mailbox.example\n", http={"address": f"127.0.0.1:{free_port()}"}
    )
    wait_until(lambda: relay.events("way_home_broken"), "the first trial", 30)
    [line] = relay.events("way_home_broken")
    assert line["level"] == "error" and line["domain"] == "fwd.example"
    assert "null MX" in line["problem"] and "MX" in line["mend"]
    assert 'srs_relay_way_home{result="broken"} 1.0' in relay.http("/metrics")[1]
    with Dialogue((relay.address, relay.port)) as session:
        message = b"From: ann@sender.example\r\n\r\nhello\r\n"
        assert session.deliver("ann@sender.example", "alice@fwd.example", message).code == 250


@needs("postgres")
def test_of_two_hosts_with_one_queue_one_tries_it(world: World) -> None:
    with PostgresServer() as server:
        url = server.create_database()
        shared: dict[str, Any] = {"srs": {"domain": "fwd.example"}, "queue": {"url": url}}
        hosts = [world.relay("fwd.example", **shared), world.relay("next.example", **shared)]
        wait_until(lambda: any(host.events("way_home") for host in hosts), "the first trial", 30)
        time.sleep(START_AFTER)  # in which the second one would have tried it
        assert sorted(len(host.events("way_home")) for host in hosts) == [0, 1]
        for host in hosts:
            host.stop()


def test_a_reload_does_not_try_it_again_at_once(world: World) -> None:
    relay = world.relay()
    wait_until(lambda: relay.events("way_home"), "the first trial", 30)
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: relay.events("reloaded"), "the reload")
    time.sleep(START_AFTER + 1)
    assert len(relay.events("way_home")) == 1
