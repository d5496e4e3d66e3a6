"""Providers that throttle or refuse this host: their mail slows down or waits, and nobody else's."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.counting_hop import CountingHop
from tests.journeys.relay_process import RelayProcess
from tests.journeys.test_shaping import CONTENT, send
from tests.journeys.world import World
from tests.peers import free_port, wait_until

pytestmark = pytest.mark.slow

BIG, SMALL, STRANGER = "127.0.1.1", "127.0.1.2", "127.0.1.3"
WAIT = "421 4.7.0 [W1] Messages from 192.0.2.25 deferred, wait"
BLOCKED = "550 5.7.1 [B1] part of your network is blocked"
TOO_FAST = "451 4.7.0 [S1] too fast, slow down"
RULES: list[dict[str, Any]] = [
    {"name": "wait", "provider": "big", "mx": ["*.big.example"], "text": ["[W1]"], "action": "pause", "pause": "6s"},
    {"name": "blocked", "provider": "big", "text": ["[B1]"], "action": "block", "pause": "6s"},
    {"name": "fast", "provider": "big", "text": ["[S1]"], "action": "slow"},
]


def internet(world: World) -> None:
    """Two domains at one provider, one at another, and one of a stranger with a host of his own."""
    for domain, host, address in (
        ("a.example", "in-a.big.example", BIG),
        ("b.example", "in-b.big.example", BIG),
        ("late.example", "in-late.big.example", BIG),
        ("c.example", "in.small.example", SMALL),
        ("stranger.example", "in.big.example.stranger.example", STRANGER),
    ):
        world.zone[domain, "MX"] = [f"10 {host}."]
        world.zone[host, "A"] = [address]
        world.zone[domain, "TXT"] = ['"v=spf1 ip4:127.0.0.1 -all"']


def relay(world: World, rules: list[dict[str, Any]] | None = None, **tables: Any) -> RelayProcess:
    delivery = {"shaping": RULES if rules is None else rules, **tables.pop("delivery", {})}
    return world.relay(**{"clients": {"trusted": ["127.0.0.1"]}, "workers": 1, "delivery": delivery, **tables})


def taken(hop: CountingHop) -> set[str]:
    return {each for recipients in hop.taken for each in recipients}


def send_one(relay: RelayProcess, recipient: str) -> str:
    """Send a message; the reply to its final dot."""
    with Dialogue((relay.address, relay.port)) as session:
        session("EHLO mx.sender.example")
        session("MAIL FROM:<ann@sender.example>")
        session(f"RCPT TO:<{recipient}>")
        session("DATA")
        session.send(CONTENT + b".\r\n")
        return str(session.reply())


def test_a_pause_holds_for_the_domains_of_a_provider_and_for_nobody_else(world: World) -> None:
    internet(world)
    big, small = world.start(CountingHop(BIG, world.port)), world.start(CountingHop(SMALL, world.port))
    house = relay(world, http={"address": f"127.0.0.1:{free_port()}"})
    send(house, ["first@a.example", "first@b.example", "first@c.example"])
    wait_until(lambda: len(big.taken) == 2 and len(small.taken) == 1, "what goes well")
    big.refuse["MAIL"] = WAIT
    send(house, ["second@a.example"])
    wait_until(lambda: house.events("destination_paused"), "the pause")
    (line,) = house.events("destination_paused")
    assert line["level"] == "warning" and (line["destination"], line["hop"]) == ("big", "a.example")
    assert (line["rule"], line["code"], line["status"], line["places"]) == ("wait", 421, "4.7.0", 1)
    assert line["host"] == "in-a.big.example" and line["until"] and line["id"]
    until = time.time() + 5.5
    tried = len(big.began)
    waiting = {f"w{n}@{domain}" for n in range(5) for domain in ("a.example", "b.example", "late.example")}
    send(house, sorted(waiting))
    send(house, ["third@c.example"])
    wait_until(lambda: "third@c.example" in taken(small), "the mail of the other provider")
    assert "srs_relay_destinations_slowed 1.0" in house.http("/metrics")[1]
    assert 'srs_relay_destination_shaped_total{action="pause",destination="other"} 1.0' in house.http("/metrics")[1]
    big.refuse.clear()
    while time.time() < until - 1:
        assert len(big.began) == tried, "nothing is tried, not even a domain that nothing was sent to before"
        time.sleep(0.1)
    house.wait_for_empty_queue(60)
    assert taken(big) >= waiting | {"second@a.example"} and len(big.taken) == 2 + 15 + 1, "each once"
    wait_until(lambda: house.events("destination_recovered"), "the recovery")
    (line,) = house.events("destination_recovered")
    assert line["destination"] == "big" and 5 <= line["after"] <= 60
    assert "srs_relay_destinations_slowed 0.0" in house.http("/metrics")[1]
    assert not house.events("bounced")


def test_a_block_bounces_what_got_it_and_keeps_the_rest(world: World) -> None:
    internet(world)
    big = world.start(CountingHop(BIG, world.port))
    house = relay(world)
    send(house, ["first@a.example"])
    wait_until(lambda: big.taken, "what goes well")
    big.refuse["MAIL"] = BLOCKED
    send(house, ["second@a.example"])
    wait_until(lambda: house.events("destination_blocked"), "the block")
    (line,) = house.events("destination_blocked")
    assert line["level"] == "error" and line["rule"] == "blocked" and line["mend"] and line["code"] == 550
    wait_until(lambda: house.events("bounced"), "the bounce of the one message")
    waiting = {f"w{n}@{domain}" for n in range(10) for domain in ("a.example", "b.example")}
    send(house, sorted(waiting))
    time.sleep(2)
    assert [event["to"] for event in house.events("bounced")] == [["second@a.example"]]
    big.refuse.clear()
    wait_until(lambda: taken(big) >= waiting, "what waited", 60)
    assert len(house.events("bounced")) == 1


@pytest.mark.parametrize("command", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("mode", ["queue", "in-session"])
def test_a_reply_of_several_lines_pauses_the_provider_wherever_it_comes(world: World, command: str, mode: str) -> None:
    internet(world)
    reply = "421-4.7.0 [192.0.2.25      15] our system has seen too much,\r\n421 4.7.0 [W1] wait"
    big = world.start(CountingHop(BIG, world.port, refuse={command: reply}))
    house = relay(world, delivery={"mode": mode})
    send(house, ["first@a.example"])
    wait_until(lambda: house.events("destination_paused"), "the pause")
    (line,) = house.events("destination_paused")
    assert (line["destination"], line["code"], line["status"]) == ("big", 421, "4.7.0")
    assert line["text"] == "[192.0.2.25      15] our system has seen too much, [W1] wait"
    connections = big.connections
    send(house, ["second@b.example"])
    time.sleep(1)
    assert big.connections == connections, "the other domain of the provider waits with it"
    big.refuse.clear()
    house.wait_for_empty_queue(60)
    assert sorted(big.taken) == [("first@a.example",), ("second@b.example",)]
    assert not house.events("bounced")


@pytest.mark.parametrize("mode", ["queue", "in-session"])
def test_what_waits_for_a_connection_does_not_run_into_a_block(world: World, mode: str) -> None:
    """At full width there are 20 transactions, and as many that wait for one of their connections."""
    internet(world)
    big = world.start(CountingHop(BIG, world.port, seconds=1.0))
    house = relay(world, delivery={"mode": mode})
    recipients = {f"r{n}@a.example" for n in range(120)}
    send(house, sorted(recipients))
    wait_until(lambda: big.under_way >= 20, "the full width")
    big.refuse["MAIL"], big.seconds = BLOCKED, 0.1
    wait_until(lambda: house.events("destination_blocked"), "the block")
    time.sleep(2)
    bounced = {recipient for event in house.events("bounced") for recipient in event["to"]}
    assert 1 <= len(bounced) < 20, "what has a connection may hear the reply, and what waited does not"
    big.refuse.clear()
    wait_until(lambda: taken(big) == recipients - bounced, "the rest", 90)
    assert len(big.taken) == len(recipients) - len(bounced)


def test_a_block_before_any_mail_bounces_nothing(world: World) -> None:
    internet(world)
    blocked = "554-big.example no service\r\n554-[B1] address is block listed\r\n554 see our page"
    big = world.start(CountingHop(BIG, world.port, refuse={"greeting": blocked}))
    house = relay(world)
    recipients = {f"w{n}@{domain}" for n in range(5) for domain in ("a.example", "b.example")}
    send(house, sorted(recipients))
    wait_until(lambda: house.events("destination_blocked"), "the block")
    big.refuse.clear()
    house.wait_for_empty_queue(90)
    assert taken(big) == recipients and len(big.taken) == len(recipients)
    assert not house.events("bounced")


def test_a_provider_that_is_overrun_gets_less_at_once_and_then_more_again(world: World) -> None:
    internet(world)
    big = world.start(CountingHop(BIG, world.port, seconds=1.0))
    small = world.start(CountingHop(SMALL, world.port, seconds=0.1))
    house = relay(world)
    send(house, (f"r{n}@{domain}" for n in range(120) for domain in ("a.example", "c.example")))
    wait_until(lambda: big.most >= 10, "many at once")
    big.refuse["MAIL"], big.seconds = TOO_FAST, 0.1
    wait_until(lambda: house.events("destination_slowed"), "the slowing")
    big.refuse.clear()
    (line, *_) = house.events("destination_slowed")
    assert 2 <= line["places"] <= 10 and line.get("until") is None, "half of 20 at most; the numbers have unit tests"
    house.wait_for_empty_queue(60)
    send(house, (f"s{n}@a.example" for n in range(150)))
    wait_until(lambda: house.events("destination_recovered"), "the recovery", 60)
    house.wait_for_empty_queue(60)
    assert taken(big) == {f"r{n}@a.example" for n in range(120)} | {f"s{n}@a.example" for n in range(150)}
    assert small.most >= 10 and not house.events("bounced")


def test_a_stranger_who_speaks_like_the_provider_slows_only_himself(world: World) -> None:
    internet(world)
    big = world.start(CountingHop(BIG, world.port))
    liar = world.start(CountingHop(STRANGER, world.port, refuse={"MAIL": WAIT}))
    house = relay(world)
    send(house, ["first@a.example"])
    send(house, (f"x{n}@stranger.example" for n in range(3)))
    wait_until(lambda: house.has_events("deferred", 2) and liar.began, "the lie")
    send(house, (f"w{n}@a.example" for n in range(5)))
    wait_until(lambda: len(big.taken) == 6, "the mail of the provider", 5)
    assert not house.events("destination_paused")


def test_a_paused_provider_is_not_asked_in_the_session(world: World) -> None:
    internet(world)
    big = world.start(CountingHop(BIG, world.port))
    house = relay(world, delivery={"mode": "in-session"})
    assert "queued as" in send_one(house, "u@a.example")
    wait_until(lambda: big.taken, "the first message")
    assert "delivered as" in send_one(house, "u@a.example")
    big.refuse["MAIL"] = WAIT
    assert "queued as" in send_one(house, "u@a.example"), "its own reply puts it off"
    wait_until(lambda: house.events("destination_paused"), "the pause")
    tried = len(big.began)
    big.refuse.clear()
    assert "queued as" in send_one(house, "u@a.example")
    assert len(big.began) == tried
    house.wait_for_empty_queue(60)
    assert len(big.taken) == 4
    wait_until(lambda: "delivered as" in send_one(house, "u@a.example"), "delivery in the session again", 30)


def test_a_reload_forgets_what_was_learned_and_follows_the_new_rules(world: World) -> None:
    internet(world)
    big = world.start(CountingHop(BIG, world.port, refuse={"MAIL": WAIT}))
    rules = [{**RULES[0], "pause": "3h"}]
    house = relay(world, rules)
    send(house, ["u@a.example"])
    wait_until(lambda: house.events("destination_paused"), "the pause")
    text = house.config_file.read_text()
    assert '"3h"' in text
    house.config_file.write_text(text.replace('"pause"\n', '"ignore"\n'))
    os.kill(house.pid, signal.SIGHUP)
    wait_until(lambda: house.events("reloaded"), "the reload")
    tried = len(big.began)
    wait_until(lambda: len(big.began) >= tried + 2, "attempts again")
    big.refuse.clear()
    house.wait_for_empty_queue(60)
    assert len(house.events("destination_paused")) == 1


def test_two_processes_both_hold_back(world: World) -> None:
    internet(world)
    big = world.start(CountingHop(BIG, world.port, refuse={"MAIL": WAIT}))
    house = relay(world, workers=2)
    recipients = {f"r{n}@{domain}" for n in range(30) for domain in ("a.example", "b.example")}
    send(house, sorted(recipients))
    wait_until(lambda: house.events("destination_paused"), "the pause")
    time.sleep(3)
    assert len(big.began) <= 2 * 2 * 5 + 2, "what had begun when the first reply came: five in each process and domain"
    big.refuse.clear()
    house.wait_for_empty_queue(90)
    assert taken(big) == recipients and len(big.taken) == len(recipients)
