"""Doubtful mail leaves apart: by its own address and name, within a budget, and what slows it slows no other mail."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.journeys.clients import Answer, Dialogue
from tests.journeys.filters import SpamFilter
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, NEXT, SENDER, World
from tests.peers import free_port, needs, wait_until

pytestmark = pytest.mark.slow

LISTED, APART = "127.0.0.66", "127.0.0.26"
ALIASES = """
alice@fwd.example carol@mailbox.example
angry@fwd.example angry@mailbox.example
both@fwd.example carol@mailbox.example, dave@next.example
dave@fwd.example dave@next.example
"""
MESSAGE = b"From: ann@anywhere.example\r\nTo: alice@fwd.example\r\nSubject: %s\r\n\r\nHi.\r\n"
ORDINARY, OTHER = (FWD, "mx.fwd.example"), (APART, "mx2.fwd.example")
MODES = pytest.mark.parametrize("mode", ["queue", "in-session"])


def relay_with(
    world: World, mode: str = "queue", doubtful: dict[str, Any] | None = None, **tables: Any
) -> RelayProcess:
    """A relay that finds the mail of one client doubtful."""
    world.zone["66.0.0.127.bl.example", "A"] = ["127.0.0.2"]
    section = {"source_ipv4": APART, "helo": "mx2.fwd.example", **(doubtful or {})}
    delivery = {"mode": mode, "doubtful": section, **tables.pop("delivery", {})}
    clients = {"dnsbl": [{"zone": "bl.example"}], "dnsbl_reject": 2}
    return world.relay(aliases=ALIASES, clients=clients, delivery=delivery, **tables)


def send(relay: RelayProcess, source: str, subject: str = "hello", recipient: str = "alice@fwd.example") -> Answer:
    with Dialogue((relay.address, relay.port), source=source) as session:
        return session.deliver("ann@anywhere.example", recipient, MESSAGE % subject.encode())


@MODES
def test_it_leaves_by_its_own_address_and_over_its_own_connections(world: World, mode: str) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay = relay_with(world, mode, workers=1)
    for source in (SENDER, LISTED, SENDER, LISTED):
        assert send(relay, source).code == 250
    relay.wait_for_empty_queue()
    ways = [(one.ip, one.helo) for one in sink.wait(4)]
    assert sorted(ways) == sorted([ORDINARY, OTHER] * 2)
    said = relay.events("doubtful")
    assert len(said) == 2 and all("bl.example" in line["reason"] for line in said)


@needs("rspamd")
def test_what_rspamd_marks_leaves_apart(world: World) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    rspamd = world.start(SpamFilter(world.base / "rspamd"))
    relay = relay_with(world, filter={"rspamd": rspamd.url, "on_failure": "defer"})
    for fields in (b"X-Test-Score: 7\r\n", b"X-Test-Score: 2\r\n"):
        with Dialogue((relay.address, relay.port), source=SENDER) as session:
            message = fields + MESSAGE % b"marked"
            assert session.deliver("ann@anywhere.example", "alice@fwd.example", message).code == 250
    marked, plain = sorted(sink.wait(2), key=lambda one: one.ip, reverse=True)
    assert (marked.ip, b"X-Spam: Yes" in marked.content) == (APART, True)
    assert (plain.ip, b"X-Spam: Yes" in plain.content) == (FWD, False)
    assert relay.events("doubtful")[-1]["reason"] == "rspamd: add header"


def test_a_message_to_several_leaves_apart_to_each_of_them(world: World) -> None:
    sinks = [world.start(RecordingSink(address, world.port)) for address in (MAILBOX, NEXT)]
    relay = relay_with(world, delivery={"destinations": [{"domains": ["next.example"], "helo": "mx3.fwd.example"}]})
    assert send(relay, LISTED, recipient="both@fwd.example").code == 250
    relay.wait_for_empty_queue()
    assert [(one.ip, one.helo) for sink in sinks for one in sink.wait()] == [OTHER, OTHER]
    assert send(relay, SENDER, recipient="both@fwd.example").code == 250
    relay.wait_for_empty_queue()
    assert [sink.wait(2)[-1].helo for sink in sinks] == ["mx.fwd.example", "mx3.fwd.example"]


@MODES
def test_past_the_budget_of_a_destination_it_comes_again(world: World, mode: str) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    world.start(RecordingSink(NEXT, world.port))
    budget = {"messages": 2} if mode == "queue" else 2  # a number alone means messages
    relay = relay_with(world, mode, {"budget": budget}, workers=2, http={"address": f"127.0.0.1:{free_port()}"})
    assert [send(relay, LISTED).code for _ in range(2)] == [250, 250]
    for recipient in ("alice@fwd.example", "both@fwd.example"):
        refused = send(relay, LISTED, recipient=recipient)
        assert refused[:2] == (451, "4.7.1") and recipient in refused.text and "mailbox" not in refused.text
    assert send(relay, SENDER).code == 250, "other mail is not counted"
    (line, _) = relay.events("rate_used_up")
    assert (line["rate"], line["name"], line["what"]) == ("doubtful", "mailbox.example", "messages")
    relay.wait_for_empty_queue()
    metrics = relay.http("/metrics")[1]
    assert 'messages_doubtful_total{fate="put off"} 2.0' in metrics and 'fate="accepted"} 2.0' in metrics


def test_past_the_budget_one_recipient_does_not_hold_up_others_where_lists_know_it(world: World) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    sink = world.start(RecordingSink(NEXT, world.port))
    relay = relay_with(world, doubtful={"budget": {"messages": 1}})
    assert send(relay, LISTED).code == 250
    with Dialogue((relay.address, relay.port), source=LISTED) as session:
        assert session("EHLO client.example").code == session("MAIL FROM:<ann@anywhere.example>").code == 250
        assert session("RCPT TO:<alice@fwd.example>")[:2] == (451, "4.7.1")
        assert session("RCPT TO:<dave@fwd.example>").code == 250
        assert session("DATA").code == 354
        session.send(MESSAGE % b"for one" + b".\r\n")
        assert session.reply().code == 250
    assert [one.recipients for one in sink.wait()] == [("dave@next.example",)]


def test_what_is_refused_for_another_reason_uses_no_budget(world: World) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    limits = {"rates": {"client": {"octets": 5000}}}
    relay = relay_with(world, doubtful={"budget": {"messages": 3}}, limits=limits)
    large = MESSAGE % b"large" + b"x" * 70 + b"\r\n" * 20_000
    with Dialogue((relay.address, relay.port), source=LISTED) as session:
        codes = [session.deliver("ann@anywhere.example", "alice@fwd.example", large).code for _ in range(4)]
    assert codes == [250, 450, 450, 450]
    assert len(relay.events("doubtful")) == 1


@needs("rspamd")
@MODES
def test_past_the_budget_what_rspamd_marks_is_refused_after_data_and_kept_nowhere(world: World, mode: str) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    rspamd = world.start(SpamFilter(world.base / "rspamd"))
    relay = relay_with(world, mode, {"budget": 1}, filter={"rspamd": rspamd.url, "on_failure": "defer"})
    with Dialogue((relay.address, relay.port), source=SENDER) as session:
        for fields, code in ((b"X-Test-Score: 7\r\n", 250), (b"X-Test-Score: 7\r\n", 451), (b"", 250)):
            message = fields + MESSAGE % b"marked"
            assert session.deliver("ann@anywhere.example", "alice@fwd.example", message).code == code
    relay.wait_for_empty_queue()
    assert sorted(one.ip for one in sink.received) == sorted([APART, FWD])


def test_a_next_hop_that_refuses_the_other_address_is_suspended_for_it_alone(world: World) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port, unwelcome={APART: "550 5.7.1 your address is on our list"}))
    relay = relay_with(world, workers=1)
    for n in range(5):
        with Dialogue((relay.address, relay.port), source=LISTED) as session:
            assert session.deliver(f"ann@origin{n}.example", "alice@fwd.example", MESSAGE % b"bad").code == 250
    wait_until(lambda: relay.events("destination_suspended"), "the suspension")
    (line,) = relay.events("destination_suspended")
    assert (line["destination"], line["doubtful"]) == ("mailbox.example", True)
    assert [send(relay, SENDER).code for _ in range(3)] == [250] * 3
    assert {(one.ip, one.helo) for one in sink.wait(3)} == {ORDINARY}
    attempts = [line for line in relay.events("attempt") if line["from"]]  # the others are bounces
    assert {line["hop"] for line in attempts} == {"mailbox.example"}
    assert [line.get("doubtful") for line in attempts][-3:] == [None] * 3 and attempts[0]["doubtful"] is True


def test_a_sender_whose_spf_covers_the_first_address_alone_is_rewritten_where_it_leaves_by_the_other(
    world: World,
) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    world.zone["anywhere.example", "TXT"] = [f'"v=spf1 ip4:{SENDER} ip4:{LISTED} ip4:{FWD} -all"']
    world.zone["everywhere.example", "TXT"] = [f'"v=spf1 ip4:{LISTED} ip4:{APART} -all"']
    routes = {"domains": {"mailbox.example": {"srs": "when-needed", "recipients": "any"}}}
    relay = relay_with(world, routes=routes)
    for source, sender in ((SENDER, "ann@anywhere.example"), (LISTED, "ann@anywhere.example")):
        with Dialogue((relay.address, relay.port), source=source) as session:
            assert session.deliver(sender, "alice@fwd.example", MESSAGE % b"hello").code == 250
    with Dialogue((relay.address, relay.port), source=LISTED) as session:
        assert session.deliver("ann@everywhere.example", "alice@fwd.example", MESSAGE % b"hello").code == 250
    rewritten = {(one.ip, one.sender.partition("=")[0]) for one in sink.wait(3)}
    assert rewritten == {(FWD, "ann@anywhere.example"), (APART, "SRS0"), (APART, "ann@everywhere.example")}


def test_its_rate_holds_up_no_other_mail(world: World) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    destination = {"domains": ["mailbox.example"], "rate": 1000}
    relay = relay_with(world, doubtful={"rate": 1}, delivery={"destinations": [destination]})
    assert [send(relay, LISTED).code for _ in range(3)] == [250] * 3
    assert [send(relay, SENDER).code for _ in range(3)] == [250] * 3
    wait_until(lambda: len(sink.received) == 4, "all that may leave")
    assert sorted(one.ip for one in sink.received) == [FWD] * 3 + [APART]
    assert [row["doubtful"] for row in relay.queue()] == [True, True]


def test_a_pause_by_a_provider_holds_for_it_alone(world: World) -> None:
    refused = {"angry@mailbox.example": "421 4.7.0 we are tired of your spam"}
    sink = world.start(RecordingSink(MAILBOX, world.port, refused=refused))
    rule = {"name": "tired", "text": ["tired of your spam"], "action": "pause", "pause": "1h"}
    relay = relay_with(world, workers=1, delivery={"shaping": [rule]})
    assert send(relay, LISTED, recipient="angry@fwd.example").code == 250
    wait_until(lambda: relay.events("destination_paused"), "the pause")
    assert send(relay, LISTED, "waits").code == 250
    assert [send(relay, SENDER, "passes").code for _ in range(3)] == [250] * 3
    assert {one.ip for one in sink.wait(3)} == {FWD}
    rows = relay.queue()
    assert sorted(row["recipient"] for row in rows) == ["angry@mailbox.example", "carol@mailbox.example"]
    assert all(row["doubtful"] for row in rows) and {row["next_hop"] for row in rows} == {"mailbox.example"}


def test_what_is_queued_leaves_as_the_configuration_of_then_says(world: World) -> None:
    """Doubt survives a restart and a reload; without the table doubtful mail leaves like all other."""
    refused = {"carol@mailbox.example": "450 4.2.0 later"}
    sink = world.start(RecordingSink(MAILBOX, world.port, refused=refused))
    relay = relay_with(world, queue={"retry_min": "5m", "retry_max": "5m"})
    assert [send(relay, LISTED, subject).code for subject in ("one", "two")] == [250, 250]
    wait_until(lambda: relay.has_events("deferred", 2), "the first attempts")
    relay.kill9()
    relay.start()
    one, two = relay.queue()
    sink.refused.clear()
    assert relay.command("queue", "retry", one["id"]).returncode == 0
    assert (sink.wait()[0].ip, sink.received[0].helo) == OTHER
    before, header, rest = relay.config_file.read_text().partition('["delivery"."doubtful"]\n')
    assert header
    after = rest.partition("[")[2]
    relay.config_file.write_text(before + (f"[{after}" if after else ""))
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: relay.events("reloaded"), "the reload")
    assert relay.command("queue", "retry", two["id"]).returncode == 0
    wait_until(lambda: len(sink.received) == 2, "the second message")
    assert (sink.received[1].ip, sink.received[1].helo) == ORDINARY
