"""What goes wrong at a next hop, phase by phase: the outcome, and what the agent does next."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import pytest

from relay.deliver.host_failover import Job
from relay.dns import DnsFailure
from relay.mail.outcome import Outcome
from relay.network import endpoint
from tests.deliver.scripted import DEAF, FINE, HANG_UP, STALL, Part, Play, ScriptedServer, Session
from tests.deliver.sending import CONTENT, Sender, Zone, agent, hop, job
from tests.peers import free_port

Next = Literal["next host", "stops"]
After = Literal["new", "RSET", "MAIL"]  # what the next message finds: a new connection, or the same one and its state

NOBODY = "127.0.0.66"  # no server listens there


class Case(NamedTuple):
    """What the first of two MX hosts does, and what comes of it."""

    phase: str
    play: Play
    status: str
    code: int
    enhanced: str
    then: Next
    after: After
    offers: tuple[str, ...] = ("PIPELINING", "ENHANCEDSTATUSCODES")
    patience: Mapping[str, str] = MappingProxyType({})


SHORT = "300ms"
CASES = [
    Case("greeting", "421 4.3.2 busy", "deferred", 421, "4.3.2", "next host", "new"),
    Case("greeting", "450 later", "deferred", 450, "4.2.0", "next host", "new"),
    Case("greeting", "554 5.7.1 not you", "deferred", 554, "4.7.1", "next host", "new"),
    Case("greeting", "SSH-2.0-OpenSSH", "deferred", 451, "4.5.0", "next host", "new"),
    Case("greeting", "250 wrong code", "deferred", 451, "4.5.0", "next host", "new"),
    Case("greeting", HANG_UP, "deferred", 451, "4.4.2", "next host", "new"),
    Case("greeting", STALL, "deferred", 451, "4.4.2", "next host", "new", patience={"helo_timeout": SHORT}),
    Case("EHLO", "421 4.7.0 go away", "deferred", 421, "4.7.0", "next host", "new"),
    Case("EHLO", "450 4.7.1 later", "deferred", 450, "4.7.1", "next host", "new"),
    Case("EHLO", "554 5.7.1 not you", "deferred", 554, "4.7.1", "next host", "new"),
    Case("EHLO", "521 5.3.2 no mail here", "deferred", 521, "4.3.2", "next host", "new"),
    Case("EHLO", ("550 5.7.1 bad name", HANG_UP), "deferred", 550, "4.7.1", "next host", "new"),
    Case("EHLO", "what?", "deferred", 451, "4.5.0", "next host", "new"),
    Case("EHLO", "220 again", "deferred", 451, "4.5.0", "next host", "new"),
    Case("EHLO", HANG_UP, "deferred", 451, "4.4.2", "next host", "new"),
    Case("EHLO", ("250-half", HANG_UP), "deferred", 451, "4.4.2", "next host", "new"),
    Case("EHLO", STALL, "deferred", 451, "4.4.2", "next host", "new", patience={"helo_timeout": SHORT}),
    Case("MAIL", "421 4.4.2 bye", "deferred", 421, "4.4.2", "next host", "new"),
    Case("MAIL", "451 4.7.1 greylisted", "deferred", 451, "4.7.1", "stops", "RSET"),
    Case("MAIL", "550 5.7.1 sender refused", "failed", 550, "5.7.1", "stops", "RSET"),
    Case("MAIL", "530 5.7.0 Must issue a STARTTLS command first", "deferred", 530, "4.7.0", "next host", "new"),
    Case("MAIL", "503 5.5.1 EHLO first", "deferred", 503, "4.5.1", "next host", "new"),
    Case("MAIL", "550 5.7.10 Encryption needed", "deferred", 550, "4.7.10", "next host", "new"),
    Case("MAIL", "502 not here", "deferred", 502, "4.5.1", "next host", "new"),
    Case("MAIL", "501 5.5.4 what is SIZE", "failed", 501, "5.5.4", "stops", "RSET"),
    Case("MAIL", "552 too big", "failed", 552, "5.3.4", "stops", "RSET"),
    Case("MAIL", "354 what", "deferred", 451, "4.5.0", "next host", "new"),
    Case("MAIL", "\0\0\0\0", "deferred", 451, "4.5.0", "next host", "new"),
    Case("MAIL", HANG_UP, "deferred", 451, "4.4.2", "next host", "new"),
    Case("MAIL", STALL, "deferred", 451, "4.4.2", "next host", "new", patience={"command_timeout": SHORT}),
    Case("RCPT", "421 4.4.2 bye", "deferred", 421, "4.4.2", "next host", "new"),
    Case("RCPT", "450 4.2.1 later", "deferred", 450, "4.2.1", "stops", "RSET"),
    Case("RCPT", "452 too many", "deferred", 452, "4.5.3", "stops", "RSET"),
    Case("RCPT", "550 5.1.1 unknown", "failed", 550, "5.1.1", "stops", "RSET"),
    Case("RCPT", "530 5.7.1 Authentication required", "deferred", 530, "4.7.1", "next host", "new"),
    Case("RCPT", "535 5.7.8 wrong password", "deferred", 535, "4.7.8", "next host", "new"),
    Case("RCPT", "554 5.7.1 Relay access denied", "failed", 554, "5.7.1", "stops", "RSET"),
    Case("RCPT", "552 5.5.3 too many", "deferred", 552, "4.5.3", "stops", "RSET"),
    Case("RCPT", "25x", "deferred", 451, "4.5.0", "next host", "new"),
    Case("RCPT", HANG_UP, "deferred", 451, "4.4.2", "next host", "new"),
    Case("RCPT", STALL, "deferred", 451, "4.4.2", "next host", "new", patience={"command_timeout": SHORT}),
    Case("DATA", "421 4.4.2 bye", "deferred", 421, "4.4.2", "next host", "new"),
    Case("DATA", "451 4.3.0 later", "deferred", 451, "4.3.0", "stops", "RSET"),
    Case("DATA", "503 bad sequence", "deferred", 503, "4.5.1", "next host", "new"),
    Case("DATA", "538 5.7.11 Encryption required", "deferred", 538, "4.7.11", "next host", "new"),
    Case("DATA", "554 5.7.1 no", "failed", 554, "5.7.1", "stops", "RSET"),
    Case("DATA", "250 at once", "deferred", 451, "4.5.0", "next host", "new"),
    Case("DATA", HANG_UP, "deferred", 451, "4.4.2", "next host", "new"),
    Case("DATA", STALL, "deferred", 451, "4.4.2", "next host", "new", patience={"data_timeout": SHORT}),
    Case("body", HANG_UP, "deferred", 451, "4.4.2", "next host", "new"),
    Case("body", "421 4.3.0 going down", "deferred", 421, "4.3.0", "next host", "new"),
    Case("body", "552 5.3.4 enough", "failed", 552, "5.3.4", "stops", "new"),
    Case("body", "451 4.3.1 disk full", "deferred", 451, "4.3.1", "stops", "new"),
    Case("body", "250 taken before the end", "deferred", 451, "4.5.0", "next host", "new"),
    Case("body", DEAF, "deferred", 451, "4.4.2", "next host", "new", patience={"data_timeout": SHORT}),
    Case("dot", "421 4.3.0 going down", "deferred", 421, "4.3.0", "next host", "new"),
    Case("dot", "451 4.7.1 later", "deferred", 451, "4.7.1", "stops", "MAIL"),
    Case("dot", "554 5.7.1 spam", "failed", 554, "5.7.1", "stops", "MAIL"),
    Case("dot", "530 5.7.1 not for you", "failed", 530, "5.7.1", "stops", "MAIL"),
    Case("dot", "354 again", "deferred", 451, "4.5.0", "stops", "new"),
    Case("dot", "ok", "deferred", 451, "4.5.0", "stops", "new"),
    Case("dot", HANG_UP, "deferred", 451, "4.4.2", "stops", "new"),
    Case("dot", STALL, "deferred", 451, "4.4.2", "stops", "new", patience={"final_timeout": SHORT}),
]
FROM_MAIL_ON = [case for case in CASES if case.phase not in ("greeting", "EHLO")]


def named(case: Case) -> str:
    return f"{case.phase}-{case.play}".replace(" ", "_")


def mx_zone(*addresses: str) -> Zone:
    names = [f"mx{n}.test" for n in range(len(addresses))]
    return {
        ("d.test", "MX"): [(n, name) for n, name in enumerate(names)],
        **{(name, "A"): [address] for name, address in zip(names, addresses, strict=True)},
    }


@asynccontextmanager
async def two_hosts(first: ScriptedServer, second: ScriptedServer, **delivery: Any) -> AsyncIterator[Sender]:
    """An agent for d.test, whose MX they are."""
    zone = mx_zone("127.0.0.1", "127.0.0.2")
    async with (
        first("127.0.0.1"),
        second("127.0.0.2", first.port),
        agent(zone, port=first.port, **delivery) as sender,
    ):
        yield sender


def message_for(case: Case) -> Job:
    """A message whose first content, where the body matters, has no end: the server has to act before it."""
    attempts = itertools.count()

    def content() -> Iterable[bytes]:
        return itertools.repeat(CONTENT) if case.phase == "body" and next(attempts) == 0 else [CONTENT]

    return job(content=content)


async def gone(session: Session, case: Case) -> None:
    """Wait for the end of a connection, which a server that is deaf does not hear."""
    if case.play is not DEAF:
        await asyncio.wait_for(session.over.wait(), 5)


async def check_outcome(case: Case) -> None:
    """With one host: the outcome, and what the next message to the same next hop finds."""
    part: Part = [case.play, FINE]
    server = ScriptedServer(offers=case.offers, body_octets=1, script={case.phase: part})
    async with server(), agent(mx_zone("127.0.0.1"), port=server.port, **case.patience) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, message_for(case))
        assert (outcome.status, outcome.code, outcome.enhanced) == (case.status, case.code, case.enhanced)
        assert (outcome.host, outcome.address) == ("mx0.test", "127.0.0.1")
        assert outcome.remote == (outcome.code != 451 or str(case.play).startswith("451"))
        before = len(server.sessions[0].commands)
        if case.after == "new":
            await gone(server.sessions[0], case)
        (second,) = await sender.deliver_to("d.test", None, job())
        assert second.status == "delivered"
        assert len(server.sessions) == (2 if case.after == "new" else 1)
        if case.after != "new":
            assert server.sessions[0].verbs()[before] == case.after


async def check_next(case: Case) -> None:
    """With two hosts: whether the second is asked."""
    bad = ScriptedServer(offers=case.offers, body_octets=1, script={case.phase: case.play})
    good = ScriptedServer()
    async with two_hosts(bad, good, **case.patience) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, message_for(case))
    assert len(bad.sessions) == 1
    if case.then == "next host":
        assert (outcome.status, outcome.host, outcome.address) == ("delivered", "mx1.test", "127.0.0.2")
        assert len(good.contents) == 1
    else:
        assert (outcome.status, outcome.host) == (case.status, "mx0.test")
        assert good.sessions == []


@pytest.mark.parametrize("case", CASES, ids=named)
async def test_what_goes_wrong(case: Case) -> None:
    async with asyncio.timeout(20):
        await asyncio.gather(check_outcome(case), check_next(case))


@pytest.mark.parametrize("case", FROM_MAIL_ON, ids=named)
async def test_what_goes_wrong_without_pipelining(case: Case) -> None:
    case = case._replace(offers=("ENHANCEDSTATUSCODES",))
    async with asyncio.timeout(20):
        await asyncio.gather(check_outcome(case), check_next(case))


# connecting


async def test_a_connection_refused_goes_on_to_the_next_host() -> None:
    good = ScriptedServer()
    async with good("127.0.0.2"), agent(mx_zone(NOBODY, "127.0.0.2"), port=good.port) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert (outcome.status, outcome.host) == ("delivered", "mx1.test")


async def test_a_connection_refused_by_all_is_a_deferral() -> None:
    async with agent(mx_zone(NOBODY, "127.0.0.67"), port=1) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert (outcome.status, outcome.code, outcome.enhanced) == ("deferred", 451, "4.4.1")
    assert (outcome.host, outcome.address) == ("mx1.test", "127.0.0.67")
    assert "refused" in outcome.text.lower()


@contextmanager
def mute_port() -> Iterator[int]:
    """A port whose queue of connections is full: a SYN to it gets no answer."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind((NOBODY, free_port()))
        listener.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_host_that_does_not_answer_is_left_in_time() -> None:
    good = ScriptedServer()
    with mute_port() as port:
        async with good("127.0.0.2", port):
            async with agent(mx_zone(NOBODY), port=port, connect_timeout=SHORT) as sender:
                (outcome,) = await sender.deliver_to("d.test", None, job())
            assert (outcome.status, outcome.enhanced, outcome.text) == ("deferred", "4.4.1", "connection timed out")
            async with agent(mx_zone(NOBODY, "127.0.0.2"), port=port, connect_timeout=SHORT) as sender:
                (outcome,) = await sender.deliver_to("d.test", None, job())
            assert outcome.status == "delivered"


async def test_ipv6_is_tried_and_ipv4_takes_over() -> None:
    server = ScriptedServer()
    zone: Zone = {("d.test", "AAAA"): ["::1"], ("d.test", "A"): ["127.0.0.1"]}
    async with server(), agent(zone, port=server.port) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert (outcome.status, outcome.address) == ("delivered", "127.0.0.1")


async def test_ipv6_carries_mail() -> None:
    server = ScriptedServer()
    async with server("::1"), agent({("d.test", "AAAA"): ["::1"]}, port=server.port) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert (outcome.status, outcome.address) == ("delivered", "::1")


# several recipients over several hosts


async def test_what_is_settled_at_one_host_stays_and_the_rest_goes_on() -> None:
    answers = {"RCPT TO:<a@d.test>": "550 5.1.1 no", "RCPT TO:<b@d.test>": "250 ok"}
    bad = ScriptedServer(RCPT=lambda line: answers.get(line, "421 4.3.2 bye"))
    good = ScriptedServer()
    async with two_hosts(bad, good) as sender:
        outcomes = await sender.deliver_to("d.test", None, job("a@d.test", "b@d.test", "c@d.test"))
    assert [(o.status, o.host) for o in outcomes] == [
        ("failed", "mx0.test"),
        ("delivered", "mx1.test"),
        ("delivered", "mx1.test"),
    ]
    assert [line for line in good.commands if "RCPT" in line] == ["RCPT TO:<b@d.test>", "RCPT TO:<c@d.test>"]


@pytest.mark.parametrize("offers", [("PIPELINING",), ()])
async def test_a_recipient_for_whom_our_session_is_not_good_enough_costs_the_others_nothing(
    offers: tuple[str, ...],
) -> None:
    answers = {"RCPT TO:<b@d.test>": "530 5.7.1 Authentication required", "RCPT TO:<c@d.test>": "550 5.1.1 no"}
    strict, good = ScriptedServer(offers=offers, RCPT=lambda line: answers.get(line, "250 ok")), ScriptedServer()
    async with two_hosts(strict, good) as sender:
        outcomes = await sender.deliver_to("d.test", None, job("a@d.test", "b@d.test", "c@d.test"))
    assert [(o.status, o.host) for o in outcomes] == [
        ("delivered", "mx0.test"),
        ("delivered", "mx1.test"),
        ("failed", "mx0.test"),
    ]
    assert [line for line in good.commands if "RCPT" in line] == ["RCPT TO:<b@d.test>"]


async def test_a_recipient_refused_for_our_session_is_not_said_to_have_got_the_message() -> None:
    strict = ScriptedServer(RCPT=lambda line: "530 no" if "<b@" in line else "250 ok", dot=HANG_UP)
    async with strict(), agent() as sender:
        first, second = await sender.deliver_to("d.test", hop(strict.port), job("a@d.test", "b@d.test"))
    assert "may have arrived" in first.text
    assert (second.status, second.code) == ("deferred", 530)


async def test_a_smarthost_that_wants_credentials_defers() -> None:
    async with behind_a_smarthost(ScriptedServer(MAIL="530 5.7.0 Authentication required")) as sender:
        (outcome,) = await sender.deliver_to("anywhere.test", None, job())
    assert (outcome.status, outcome.code, outcome.enhanced) == ("deferred", 530, "4.7.0")


async def test_a_host_that_leaves_when_all_is_settled_is_not_followed_by_another() -> None:
    bad = ScriptedServer(MAIL="550 5.7.1 no", RCPT=HANG_UP)
    good = ScriptedServer()
    async with two_hosts(bad, good) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert (outcome.status, outcome.code) == ("failed", 550)
    assert good.sessions == []


async def test_the_last_host_has_the_last_word() -> None:
    first, second = ScriptedServer(greeting="554 5.7.1 first"), ScriptedServer(greeting="421 4.3.2 second")
    async with two_hosts(first, second) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert (outcome.status, outcome.text, outcome.host) == ("deferred", "second", "mx1.test")


# routing, as the agent sees it


async def test_null_mx_and_nxdomain_and_dns_failure() -> None:
    zone: Zone = {("null.test", "MX"): [(0, "")], ("sick.test", "MX"): DnsFailure("no")}
    async with agent(zone) as sender:
        found = [(await sender.deliver_to(d, None, job()))[0] for d in ("null.test", "gone.test", "sick.test")]
    assert [(o.status, o.code, o.enhanced) for o in found] == [
        ("failed", 556, "5.1.10"),
        ("failed", 550, "5.1.2"),
        ("deferred", 451, "4.4.3"),
    ]


async def test_mail_by_mx_does_not_reach_loopback() -> None:
    server = ScriptedServer()
    async with server(), agent(mx_zone("127.0.0.1"), port=server.port, public_addresses_only=True) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
        assert (outcome.status, outcome.enhanced) == ("failed", "5.4.6")
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
        assert outcome.status == "delivered"


@asynccontextmanager
async def behind_a_smarthost(server: ScriptedServer, **more: Any) -> AsyncIterator[Sender]:
    async with server(), agent(smarthost={"url": f"smtp://127.0.0.1:{server.port}", **more}) as sender:
        yield sender


async def test_the_smarthost_takes_what_has_no_next_hop() -> None:
    server, own = ScriptedServer(), ScriptedServer()
    async with behind_a_smarthost(server) as sender, own():
        await sender.deliver_to("anywhere.test", None, job())
        await sender.deliver_to("elsewhere.test", None, job())
        await sender.deliver_to("d.test", hop(own.port), job())
    assert (len(server.sessions), len(server.contents), len(own.contents)) == (1, 2, 1)


async def test_the_null_sender_of_a_smarthost_that_refuses_the_null_sender() -> None:
    server, own = ScriptedServer(), ScriptedServer()
    async with behind_a_smarthost(server, null_sender="bounces@fwd.test") as sender, own():
        await sender.deliver_to("anywhere.test", None, job(sender=""))
        await sender.deliver_to("anywhere.test", None, job())
        await sender.deliver_to("d.test", hop(own.port), job(sender=""))
    senders = [line.split()[1] for line in server.commands + own.commands if line.startswith("MAIL")]
    assert senders == ["FROM:<bounces@fwd.test>", "FROM:<bob@origin.test>", "FROM:<>"]


async def test_a_smarthost_that_is_down_is_a_deferral() -> None:
    async with agent(smarthost={"url": f"smtp://{NOBODY}:1"}) as sender:
        (outcome,) = await sender.deliver_to("anywhere.test", None, job())
    assert (outcome.status, outcome.address) == ("deferred", NOBODY)


# the probe


async def probed(server: ScriptedServer, recipient: str = "carol@d.test", scheme: str = "smtp") -> Outcome:
    async with server(), agent(command_timeout=SHORT, helo_timeout="2s") as sender:
        return await sender.probe(hop(server.port, scheme), recipient)


@pytest.mark.parametrize("offers", [("PIPELINING",), ()])
async def test_a_probe_asks_and_sends_nothing(offers: tuple[str, ...]) -> None:
    server = ScriptedServer(offers=offers)
    assert (await probed(server)).status == "delivered"
    assert server.commands == ["EHLO relay.test", "MAIL FROM:<>", "RCPT TO:<carol@d.test>", "QUIT"]


async def test_a_probe_leaves_a_connection_that_delivers() -> None:
    server = ScriptedServer(lmtp=True)
    async with server(), agent() as sender:
        assert (await sender.probe(hop(server.port, "lmtp"), "carol@d.test")).status == "delivered"
        (outcome,) = await sender.deliver_to("d.test", hop(server.port, "lmtp"), job())
    assert outcome.status == "delivered"
    assert server.sessions[0].verbs() == ["LHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("play", ["550 5.1.1 unknown", "553 no", "554 5.7.1 no"])
async def test_a_probe_fails_for_a_5xx_at_rcpt(play: Play) -> None:
    assert (await probed(ScriptedServer(RCPT=play))).status == "failed"


@pytest.mark.parametrize("offers", [("PIPELINING",), ()])
@pytest.mark.parametrize(
    "play",
    [
        {"greeting": "554 5.7.1 no"},
        {"EHLO": "554 5.7.1 no"},
        {"EHLO": "550 5.7.1 no", "HELO": "550 5.7.1 no"},
        {"MAIL": "530 5.7.0 STARTTLS first"},
        {"RCPT": "530 5.7.1 log in"},
        {"RCPT": "503 5.5.1 what"},
        {"MAIL": "550 5.7.1 no"},
        {"MAIL": "553 5.1.8 no null sender"},
        {"MAIL": "550 5.7.1 no", "RCPT": "550 5.5.1 no sender"},
        {"RCPT": "450 4.2.0 later"},
        {"RCPT": "552 too many"},
        {"RCPT": "421 bye"},
        {"RCPT": HANG_UP},
        {"RCPT": STALL},
        {"RCPT": "garbage"},
    ],
)
async def test_a_probe_defers_for_everything_else(play: dict[str, Part], offers: tuple[str, ...]) -> None:
    outcome = await probed(ScriptedServer(offers=offers, script=play))
    assert outcome.status == "deferred"
    assert outcome.enhanced.startswith("4.")


async def test_a_probe_defers_where_the_address_cannot_be_asked_for() -> None:
    assert (await probed(ScriptedServer(offers=()), "jörg@d.test")).status == "deferred"
    assert (await probed(ScriptedServer(SIZE="1"), "a b@d.test")).status == "deferred"


async def test_a_probe_of_a_host_that_is_down_defers() -> None:
    async with agent() as sender:
        outcome = await sender.probe(hop(1, host=NOBODY), "carol@d.test")
        unresolved = await sender.probe(endpoint("smtp://gone.test"), "carol@d.test")
    assert (outcome.status, unresolved.status) == ("deferred", "deferred")


# cancellation


@pytest.mark.parametrize("phase", ["greeting", "EHLO", "MAIL", "DATA", "dot"])
async def test_a_cancelled_delivery_leaves_nothing_behind(phase: str) -> None:
    server = ScriptedServer(script={phase: [STALL, FINE]})

    def stalled() -> bool:
        if not server.sessions:
            return False
        session = server.sessions[0]
        return phase == "greeting" or phase in session.verbs() or (phase == "dot" and bool(session.contents))

    async with server(), agent(concurrency=1) as sender:
        task = asyncio.create_task(sender.deliver_to("d.test", hop(server.port), job()))
        async with asyncio.timeout(10):
            while not stalled():
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.sessions[0].over.wait()
            (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert outcome.status == "delivered"
