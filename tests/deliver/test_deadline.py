"""How long an attempt may take in all, what giving it up leaves certain, and that the final dot ends that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import pytest

from relay.deliver.deadline import Deadline
from tests.deliver.scripted import DEAF, FINE, STALL, Play, ScriptedServer
from tests.deliver.sending import CONTENT, agent, hop, job
from tests.deliver.test_host_failover import mx_zone, two_hosts
from tests.peers import wait_for

LARGE = (b"x" * 70 + b"\r\n") * 600_000  # more than the buffers of both ends of a connection take together


@pytest.mark.parametrize("offers", [("PIPELINING",), ()])
@pytest.mark.parametrize("phase", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "body"])
async def test_an_attempt_ends_in_its_time_whatever_the_phase(phase: str, offers: Sequence[str]) -> None:
    server = ScriptedServer(offers=offers, script={phase: DEAF if phase == "body" else STALL})
    message = job(content=LARGE, size=1) if phase == "body" else job()
    async with server(), agent(attempt_timeout="300ms") as sender, asyncio.timeout(10):
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), message)
        if phase != "body":  # who is deaf does not hear the end either
            await server.sessions[0].over.wait()
    assert (outcome.status, outcome.enhanced, outcome.host) == ("deferred", "4.4.2", "127.0.0.1")
    asked = {"greeting": "the greeting", "body": "DATA"}.get(phase, phase)
    assert outcome.text.startswith(f"no answer to {asked} in time; given up after ")


class Dripping:
    """A server that says a line of one reply every few milliseconds, and never the last one."""

    def __init__(self, phase: str) -> None:
        self._phase = phase

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for phase, code in (("greeting", 220), ("EHLO", 250), ("MAIL", 250), ("RCPT", 250), ("DATA", 354)):
                if phase != "greeting":
                    await reader.readline()
                while phase == self._phase:
                    writer.write(b"%d-more\r\n" % code)
                    await writer.drain()
                    await asyncio.sleep(0.01)
                writer.write(b"%d ok\r\n" % code)
        except OSError:
            pass
        finally:
            writer.close()


@pytest.mark.parametrize("key", ["attempt_timeout", "phase"])
@pytest.mark.parametrize("phase", ["greeting", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_reply_that_drips_line_by_line_gets_round_no_bound(phase: str, key: str) -> None:
    if key == "phase":
        key = {"greeting": "helo_timeout", "EHLO": "helo_timeout", "DATA": "data_timeout"}.get(phase, "command_timeout")
    server = await asyncio.start_server(Dripping(phase).serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, agent(None, **{key: "200ms"}) as sender, asyncio.timeout(10):
        (outcome,) = await sender.deliver_to("d.test", hop(port), job())
    assert outcome.status == "deferred" and "in time" in outcome.text


async def test_the_reply_to_the_final_dot_has_its_own_time() -> None:
    server = ScriptedServer()
    server.hold()
    async with server(), agent(attempt_timeout="100ms", final_timeout="10s") as sender:
        bound = Deadline()
        task = asyncio.create_task(sender.deliver_to("d.test", hop(server.port), job(bound=bound)))
        await wait_for(lambda: bool(server.contents), "the content")
        await asyncio.sleep(0.2)  # longer than the attempt may take
        bound.end("to make room")
        assert not task.done()
        server.release()
        (outcome,) = await task
    assert outcome.status == "delivered" and "room" not in outcome.text


async def test_who_waits_for_the_final_reply_when_it_is_given_up_tries_no_other_host() -> None:
    first, second = ScriptedServer(dot="421 4.3.2 going down"), ScriptedServer()
    first.hold()
    async with two_hosts(first, second) as sender:
        bound = Deadline()
        task = asyncio.create_task(sender.deliver_to("d.test", None, job(bound=bound)))
        await wait_for(lambda: bool(first.contents), "the content")
        bound.end("its content was let go")
        first.release()
        (outcome,) = await task
    assert (outcome.status, outcome.code, outcome.text) == ("deferred", 421, "going down; its content was let go")
    assert second.sessions == []


async def test_a_host_that_says_nothing_leaves_time_for_the_next_one() -> None:
    silent, good = ScriptedServer(greeting=STALL), ScriptedServer()
    async with two_hosts(silent, good, attempt_timeout="2s") as sender, asyncio.timeout(10):
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert (outcome.status, outcome.host) == ("delivered", "mx1.test")


async def test_the_time_is_one_for_all_hosts() -> None:
    slow, other = ScriptedServer(MAIL=STALL), ScriptedServer(MAIL=STALL)
    async with two_hosts(slow, other, attempt_timeout="400ms", command_timeout="300ms") as sender:
        loop = asyncio.get_running_loop()
        began = loop.time()
        (outcome,) = await sender.deliver_to("d.test", None, job())
        assert 0.35 < loop.time() - began < 5
    assert outcome.host == "mx1.test" and "given up" in outcome.text


async def test_a_host_that_takes_its_time_with_a_large_message_gets_it() -> None:
    """A content has time of its own: one second for each 8 KiB."""

    def slowly() -> Iterable[bytes]:
        yield CONTENT
        yield from (LARGE[: 1 << 20],) * 3

    play: list[Play] = ["250 2.0.0 taken"]
    server = ScriptedServer(dot=play)
    bound = Deadline()
    async with server(), agent(attempt_timeout="300ms") as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job(content=slowly, size=3 << 20, bound=bound))
    assert outcome.status == "delivered"
    assert bound.left > 300


async def test_what_is_certain_when_an_attempt_is_given_up_stays_so() -> None:
    server = ScriptedServer(RCPT=lambda line: "550 5.1.1 no" if "<b@" in line else "250 ok", DATA=STALL)
    async with server(), agent(attempt_timeout="300ms") as sender:
        first, second = await sender.deliver_to("d.test", hop(server.port), job("a@d.test", "b@d.test"))
    assert (first.status, second.status, second.enhanced) == ("deferred", "failed", "5.1.1")


@pytest.mark.parametrize("phase", ["greeting", "MAIL"])
async def test_an_attempt_can_be_given_up_by_others(phase: str) -> None:
    server = ScriptedServer(script={phase: [STALL, FINE]})
    async with server(), agent(mx_zone("127.0.0.1"), port=server.port, concurrency=1) as sender:
        bound, waits = Deadline(), Deadline()
        task = asyncio.create_task(sender.deliver_to("d.test", None, job(bound=bound)))
        behind = asyncio.create_task(sender.deliver_to("d.test", None, job(bound=waits)))
        await wait_for(lambda: bool(server.sessions), "the session")
        waits.end("to make room")
        (outcome,) = await behind
        assert outcome.text == "no host was tried; to make room"
        bound.end("to make room")
        (outcome,) = await task
        assert outcome.status == "deferred" and outcome.text.endswith(" in time; to make room")
        (again,) = await sender.deliver_to("d.test", None, job(bound=bound))
        assert again.status == "deferred", "it stays given up"
        (other,) = await sender.deliver_to("d.test", None, job())
        assert other.status == "delivered"


async def test_another_cancellation_is_not_swallowed() -> None:
    server = ScriptedServer(MAIL=STALL)
    async with server(), agent() as sender:
        task = asyncio.create_task(sender.deliver_to("d.test", hop(server.port), job()))
        await wait_for(lambda: bool(server.sessions), "the session")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_probe_has_a_bound_too() -> None:
    server = ScriptedServer(RCPT=STALL)
    async with server(), agent(attempt_timeout="200ms") as sender, asyncio.timeout(10):
        outcome = await sender.probe(hop(server.port), "carol@d.test")
    assert outcome.status == "deferred" and "given up" in outcome.text


def test_an_attempt_waits_until_its_turn() -> None:
    bound = Deadline()
    assert bound.waits
    bound.end("given up")
    assert not bound.waits


async def test_an_attempt_that_has_its_turn_does_not_wait() -> None:
    bound = Deadline()
    bound.begin(10.0)
    assert not bound.waits
