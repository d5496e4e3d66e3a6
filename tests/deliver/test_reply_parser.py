"""Replies out of octets, however they are cut."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.deliver.classify import Silence
from relay.deliver.reply_parser import REPLY_OCTETS, UNREAD_OCTETS, ClientProtocol, NoReply, ServerReply

GOOD = b"220 hello\r\n250-mx.test\r\n250-SIZE 1000\r\n250 8BITMIME\r\n354\r\n550-5.1.1 no\n550 5.1.1 such\n250 \r\n"
READ = [
    ServerReply(220, "hello"),
    ServerReply(250, "mx.test\nSIZE 1000\n8BITMIME"),
    ServerReply(354, ""),
    ServerReply(550, "5.1.1 no\n5.1.1 such"),
    ServerReply(250, ""),
]


class Line(asyncio.Transport):
    """A connection that goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


async def connected() -> tuple[ClientProtocol, Line]:
    wire, line = ClientProtocol(), Line()
    wire.connection_made(line)
    return wire, line


async def fails(wire: ClientProtocol, kind: Silence, timeout: float = 0.01) -> None:
    with pytest.raises(NoReply) as raised:
        await wire.read_response(timeout)
    assert raised.value.kind == kind


@given(cuts=st.lists(st.integers(0, len(GOOD)), max_size=20).map(sorted))
@settings(max_examples=100, deadline=None)
def test_replies_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    async def read() -> list[ServerReply]:
        wire, _ = await connected()
        replies = asyncio.gather(*[asyncio.ensure_future(read_all(wire))])
        for start, end in zip([0, *cuts], [*cuts, len(GOOD)], strict=True):
            wire.data_received(GOOD[start:end])
            await asyncio.sleep(0)
        return (await replies)[0]

    async def read_all(wire: ClientProtocol) -> list[ServerReply]:
        return [await wire.read_response(5) for _ in READ]

    assert asyncio.run(read()) == READ


async def test_replies_wait_until_they_are_read() -> None:
    wire, _ = await connected()
    assert not wire.unread
    wire.data_received(GOOD)
    assert wire.unread
    assert [await wire.read_response(0) for _ in READ] == READ
    assert not wire.unread


async def test_a_reply_that_is_half_there_is_unread_and_late() -> None:
    wire, _ = await connected()
    wire.data_received(b"250-half\r\n")
    await fails(wire, "timeout")
    assert wire.unread


async def test_time_runs_out_for_a_server_that_trickles() -> None:
    wire, _ = await connected()
    reading = asyncio.create_task(fails(wire, "timeout", timeout=0.05))
    async with asyncio.timeout(10):
        while not reading.done():
            wire.data_received(b"x" if wire.unread else b"250-")
            await asyncio.sleep(0)
    await reading


@pytest.mark.parametrize(("first", "second"), [(0.02, 0.1), (20.0, 0.1), (None, 0.1)])
async def test_each_wait_has_its_own_time(first: float | None, second: float) -> None:
    wire, line = await connected()
    waiting = asyncio.create_task(wire.read_response(first))
    await asyncio.sleep(0)
    wire.data_received(b"250 ok\r\n")
    await waiting
    began = time.monotonic()
    await fails(wire, "timeout", second)
    assert second - 0.01 < time.monotonic() - began < 10
    assert line.closed


async def test_time_that_runs_out_without_a_wait_does_not_matter() -> None:
    wire, line = await connected()
    waiting = asyncio.create_task(wire.read_response(0.01))
    await asyncio.sleep(0)
    wire.data_received(b"250 ok\r\n")
    await waiting
    await asyncio.sleep(0.03)
    wire.data_received(b"250 ok\r\n")
    assert await wire.read_response(0) == ServerReply(250, "ok") and not line.closed


async def test_a_connection_that_is_lost_leaves_no_timer() -> None:
    wire, _ = await connected()
    waiting = asyncio.create_task(fails(wire, "lost", 3600))
    await asyncio.sleep(0)
    gone = weakref.ref(wire)
    wire.connection_lost(None)
    await waiting
    del wire, waiting
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "octets",
    [b"\r\n", b"hello\r\n", b"25\r\n", b"2500 x\r\n", b"199 x\r\n", b"600 x\r\n", b"+25 x\r\n", b"\xff\xfe\r\n"],
)
async def test_what_is_no_reply_is_garbage(octets: bytes) -> None:
    wire, _ = await connected()
    wire.data_received(octets)
    await fails(wire, "garbage")


async def test_octets_that_are_no_utf8_are_still_a_reply() -> None:
    wire, _ = await connected()
    wire.data_received(b"550 Empf\xe4nger\r\n")
    assert await wire.read_response(0) == ServerReply(550, "Empf\ufffdnger")


async def test_what_came_before_the_end_of_the_connection_is_still_read() -> None:
    wire, line = await connected()
    wire.data_received(b"421 4.3.2 bye\r\n250-half")
    line.closed = True
    wire.connection_lost(None)
    assert await wire.read_response(5) == ServerReply(421, "4.3.2 bye")
    await fails(wire, "lost")


async def test_one_who_waits_hears_of_the_end() -> None:
    wire, _ = await connected()
    waiting = asyncio.create_task(fails(wire, "lost", timeout=20))
    draining = asyncio.create_task(wire.drain(20))
    wire.pause_writing()
    await asyncio.sleep(0)
    wire.connection_lost(ConnectionResetError())
    await asyncio.wait_for(asyncio.gather(waiting, draining), 5)


async def test_drain_waits_for_room() -> None:
    wire, _ = await connected()
    await wire.drain(0)
    wire.pause_writing()
    with pytest.raises(TimeoutError):
        await wire.drain(0.01)
    wire.resume_writing()
    await wire.drain(0)


LONG = b"250-x\r\n" * (REPLY_OCTETS // 7 + 1)


@pytest.mark.parametrize("octets", [b"2" * (REPLY_OCTETS + 1), LONG, LONG + b"250 x\r\n"])
async def test_a_reply_has_a_limit(octets: bytes) -> None:
    wire, _ = await connected()
    wire.data_received(octets)
    await fails(wire, "garbage")


async def test_a_flood_ends_the_connection() -> None:
    wire, line = await connected()
    for _ in range(UNREAD_OCTETS // 2048 + 1):
        wire.data_received(b"250 x\r\n" * 300)
    assert line.closed


async def test_a_reply_in_single_octets_costs_no_more_than_its_length() -> None:
    wire, _ = await connected()
    reading = asyncio.create_task(fails(wire, "garbage", timeout=60))
    started = time.process_time()
    for octet in b"250-\r\n" * (REPLY_OCTETS // 6):
        wire.data_received(bytes([octet]))
        await asyncio.sleep(0)
    wire.data_received(b"250-\r\n")
    await reading
    assert time.process_time() - started < 5  # seconds; reading it from the start each time takes minutes
