"""Whatever a next hop says or does in whatever phase while the client waits: what the client hears, and what is kept.

Each case has a next hop of its own, which has taken one message before and then follows its script.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from relay.deliver.in_session import PATIENCE
from tests.deliver.scripted import HANG_UP, STALL, Play, ScriptedServer
from tests.journeys.clients import Answer, Dialogue
from tests.journeys.loop_thread import LoopThread
from tests.journeys.relay_process import RelayProcess
from tests.journeys.world import SENDER, World, opened
from tests.peers import wait_until

pytestmark = pytest.mark.slow

WORDS = "%s of vault-7 is Plugh"  # what no stranger may hear: the mailbox, the host, and its words
QUEUED, DELIVERED = "queued", "delivered"


@dataclass(frozen=True)
class Case:
    """What a next hop does, and the reply that the client gets: `queued`, `delivered`, or code and status."""

    phase: str
    play: Play
    heard: str

    def __str__(self) -> str:
        return f"{self.phase} {self.play}"


def _cases() -> Iterator[Case]:
    for phase in ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "dot"):
        for play in ("421 4.3.2", "450 4.2.1", "451", "452 4.2.2"):
            yield Case(phase, f"{play} {WORDS}", QUEUED)
        yield Case(phase, HANG_UP, QUEUED)
        yield Case(phase, STALL, QUEUED)
        yield Case(phase, ("451 4.2.1 later", HANG_UP), QUEUED)
        yield Case(phase, "plugh", QUEUED)
    for play in ("554 5.7.1", "550", "521 5.3.2"):  # about our host, before there is a message
        yield Case("greeting", f"{play} {WORDS}", QUEUED)
    yield Case("EHLO", f"521 5.3.2 {WORDS}", QUEUED)
    for phase in ("MAIL", "RCPT", "DATA"):  # about our session
        for play in ("503 5.5.1", "530 5.7.0", "535 5.7.8"):
            yield Case(phase, f"{play} {WORDS}", QUEUED)
    yield Case("RCPT", f"552 5.2.2 {WORDS}", QUEUED)  # too many recipients (RFC 5321 section 4.5.3.1.10)
    yield Case("DATA", f"250 2.0.0 {WORDS}", QUEUED)  # no such reply to DATA
    yield Case("dot", f"354 {WORDS}", QUEUED)
    for phase, play, heard in (
        ("MAIL", "550 5.7.1", "550 5.7.1"),
        ("MAIL", "552 5.3.4", "552 5.3.4"),
        ("MAIL", "553 5.1.7", "553 5.1.7"),
        ("RCPT", "550 5.1.1", "550 5.1.1"),
        ("RCPT", "550", "550 5.1.1"),
        ("RCPT", "551 5.1.6", "550 5.1.6"),  # 551 is no reply to the end of the message
        ("RCPT", "553 5.1.3", "553 5.1.3"),
        ("RCPT", "554 5.7.1", "554 5.7.1"),
        ("RCPT", "556 5.1.10", "556 5.1.10"),
        ("RCPT", "571 5.7.1", "550 5.7.1"),
        ("RCPT", "599", "550 5.0.0"),
        ("DATA", "550 5.6.0", "550 5.6.0"),
        ("DATA", "554 5.7.1", "554 5.7.1"),
        ("dot", "550 5.7.1", "550 5.7.1"),
        ("dot", "552 5.3.4", "552 5.3.4"),
        ("dot", "552 5.2.2", "552 5.2.2"),
        ("dot", "554 5.6.0", "554 5.6.0"),
        ("dot", "554", "554 5.0.0"),
        ("dot", "521 5.3.2", "550 5.3.2"),
    ):
        yield Case(phase, f"{play} {WORDS}", heard)
        yield Case(phase, (f"{play} {WORDS}", HANG_UP), heard)
    for play in ("250", "250 2.6.0", "251 2.1.5", "200"):
        yield Case("dot", f"{play} {WORDS}", DELIVERED)
        yield Case("dot", (f"{play} {WORDS}", HANG_UP), DELIVERED)


CASES = list(_cases())


class House:
    """A relay with a next hop for each case.

    Attributes:
        answers: what the clients heard, and how many messages each next hop had taken whole by then.
    """

    def __init__(self, world: World, cases: list[Case]) -> None:
        self.cases = cases
        self._loop = LoopThread()
        self._servers: list[ScriptedServer] = []
        self._stack = AsyncExitStack()
        world.start(self)
        aliases = ""
        for number in range(len(cases)):
            world.zone[f"d{number}.example", "MX"] = [f"10 mx.d{number}.example."]
            world.zone[f"mx.d{number}.example", "A"] = [_address(number)]
            aliases += f"a{number}@fwd.example box{number}@d{number}.example\n"
        self._loop.run(self._listen(world.port))
        self.relay: RelayProcess = world.relay(
            aliases=aliases,
            workers=1,
            delivery={"mode": "in-session"},
            # The first retry comes after the test, so that what is kept stays where it can be seen.
            queue={"retry_min": "10m", "retry_max": "10m"},
            limits={"connections_per_client": 200},
        )

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.run(self._stack.aclose())
        self._loop.stop()

    async def _listen(self, port: int) -> None:
        for number, case in enumerate(self.cases):
            new_connection = case.phase in ("greeting", "EHLO")
            then: list[Play] = ["250 2.0.0 first", "250 2.0.0 taken"]
            script: dict[str, list[Play]] = {"dot": [("250 2.0.0 first", HANG_UP) if new_connection else then[0]]}
            if case.phase == "dot":
                script["dot"].append(_said(case.play, number))
            else:
                script["dot"].append(then[1])
                fine: dict[str, Play] = {
                    "greeting": "220 scripted.test ESMTP",
                    "EHLO": "250-scripted.test\r\n250 PIPELINING",
                    "MAIL": "250 2.1.0 Ok",
                    "RCPT": "250 2.1.5 Ok",
                    "DATA": "354 go on",
                }
                script[case.phase] = [fine[case.phase], _said(case.play, number)]
            server = ScriptedServer(script=script)
            await self._stack.enter_async_context(server(_address(number), port))
            self._servers.append(server)

    def taken(self, number: int) -> int:
        return len(self._servers[number].contents)

    def send(self, number: int) -> Answer:
        with Dialogue((self.relay.address, self.relay.port), source=SENDER) as session:
            session._socket.settimeout(PATIENCE + 20)
            session("EHLO mx.sender.example")
            assert session("MAIL FROM:<ann@sender.example>").code == 250
            assert session(f"RCPT TO:<a{number}@fwd.example>").code == 250
            assert session("DATA").code == 354
            session.send(b"From: ann@sender.example\r\nSubject: x\r\n\r\nHello\r\n.\r\n")
            return session.reply()


def _address(number: int) -> str:
    return f"127.0.2.{number + 1}"


def _said(play: Play, number: int) -> Play:
    mailbox = f"box{number}@d{number}.example"
    if isinstance(play, tuple):
        return play[0].replace("%s", mailbox), play[1]
    return play.replace("%s", mailbox) if isinstance(play, str) else play


@pytest.fixture(scope="module")
def heard() -> Iterator[tuple[House, list[Answer]]]:
    with opened() as world:
        house = House(world, CASES)
        with ThreadPoolExecutor(len(CASES)) as pool:
            numbers = range(len(CASES))
            first = [*pool.map(house.send, numbers)]
            assert {answer.code for answer in first} == {250}
            wait_until(lambda: house.relay.has_events("delivered", len(CASES)), "every next hop to answer once", 60)
            yield house, [*pool.map(house.send, numbers)]


@pytest.fixture(scope="module")
def kept(heard: tuple[House, list[Answer]]) -> dict[str, int]:
    """How many attempts each delivery in the queue has had, by recipient, once those under way are recorded."""
    house, _ = heard
    waiting = sum(case.heard == QUEUED and case.play is not STALL for case in CASES)
    wait_until(lambda: house.relay.has_events("deferred", waiting), "the deferrals to be recorded")
    return {row["recipient"]: row["attempts"] for row in house.relay.queue()}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])
def test_reply(heard: tuple[House, list[Answer]], kept: dict[str, int], number: int) -> None:
    house, answers = heard
    case, answer = CASES[number], answers[number]
    mailbox = f"box{number}@d{number}.example"
    if case.heard in (QUEUED, DELIVERED):
        assert answer.code == 250 and f"{case.heard} as" in answer.text
    else:
        assert f"{answer.code} {answer.enhanced}" == case.heard
    for secret in (mailbox, f"d{number}.example", "vault", "lugh"):
        assert secret not in answer.text
    assert (mailbox in kept) == (case.heard == QUEUED)
    if case.heard == QUEUED:
        assert kept[mailbox] == (0 if case.play is STALL else 1)  # one attempt, and it may still go on
    # 421 sends us to the next host, and that is this one again: its connection was an old one.
    again = case.phase == "dot" and str(case.play).startswith("421")
    assert house.taken(number) == (3 if again else 2 if case.phase == "dot" else 1)


def test_nobody_is_told_twice(heard: tuple[House, list[Answer]], kept: dict[str, int]) -> None:
    """Who was refused gets no bounce; what is kept is neither bounced nor dead."""
    house, _ = heard
    for event in ("bounced", "dropped", "dead"):
        assert not house.relay.events(event)
    refused = sum(case.heard not in (QUEUED, DELIVERED) for case in CASES)
    assert len(house.relay.events("refused_by_next_hop")) == refused
    assert len(house.relay.events("queued")) == len(CASES) + sum(case.heard == QUEUED for case in CASES)
