"""Connections that are kept, and how many there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from relay.deliver import smtp_connection as smtp
from relay.deliver.connection_pool import Lane, Pool
from relay.deliver.next_hop import NextHop, NextHops
from relay.mail.outcome import Outcome, deferral
from tests.deliver.scripted import FINE, HANG_UP, STALL, Play, ScriptedServer
from tests.deliver.sending import agent, config, hop, job


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def turn(lane: Lane) -> AsyncIterator[Outcome | None]:
    outcome = await lane.enter()
    try:
        yield outcome
    finally:
        lane.leave()


# reuse


async def test_messages_that_ask_for_the_same_of_tls_share_their_connections() -> None:
    server = ScriptedServer()
    async with server(), agent() as sender:
        for wish in ("", "prefer", "no", "", "prefer"):
            await sender.deliver_to("d.test", hop(server.port), job(tls=wish))
    assert sorted(session.verbs().count("MAIL") for session in server.sessions) == [1, 4]


async def test_one_connection_carries_many_messages_and_is_left_politely() -> None:
    server = ScriptedServer()
    async with server(), agent() as sender:
        for _ in range(5):
            assert (await sender.deliver_to("d.test", hop(server.port), job()))[0].status == "delivered"
    assert [session.verbs() for session in server.sessions] == [["EHLO", *["MAIL", "RCPT", "DATA"] * 5, "QUIT"]]


async def test_a_connection_carries_so_many_messages_and_no_more() -> None:
    server = ScriptedServer()
    async with server(), agent(messages_per_connection=2) as sender:
        for _ in range(5):
            assert (await sender.deliver_to("d.test", hop(server.port), job()))[0].status == "delivered"
    assert [session.verbs().count("MAIL") for session in server.sessions] == [2, 2, 1]
    assert all(session.verbs()[-1] == "QUIT" for session in server.sessions)


async def test_nobody_waits_for_the_answer_to_quit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "QUIT_TIMEOUT", 0.5)
    server = ScriptedServer(QUIT=STALL)
    async with server(), agent(messages_per_connection=1) as sender:
        async with asyncio.timeout(0.5):
            for _ in range(3):
                assert (await sender.deliver_to("d.test", hop(server.port), job()))[0].status == "delivered"
        async with asyncio.timeout(5):  # and close waits for as long as it says
            await sender.close()
    assert all(session.over.is_set() for session in server.sessions)


async def test_an_idle_connection_is_left_after_a_while() -> None:
    server = ScriptedServer()
    async with server(), agent(idle_timeout="50ms") as sender:
        await sender.deliver_to("d.test", hop(server.port), job())
        await asyncio.wait_for(server.sessions[0].over.wait(), 5)
        assert server.sessions[0].verbs()[-1] == "QUIT"
        await sender.deliver_to("d.test", hop(server.port), job())
    assert len(server.sessions) == 2


@pytest.mark.parametrize(
    ("part", "play"),
    [
        ("dot", [("250 2.0.0 taken", HANG_UP), FINE]),
        ("dot", ["250 2.0.0 taken\r\n421 4.4.2 idle too long", FINE]),
        ("MAIL", [FINE, HANG_UP, FINE]),
        ("MAIL", [FINE, "421 4.4.2 idle too long", FINE]),
        ("RCPT", [FINE, HANG_UP, FINE]),
        ("DATA", [FINE, "421 4.4.2 bye", FINE]),
    ],
)
async def test_a_connection_that_went_stale_is_replaced_silently(part: str, play: list[Play]) -> None:
    server = ScriptedServer(script={part: play})
    async with server(), agent() as sender:
        for _ in range(2):
            (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
            assert outcome.status == "delivered"
    assert len(server.sessions) == 2
    assert len(server.contents) == 2


async def test_a_message_that_may_have_arrived_is_not_sent_again() -> None:
    server = ScriptedServer(dot=[FINE, HANG_UP, FINE])
    async with server(), agent() as sender:
        await sender.deliver_to("d.test", hop(server.port), job())
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.4.2")
    assert len(server.sessions) == 1


async def test_one_stale_connection_is_enough_to_try() -> None:
    server = ScriptedServer(MAIL=[FINE] * 4 + [STALL] * 3)
    server.hold()
    async with server(), agent(command_timeout="300ms") as sender:
        tasks = [asyncio.create_task(sender.deliver_to("d.test", hop(server.port), job())) for _ in range(4)]
        await until(lambda: len(server.contents) == 4)
        server.release()
        await asyncio.gather(*tasks)
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert outcome.status == "deferred"
    assert [line.split()[0] for line in server.commands].count("MAIL") == 4 + 2  # one that was kept, one anew


async def test_next_hops_do_not_share_connections() -> None:
    smtp, lmtp = ScriptedServer(), ScriptedServer(lmtp=True)
    async with smtp(), lmtp(), agent() as sender:
        for server, scheme in ((smtp, "smtp"), (lmtp, "lmtp")):
            assert (await sender.deliver_to("d.test", hop(server.port, scheme), job()))[0].status == "delivered"
    assert (len(smtp.sessions), len(lmtp.sessions)) == (1, 1)


async def test_domains_do_not_share_connections_but_their_spellings_do() -> None:
    server = ScriptedServer()
    zone = {(name, "A"): ["127.0.0.1"] for name in ("d.test", "e.test")}
    async with server(), agent(zone, port=server.port) as sender:
        for domain in ("d.test", "D.test.", "e.test"):
            await sender.deliver_to(domain, None, job())
    assert [session.verbs().count("MAIL") for session in server.sessions] == [2, 1]


# how many


async def test_not_more_at_once_than_the_limit() -> None:
    server = ScriptedServer()
    server.hold()
    async with server(), agent(concurrency=3) as sender:
        tasks = [asyncio.create_task(sender.deliver_to("d.test", hop(server.port), job())) for _ in range(10)]
        await until(lambda: len(server.contents) == 3)
        server.release()
        outcomes = await asyncio.gather(*tasks)
    assert {o.status for (o,) in outcomes} == {"delivered"}
    assert server.most_open == 3 == len(server.sessions)
    assert len(server.contents) == 10


async def test_a_next_hop_that_is_full_does_not_hold_up_another() -> None:
    slow, quick = ScriptedServer(), ScriptedServer()
    slow.hold()
    async with slow(), quick(), agent(concurrency=1) as sender:
        waiting = [asyncio.create_task(sender.deliver_to("d.test", hop(slow.port), job())) for _ in range(3)]
        (outcome,) = await asyncio.wait_for(sender.deliver_to("d.test", hop(quick.port), job()), 5)
        assert outcome.status == "delivered"
        slow.release()
        await asyncio.gather(*waiting)


# an unreachable next hop


async def test_those_that_wait_share_the_fate_and_later_ones_try_anew() -> None:
    server = ScriptedServer(greeting=[STALL, FINE])
    async with server(), agent(concurrency=1, helo_timeout="300ms") as sender:
        jobs = [job("a@d.test"), job("b@d.test", "c@d.test"), job("d@d.test")]
        outcomes = await asyncio.gather(*(sender.deliver_to("d.test", hop(server.port), each) for each in jobs))
        assert [len(each) for each in outcomes] == [1, 2, 1]
        assert {(o.status, o.enhanced, o.address) for each in outcomes for o in each} == {
            ("deferred", "4.4.2", "127.0.0.1")
        }
        assert len(server.sessions) == 1
        (later,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert later.status == "delivered"


async def test_a_next_hop_that_was_reached_is_no_common_fate() -> None:
    server = ScriptedServer(MAIL=["421 4.3.2 not now", FINE])
    async with server(), agent(concurrency=1) as sender:
        outcomes = await asyncio.gather(*(sender.deliver_to("d.test", hop(server.port), job()) for _ in range(3)))
    assert [o.status for (o,) in outcomes] == ["deferred", "delivered", "delivered"]


async def test_doubtful_mail_has_connections_of_its_own_and_as_many_as_its_table_says() -> None:
    sending = config(
        concurrency=3, destinations=[{"domains": ["a.test", "b.test"], "concurrency": 1}], doubtful={"concurrency": 2}
    )
    pool, hops = Pool(sending), NextHops(sending)

    async def fit(hop: NextHop) -> int:
        """How many transactions begin at once, while others to the same next hop wait."""
        tasks = [asyncio.create_task(pool.lane(hop).enter()) for _ in range(5)]
        await asyncio.sleep(0)
        begun = sum(task.done() for task in tasks)
        for _ in tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            pool.lane(hop).leave()
        await asyncio.gather(*tasks)
        return begun

    found = [
        await fit(hops.of(f"x@{domain}", doubtful=doubt)) for domain in ("a.test", "c.test") for doubt in (False, True)
    ]
    assert found == [1, 2, 3, 2]
    assert pool.lane(hops.of("x@a.test")) is not pool.lane(hops.of("x@a.test", doubtful=True))


async def test_a_common_fate_ends_when_a_host_is_reached() -> None:
    lane = Pool(config(concurrency=1)).lane(NextHop("d.test"))

    async def waiting() -> asyncio.Task[Outcome | None]:
        async def told() -> Outcome | None:
            async with turn(lane) as outcome:
                return outcome

        task = asyncio.create_task(told())
        await asyncio.sleep(0)  # until it waits
        return task

    down = deferral("4.4.1", "down")
    async with turn(lane):
        first = await waiting()
        lane.unreachable(down)
        second = await waiting()
        lane.reachable()
        third = await waiting()
    assert (await first, await second, await third) == (None, None, None)

    lane = Pool(config(concurrency=1)).lane(NextHop("d.test"))
    async with turn(lane):
        first = await waiting()
        lane.unreachable(down)
        second = await waiting()
    assert (await first, await second) == (down, None)


# cancellation


async def test_one_that_gives_up_waiting_takes_no_place_along() -> None:
    server = ScriptedServer()
    server.hold()
    async with server(), agent(concurrency=1) as sender:
        first = asyncio.create_task(sender.deliver_to("d.test", hop(server.port), job()))
        await until(lambda: len(server.contents) == 1)
        second = asyncio.create_task(sender.deliver_to("d.test", hop(server.port), job()))
        await asyncio.sleep(0)
        second.cancel()
        server.release()
        assert (await first)[0].status == "delivered"
        (third,) = await asyncio.wait_for(sender.deliver_to("d.test", hop(server.port), job()), 5)
    assert third.status == "delivered"
    assert len(server.contents) == 2


async def test_nothing_is_left_of_a_next_hop_that_nobody_uses() -> None:
    pool = Pool(config(idle_timeout="10ms"))
    lane = pool.lane(NextHop("d.test"))
    async with turn(lane):
        assert pool.lane(NextHop("d.test")) is lane
        assert pool.lane(NextHop("e.test")) is not lane
    assert pool.lane(NextHop("d.test")) is not lane
