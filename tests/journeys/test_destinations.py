"""`[[delivery.destinations]]` through the door: where mail goes, from which address and under which name, by domain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.relay_process import RelayProcess, toml
from tests.journeys.sinks import Received, RecordingSink
from tests.journeys.world import FWD, MAILBOX, World
from tests.peers import free_port, wait_until

pytestmark = pytest.mark.slow

ANN = "ann@sender.example"
MESSAGE = b"From: ann@sender.example\r\nSubject: hello\r\n\r\nhello\r\n"
SECOND, PARTNER = "127.0.0.22", "127.0.0.23"  # another address of ours, and a host of a partner
DOMAINS = ("mailbox.example", "bulk.example", "deep.below.example", "below.example", "hosted.example", "both.example")


def internet(world: World) -> None:
    """Each domain has its mail at the mailbox host, under several names."""
    for domain in DOMAINS:
        world.zone[domain, "MX"] = ["10 mx.mailbox.example."]
    world.zone["hosted.example", "MX"] = ["10 mx7.mail.provider.example.", "20 mx.mailbox.example."]
    world.zone["both.example", "MX"] = ["10 mx.mailbox.example.", "20 mx7.mail.provider.example."]
    world.zone["mx7.mail.provider.example", "A"] = [MAILBOX]


def relay_to(world: World, destinations: list[dict[str, Any]], **tables: Any) -> RelayProcess:
    aliases = "".join(f"{domain.partition('.')[0]}@fwd.example u@{domain}\n" for domain in DOMAINS)
    delivery = {"destinations": destinations, **tables.pop("delivery", {})}
    return world.relay(aliases=aliases, delivery=delivery, **tables)


def send(relay: RelayProcess, *domains: str) -> None:
    with Dialogue((relay.address, relay.port)) as client:
        for domain in domains:
            assert client.deliver(ANN, f"{domain.partition('.')[0]}@fwd.example", MESSAGE).code == 250


def by_domain(received: list[Received]) -> Mapping[str, tuple[str, str]]:
    """The address and the EHLO name that mail to each domain came by."""
    return {one.recipients[0].partition("@")[2]: (one.ip, one.helo) for one in received}


def test_each_destination_has_its_source_address_and_its_name_in_ehlo(world: World) -> None:
    internet(world)
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay = relay_to(
        world,
        [
            {"domains": ["bulk.example"], "source_ipv4": SECOND, "helo": "bulk.fwd.example"},
            {"domains": [".example"], "helo": "mx2.fwd.example"},
            {"domains": [".below.example"], "source_ipv4": SECOND},
        ],
    )
    send(relay, *DOMAINS)
    relay.wait_for_empty_queue()
    other = (FWD, "mx2.fwd.example")
    assert by_domain(sink.wait(len(DOMAINS))) == dict.fromkeys(DOMAINS, other) | {
        "bulk.example": (SECOND, "bulk.fwd.example"),
        "deep.below.example": (SECOND, "mx.fwd.example"),
    }


def test_mail_to_the_mx_hosts_of_a_provider_is_one_destination(world: World) -> None:
    internet(world)
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay = relay_to(
        world,
        [
            {"domains": ["mx:*.mail.provider.example"], "source_ipv4": SECOND, "helo": "mx2.fwd.example"},
            {"domains": ["mx:mx.mailbox.example"], "helo": "mx3.fwd.example"},
            {"domains": ["bulk.example"], "rate": 1000},
        ],
    )
    send(relay, "hosted.example", "both.example", "bulk.example")
    relay.wait_for_empty_queue()
    assert by_domain(sink.wait(3)) == {
        "hosted.example": (SECOND, "mx2.fwd.example"),
        "both.example": (FWD, "mx3.fwd.example"),  # its most preferred host decides
        "bulk.example": (FWD, "mx.fwd.example"),  # what names the domain itself goes before its MX hosts
    }


def test_a_next_hop_and_a_smarthost_for_some_domains(world: World) -> None:
    internet(world)
    mx = world.start(RecordingSink(MAILBOX, world.port))
    partner, backup = (world.start(RecordingSink(PARTNER, free_port())) for _ in range(2))
    relay = relay_to(
        world,
        [
            {"domains": ["bulk.example"], "next_hop": f"smtp://{PARTNER}:{partner.port}", "source_ipv4": SECOND},
            {"domains": [".below.example"], "smarthost": "backup"},
        ],
        delivery={"smarthosts": {"backup": {"url": f"smtp://{PARTNER}:{backup.port}", "null_sender": "b@fwd.example"}}},
    )
    send(relay, "mailbox.example", "bulk.example", "deep.below.example")
    relay.wait_for_empty_queue()
    assert by_domain(mx.wait()) == {"mailbox.example": (FWD, "mx.fwd.example")}
    assert by_domain(partner.wait()) == {"bulk.example": (SECOND, "mx.fwd.example")}
    assert by_domain(backup.wait()) == {"deep.below.example": (FWD, "mx.fwd.example")}


def test_some_domains_go_to_their_mx_past_the_smarthost(world: World) -> None:
    internet(world)
    mx = world.start(RecordingSink(MAILBOX, world.port))
    provider = world.start(RecordingSink(PARTNER, free_port()))
    smarthost = {"url": f"smtp://{PARTNER}:{provider.port}"}
    direct = {"domains": [".below.example"], "next_hop": "mx", "helo": "mx2.fwd.example"}
    relay = relay_to(world, [direct], delivery={"smarthost": smarthost})
    send(relay, "mailbox.example", "deep.below.example")
    relay.wait_for_empty_queue()
    assert by_domain(mx.wait()) == {"deep.below.example": (FWD, "mx2.fwd.example")}
    assert by_domain(provider.wait()) == {"mailbox.example": (FWD, "mx.fwd.example")}


def test_mail_that_waits_follows_the_table_as_it_is_at_the_next_attempt(world: World) -> None:
    internet(world)
    sink = world.start(RecordingSink(MAILBOX, world.port))
    nobody = free_port()
    before = [{"domains": ["bulk.example"], "next_hop": f"smtp://{PARTNER}:{nobody}"}]
    relay = relay_to(world, before)
    send(relay, "bulk.example")
    wait_until(lambda: relay.events("deferred"), "a deferral")
    assert relay.events("deferred")[0]["address"] == PARTNER
    text = relay.config_file.read_text()
    after = toml({"delivery": {"destinations": [{"domains": ["mx:mx.mailbox.example"], "helo": "mx2.fwd.example"}]}})
    start, _, rest = text.partition('[["delivery"."destinations"]]')
    end = rest.index('["queue"]')
    relay.config_file.write_text(start + after.removeprefix('["delivery"]\n') + rest[end:])
    os.kill(relay.pid, signal.SIGHUP)
    assert by_domain(sink.wait()) == {"bulk.example": (FWD, "mx2.fwd.example")}
    relay.wait_for_empty_queue()


def test_a_sender_stays_where_spf_covers_the_addresses_of_the_destination(world: World) -> None:
    """`srs = "when-needed"` asks for the addresses that mail to this domain leaves from."""
    internet(world)
    world.zone["sender.example", "TXT"] = [f'"v=spf1 ip4:127.0.0.1 ip4:{SECOND} -all"']
    world.zone["mx2.fwd.example", "A"] = [SECOND]
    sink = world.start(RecordingSink(MAILBOX, world.port))
    needed = {"recipients": "any", "srs": "when-needed"}
    domains = ("bulk.example", "mailbox.example", "hosted.example", "deep.below.example")
    relay = relay_to(
        world,
        [
            {"domains": ["bulk.example"], "source_ipv4": SECOND, "helo": "mx2.fwd.example"},
            {"domains": ["mx:*.mail.provider.example"], "source_ipv4": SECOND, "helo": "mx2.fwd.example"},
            {"domains": ["deep.below.example"], "smarthost": "backup", "source_ipv4": SECOND},
        ],
        delivery={"smarthosts": {"backup": {"url": f"smtp://{MAILBOX}:{world.port}"}}},
        routes={"domains": dict.fromkeys(domains, needed)},
    )
    with Dialogue((relay.address, relay.port)) as client:
        for domain in domains:
            assert client.deliver(ANN, f"u@{domain}", MESSAGE).code == 250
    stayed = {one.recipients[0].partition("@")[2]: one.sender == ANN for one in sink.wait(len(domains))}
    assert stayed == {
        "bulk.example": True,
        "mailbox.example": False,
        "hosted.example": True,
        "deep.below.example": False,  # what a smarthost sends from is not known
    }


def test_explain_says_which_destination_holds_and_how_it_is_seen(world: World) -> None:
    internet(world)
    entry = {"domains": ["mx:*.mail.provider.example"], "source_ipv4": SECOND, "helo": "mx2.fwd.example"}
    relay = relay_to(world, [entry, {"domains": ["bulk.example"]}])
    for domain, lines in (
        ("hosted", ["(delivery.destinations: mx:*.mail.provider.example)", f"from {SECOND} (configured), EHLO mx2."]),
        ("bulk", ["(delivery.destinations: bulk.example)", f"from {FWD} (configured), EHLO mx.fwd.example"]),
    ):
        command = [sys.executable, "-m", "relay", "explain", "--config", str(relay.config_file)]
        who = ["--ip", "127.0.0.1", "--from", ANN, "--to", f"{domain}@fwd.example", "--next-hop-view", "-"]
        done = subprocess.run([*command, *who], input=MESSAGE, capture_output=True, timeout=60)
        text = " ".join(done.stdout.decode().split())
        for line in lines:
            assert line in text, text
