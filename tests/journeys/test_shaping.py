"""Destinations with numbers of their own, next hops that change, and one that refuses us: relays with two workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from typing import Any

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.counting_hop import CountingHop
from tests.journeys.relay_process import RelayProcess
from tests.journeys.world import World
from tests.peers import free_port, wait_until

pytestmark = pytest.mark.slow

HOP, OTHER = "127.0.1.1", "127.0.1.2"
CONTENT = b"From: ann@sender.example\r\nSubject: hello\r\n\r\nHi.\r\n"


def with_domains(world: World, address: str, *domains: str) -> None:
    """Domains whose mail goes to mx.DOMAIN, all at one address."""
    for domain in domains:
        world.zone[domain, "MX"] = [f"10 mx.{domain}."]
        world.zone[f"mx.{domain}", "A"] = [address]
        world.zone[domain, "TXT"] = ['"v=spf1 ip4:127.0.0.1 -all"']


def relay(world: World, **tables: Any) -> RelayProcess:
    return world.relay(**{"clients": {"trusted": ["127.0.0.1"]}, **tables})


def send(relay: RelayProcess, recipients: Iterable[str], sender: str = "ann@sender.example") -> None:
    """A message for each recipient, over two sessions so that both workers have some."""
    recipients = list(recipients)
    for half in (recipients[::2], recipients[1::2]):
        with Dialogue((relay.address, relay.port)) as session:
            session("EHLO mx.sender.example")
            for recipient in half:
                session(f"MAIL FROM:<{sender}>")
                session(f"RCPT TO:<{recipient}>")
                session("DATA")
                session.send(CONTENT + b".\r\n")
                assert session.reply().code == 250


def test_two_workers_together_have_two_transactions_also_over_a_reload_and_kill_9(world: World) -> None:
    domains = ["a.example", "b.example"]
    with_domains(world, HOP, *domains)
    with_domains(world, OTHER, "free.example")
    hop = world.start(CountingHop(HOP, world.port, seconds=0.1))
    free = world.start(CountingHop(OTHER, world.port))
    house = relay(world, delivery={"destinations": [{"domains": domains, "concurrency": 2}]})
    send(house, (f"r{n}@{domain}" for n in range(40) for domain in domains))
    wait_until(lambda: len(hop.taken) > 10, "some of it")
    before = set(house.workers())
    os.kill(house.pid, signal.SIGHUP)
    wait_until(lambda: len(house.workers()) == 2 and not before & set(house.workers()), "the new workers")
    send(house, (f"r{n}@free.example" for n in range(20)))
    wait_until(lambda: len(free.taken) == 20, "mail to a destination that is not limited", 5)
    wait_until(lambda: len(hop.taken) > 30, "some more of it")
    wait_until(lambda: hop.under_way == 2, "two at once")
    for pid in house.workers():
        house.kill_worker(pid)
    house.wait_for_empty_queue(60)
    assert hop.most == 2
    assert {each for taken in hop.taken for each in taken} == {f"r{n}@{d}" for n in range(40) for d in domains}
    assert len(hop.taken) <= 80 + 2 + 2, "twice at most what was under way"
    assert not house.events("deferred") and not house.events("bounced")


def test_a_rate_holds_for_all_domains_behind_an_mx_host(world: World) -> None:
    domains = ["a.example", "b.example", "c.example"]
    with_domains(world, HOP, *domains)
    for domain in domains:
        world.zone[domain, "MX"] = [f"10 in-{domain[0]}.big.example."]
        world.zone[f"in-{domain[0]}.big.example", "A"] = [HOP]
    hop = world.start(CountingHop(HOP, world.port))
    house = relay(world, delivery={"destinations": [{"domains": ["mx:*.big.example"], "rate": 240}]})
    send(house, (f"r{n}@{domain}" for n in range(40) for domain in domains))
    house.wait_for_empty_queue(60)
    assert len(hop.began) == 120
    lasted = hop.began[-1] - hop.began[0]
    assert (120 - 4) / 4 * 0.97 < lasted < (120 - 4) / 4 * 1.08
    for start in hop.began:
        in_ten_seconds = sum(start <= each < start + 10 for each in hop.began)
        assert in_ten_seconds <= 40 + 4 + 1
    half = [each for taken in hop.taken[:60] for each in taken]
    assert min(sum(each.endswith(f"@{domain}") for each in half) for domain in domains) >= 12, "they take turns"
    assert not house.events("deferred")
    assert len(house.events("attempt")) == 120, "nothing was tried in vain"


def test_a_slow_host_of_a_stranger_takes_no_place_of_the_hosts_before_it(world: World) -> None:
    """Whoever owns a domain can have it stand behind the MX hosts of a provider, and wait at a host of his own."""
    with_domains(world, HOP, "a.example")
    world.zone["a.example", "MX"] = ["10 in1.big.example."]
    world.zone["in1.big.example", "A"] = [HOP]
    world.zone["in2.big.example", "A"] = ["127.0.1.3"]  # takes no mail
    world.zone["stranger.example", "MX"] = ["10 in2.big.example.", "20 mx.stranger.example."]
    world.zone["mx.stranger.example", "A"] = [OTHER]
    hop = world.start(CountingHop(HOP, world.port))
    slow = world.start(CountingHop(OTHER, world.port, seconds=600))
    house = relay(world, delivery={"destinations": [{"domains": ["mx:*.big.example"], "concurrency": 1}]})
    send(house, ["u@stranger.example"])
    wait_until(lambda: slow.under_way, "the message of the stranger")
    send(house, (f"r{n}@a.example" for n in range(10)))
    wait_until(lambda: len(hop.taken) == 10, "the mail of the others", 10)
    assert slow.under_way == 1 and hop.most == 1


def test_mail_that_waited_for_a_next_hop_of_yesterday_leaves_by_todays(world: World) -> None:
    with_domains(world, HOP, "a.example")
    hop = world.start(CountingHop(HOP, world.port))
    dead = f"smtp://127.0.1.9:{free_port()}"
    house = relay(world, queue={"retry_min": "1h", "retry_max": "1h"}, delivery={"smarthost": {"url": dead}})
    send(house, (f"r{n}@a.example" for n in range(60)))
    wait_until(lambda: house.has_events("deferred", 60), "a deferral for each")
    assert {each["next_hop"] for each in house.queue()} == {dead}
    text = house.config_file.read_text()
    house.config_file.write_text(
        text.replace(f'["delivery"."smarthost"]\n"url" = "{dead}"\n', "").replace('"1h"', '"1s"')
    )
    assert dead not in house.config_file.read_text()
    os.kill(house.pid, signal.SIGHUP)
    wait_until(lambda: house.events("reloaded"), "the reload")
    assert house.command("queue", "retry", "--all").returncode == 0
    house.wait_for_empty_queue()
    assert sorted(each for taken in hop.taken for each in taken) == sorted(f"r{n}@a.example" for n in range(60))


@pytest.mark.parametrize(
    ("phase", "reply"),
    [
        ("greeting", "554 5.7.1 no mail from your network"),
        ("EHLO", "421 4.7.0 go away"),
        ("MAIL", "451 4.7.1 your network is on our list"),
        ("MAIL", "550 5.7.1 your network is on our list"),
    ],
)
@pytest.mark.timeout(240)
def test_a_next_hop_that_refuses_us_is_tried_once_a_minute_until_it_takes_mail(
    world: World, phase: str, reply: str
) -> None:
    with_domains(world, HOP, "d.example")
    hop = world.start(CountingHop(HOP, world.port, refuse={phase: reply}))
    house = relay(world, workers=1, http={"address": f"127.0.0.1:{free_port()}"})
    for n in range(5):
        send(house, [f"r{n}@d.example"], f"s@origin{n}.example")
    wait_until(lambda: house.events("destination_suspended"), "the suspension", 30)
    (line,) = house.events("destination_suspended")
    assert line["level"] == "warning" and line["destination"] == "d.example" and line["text"] in reply
    assert line["transactions"] >= 5 and line["sender_domains"] >= 3
    assert "srs_relay_destinations_suspended 1.0" in house.http("/metrics")[1]
    tried = hop.connections if phase != "MAIL" else len(hop.began)
    send(house, (f"w{n}@d.example" for n in range(10)))
    time.sleep(20)
    assert (hop.connections if phase != "MAIL" else len(hop.began)) == tried
    assert not [each for each in house.events("bounced") if each["to"][0].startswith("w")]
    hop.refuse.clear()
    wait_until(lambda: house.events("destination_resumed"), "the next try", 60)
    late = {f"w{n}@d.example" for n in range(10)}
    wait_until(lambda: {each for taken in hop.taken for each in taken} >= late, "what waited", 30)
    assert "srs_relay_destinations_suspended 0.0" in house.http("/metrics")[1]
    assert len(house.events("destination_suspended")) == len(house.events("destination_resumed")) == 1
