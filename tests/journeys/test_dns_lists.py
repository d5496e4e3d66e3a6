"""DNS lists at the SMTP door: who is refused, who never is, and lists that cannot be believed."""

from __future__ import annotations

import asyncio
import smtplib
import time
from collections.abc import Iterator

import pytest

from tests.dns_lists.lists_server import ListServer
from tests.journeys.loop_thread import LoopThread
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, SENDER, World
from tests.peers import free_port, wait_until

pytestmark = pytest.mark.slow

MESSAGE = "From: ann@sender.example\r\nTo: alice@fwd.example\r\nSubject: hello\r\n\r\nHi.\r\n"
ALICE, POSTMASTER = "alice@fwd.example", "postmaster@fwd.example"
ALIASES = f"{ALICE} carol@mailbox.example\n{POSTMASTER} dan@mailbox.example\n"
SPAMMER, TRUSTED = "127.0.0.66", "127.0.0.21"
LISTS = {
    ("66.0.0.127.bl.example", "A"): ["127.0.0.4"],
    ("66.0.0.127.bl.example", "TXT"): ['"see https://bl.example/?127.0.0.66"'],
    ("21.0.0.127.bl.example", "A"): ["127.0.0.4"],
    ("66.0.0.127.other.example", "A"): ["127.0.0.20"],
    ("spam.example.dbl.example", "A"): ["127.0.1.2"],
}
FAULTY = {
    "dead.example": "dead",
    "servfail.example": "servfail",
    "blocked.example": "127.255.255.254",
    "everything.example": "127.0.0.2",
    "parked.example": "203.0.113.5",
}
BL = {"zone": "bl.example", "answers": ["127.0.0.2-11"]}
REFUSED = (
    "550 5.7.1 Service unavailable; client [127.0.0.66] blocked using bl.example; see https://bl.example/?127.0.0.66"
)


class Lists:
    """A `ListServer` in a thread of its own."""

    def __init__(self, world: World) -> None:
        self.server = ListServer({**world.zone, **LISTS}, dict(FAULTY))
        self.endpoint = ""
        self._loop = LoopThread()

    def start(self) -> None:
        self._loop.start()
        host, port = self._loop.run(self.server.start())
        self.endpoint = f"{host}:{port}"

    def stop(self) -> None:
        self._loop.run(self.server.close())
        self._loop.stop()


@pytest.fixture
def lists(world: World) -> Iterator[Lists]:
    yield world.start(Lists(world))


def relay_with(world: World, lists: Lists, mode: str = "queue", workers: int = 2, **clients: object) -> RelayProcess:
    return world.relay(
        workers=workers,
        aliases=ALIASES,
        dns={"nameservers": [lists.endpoint], "timeout": "2s"},
        delivery={"mode": mode},
        http={"address": f"127.0.0.1:{free_port()}"},
        clients={"trusted": [TRUSTED], **clients},
    )


def reply(
    port: int, source: str = SENDER, sender: str = "", recipient: str = ALICE, helo: str = "client.example"
) -> str:
    """What a client hears that sends one message: the first refusal, or the last reply."""
    with smtplib.SMTP(FWD, port, source_address=(source, 0), timeout=30) as client:
        client.ehlo(helo)
        for code, text in (client.mail(sender), client.rcpt(recipient)):
            if code >= 300:
                return f"{code} {text.decode()}"
        code, text = client.data(MESSAGE)
        return f"{code} {text.decode()}"


@pytest.mark.parametrize("mode", ["queue", "in-session"])
def test_who_is_refused_and_who_never_is(world: World, lists: Lists, mode: str) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    names = {"zone": "dbl.example", "names": True}
    relay = relay_with(world, lists, mode, dnsbl=[BL, {**BL, "zone": "other.example"}, names])
    assert reply(world.port, SPAMMER) == REFUSED
    refused = reply(world.port, sender="x@spam.example")
    assert refused == "550 5.7.1 Service unavailable; sender domain spam.example blocked using dbl.example"
    refused = reply(world.port, helo="spam.example")
    assert refused == "550 5.7.1 Service unavailable; HELO name spam.example blocked using dbl.example"
    taken = [
        reply(world.port),
        reply(world.port, TRUSTED),
        reply(world.port, TRUSTED, sender="x@spam.example", helo="spam.example"),
        reply(world.port, SPAMMER, recipient=POSTMASTER),
    ]
    assert [text[:4] for text in taken] == ["250 "] * 4
    wait_until(lambda: len(sink.received) == 4, "what was taken")
    assert [line["lists"] for line in relay.events("dns_listed")] == [["bl.example"], ["dbl.example"], ["dbl.example"]]
    _, page = relay.http("/metrics")
    assert 'srs_relay_dns_list_lookups_total{result="listed",zone="bl.example"} 1.0' in page.replace(
        'zone="bl.example",result="listed"', 'result="listed",zone="bl.example"'
    )


@pytest.mark.parametrize("zone", FAULTY)
def test_a_list_that_cannot_be_believed_refuses_nobody_and_is_loud(world: World, lists: Lists, zone: str) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay = relay_with(world, lists, dnsbl=[{"zone": zone}, {"zone": zone, "names": True}])
    assert [reply(world.port, source)[:4] for source in (SENDER, SPAMMER, SENDER)] == ["250 "] * 3
    wait_until(lambda: len(sink.received) == 3, "what was taken")
    failed = relay.events("dns_list_failed")
    assert failed and {(line["zone"], line["level"]) for line in failed} == {(zone, "error")}
    assert len(failed) <= 2 * len(relay.workers()), "once for each kind of list in a process"
    check = relay.command("check", "--only", "dnsbl")
    assert check.returncode == 1 and zone in check.stdout


def test_a_list_with_a_fault_recovers(world: World, lists: Lists) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    lists.server.faulty["bl.example"] = "servfail"
    relay = relay_with(world, lists, workers=1, dnsbl=[BL])
    assert reply(world.port, SPAMMER).startswith("250 ")
    del lists.server.faulty["bl.example"]
    wait_until(lambda: reply(world.port, SPAMMER) == REFUSED, "the list to be believed again")
    assert relay.events("dns_list_recovered")


def test_a_crowd_of_strangers_at_dead_lists_holds_up_no_trusted_mail(world: World, lists: Lists) -> None:
    """All strangers are taken, trusted mail goes on meanwhile, and the dead lists get a handful of questions."""
    crowd, dead = 300, [{"zone": f"{name}.dead.example"} for name in ("a", "b", "c")]
    world.start(RecordingSink(MAILBOX, world.port))
    relay = world.relay(
        aliases=ALIASES,
        dns={"nameservers": [lists.endpoint], "timeout": "2s"},
        clients={"trusted": [TRUSTED], "dnsbl": dead},
        limits={"connections": 2000, "connections_per_client": 1000},
    )

    async def stranger() -> str:
        reader, writer = await asyncio.open_connection(FWD, world.port, local_addr=(SENDER, 0))
        try:
            line = await reader.readline()
            for command in ("HELO client.example", "MAIL FROM:<>", f"RCPT TO:<{ALICE}>"):
                writer.write(f"{command}\r\n".encode())
                line = await reader.readline()
            return line.decode()
        finally:
            writer.close()

    async def meet() -> tuple[list[str], list[str], list[float]]:
        strangers = [asyncio.create_task(stranger()) for _ in range(crowd)]
        trusted, took = list[str](), list[float]()
        while not all(task.done() for task in strangers) or not trusted:
            began = time.monotonic()
            trusted.append(await asyncio.to_thread(reply, world.port, TRUSTED))
            took.append(time.monotonic() - began)
        return [await task for task in strangers], trusted, took

    strangers, trusted, took = asyncio.run(meet())
    assert {text[:4] for text in strangers} == {"250 "}
    assert {text[:4] for text in trusted} == {"250 "}
    assert sorted(took)[len(took) // 2] < 1.0, "the lists have a limit of several seconds; trusted mail waits for none"
    asked = [question for question in lists.server.asked if "dead.example" in question]
    assert len(asked) <= 60 * len(relay.workers()), "a few questions with their repetitions, not one for each stranger"
    assert {line["zone"] for line in relay.events("dns_list_failed")} == {entry["zone"] for entry in dead}
