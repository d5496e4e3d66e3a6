"""What the session reads, whatever the pieces it comes in. tests/receive/test_slow_clients.py has real sockets."""

from __future__ import annotations

import asyncio
import socket
from unittest.mock import Mock, call

import pytest

from relay.receive.stream import BLOCK, HIGH_WATER, Disconnected, LineTooLong, Stream, TimedOut


class Socket(asyncio.Transport):
    """A transport that keeps what is written to it."""

    protocol: Stream

    def __init__(self) -> None:
        super().__init__()
        self.sock = Mock(spec=socket.socket)
        self.written: list[bytes] = []
        self.reads = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self.protocol.connection_lost(None)

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


def connected() -> tuple[Stream, Socket]:
    transport = Socket()
    stream = transport.protocol = Stream(transport.sock)
    stream.connection_made(transport)
    return stream, transport


async def test_lines_come_whole_with_their_ends() -> None:
    stream, _ = connected()
    reading = asyncio.create_task(stream.read_line(100, 10))
    for piece in (b"NO", b"OP\r", b"\nQUIT\n"):
        await asyncio.sleep(0)
        stream.data_received(piece)
    assert await reading == b"NOOP\r\n"
    assert await stream.read_line(100, 10) == b"QUIT\n"


@pytest.mark.parametrize("pieces", [[b"x" * 11 + b"\n"], [b"x" * 11, b"x" * 11, b"\n"], [b"x" * 11, b"\n"]])
async def test_a_long_line_is_dropped_and_the_next_is_read(pieces: list[bytes]) -> None:
    stream, _ = connected()
    reading = asyncio.create_task(stream.read_line(11, 10))
    for piece in pieces:
        await asyncio.sleep(0)
        stream.data_received(piece)
    with pytest.raises(LineTooLong) as too_long:
        await reading
    assert too_long.value.beginning.startswith(b"x" * 11)
    stream.data_received(b"NOOP\r\n")
    assert await stream.read_line(11, 10) == b"NOOP\r\n"


async def test_a_line_of_the_limit_is_none_too_long() -> None:
    stream, _ = connected()
    stream.data_received(b"123456789\r\n")
    assert await stream.read_line(11, 10) == b"123456789\r\n"


async def test_waiting_ends_in_time_or_with_the_connection() -> None:
    stream, _ = connected()
    with pytest.raises(TimedOut):
        await stream.read_line(100, 0.01)
    with pytest.raises(TimedOut):
        await stream.read_block(0.01)
    reading = asyncio.create_task(stream.read_block(10))
    await asyncio.sleep(0)
    stream.connection_lost(None)
    with pytest.raises(Disconnected):
        await reading
    with pytest.raises(Disconnected):
        await stream.flush()


@pytest.mark.parametrize("first", [0.02, 10.0])
async def test_each_wait_has_its_own_time(first: float) -> None:
    """One timer serves all: it is set by the first wait, for which it would come too early or too late here."""
    stream, _ = connected()
    loop = asyncio.get_running_loop()
    reading = asyncio.create_task(stream.read_line(100, first))
    await asyncio.sleep(0)
    stream.data_received(b"NOOP\r\n")
    assert await reading == b"NOOP\r\n"
    began = loop.time()
    with pytest.raises(TimedOut):
        await stream.read_line(100, 0.05)
    assert 0.045 < loop.time() - began < 1
    began = loop.time()
    with pytest.raises(TimedOut):
        await stream.read_block(0.01)
    assert 0.008 < loop.time() - began < 1


async def test_a_timer_that_comes_between_two_waits_ends_neither() -> None:
    stream, _ = connected()
    stream.data_received(b"NOOP\r\nNO")
    assert await stream.read_line(100, 10) == b"NOOP\r\n"
    with pytest.raises(TimedOut):
        await stream.read_line(100, 0.001)
    reading = asyncio.create_task(stream.read_line(100, 0.01))
    await asyncio.sleep(0)
    stream.data_received(b"OP\r\n")
    assert await reading == b"NOOP\r\n"
    await asyncio.sleep(0.02)  # the timer comes while nobody waits
    reading = asyncio.create_task(stream.read_line(100, 10))
    await asyncio.sleep(0)
    stream.data_received(b"QUIT\r\n")
    assert await reading == b"QUIT\r\n"


@pytest.mark.parametrize(("rest", "waits"), [(b"", True), (b"NOOP\r\n", False)])
async def test_the_last_reply_waits_for_the_end_where_nothing_more_has_come(rest: bytes, waits: bool) -> None:
    stream, transport = connected()
    stream.data_received(b"QUIT\r\n" + rest)
    assert await stream.read_line(100, 10) == b"QUIT\r\n"
    stream.write(b"221 Bye\r\n")
    stream.end_with_reply()
    assert not transport.written
    await stream.close()
    assert transport.written == [b"221 Bye\r\n"]
    assert (call(socket.IPPROTO_TCP, socket.TCP_CORK, 1) in transport.sock.setsockopt.call_args_list) is waits


async def test_what_came_before_the_end_is_still_read() -> None:
    stream, _ = connected()
    stream.data_received(b"QUIT\r\n")
    assert stream.eof_received()
    assert await stream.read_line(100, 10) == b"QUIT\r\n"
    with pytest.raises(Disconnected):
        await stream.read_line(100, 10)


async def test_blocks_are_bounded_and_what_is_put_back_comes_first() -> None:
    stream, _ = connected()
    stream.data_received(b"x" * (BLOCK + 5))
    assert len(await stream.read_block(10)) == BLOCK
    stream.unread(b"first ")
    assert await stream.read_block(10) == b"first xxxxx"


async def test_a_full_buffer_pauses_the_socket_until_it_is_read() -> None:
    stream, transport = connected()
    stream.data_received(b"x" * (HIGH_WATER + 1))
    assert not transport.reads
    while transport.reads is False:
        try:
            await stream.read_block(0.01)
        except TimedOut:
            break
    assert transport.reads


async def test_replies_wait_for_those_to_commands_that_are_there() -> None:
    stream, transport = connected()
    stream.data_received(b"NOOP\r\nNOOP\r\nNO")
    corked = []
    for _ in range(2):
        await stream.read_line(100, 10)
        stream.write(b"250 Ok\r\n")
        corked.append(stream.corked)
    assert corked == [True, False] and transport.written == []
    await stream.flush()
    assert transport.written == [b"250 Ok\r\n" * 2]


async def test_an_interruption_reaches_the_waiting_read_only() -> None:
    stream, _ = connected()
    stream.interrupt(KeyError())  # nobody waits
    reading = asyncio.create_task(stream.read_line(100, 10))
    await asyncio.sleep(0)
    stream.interrupt(KeyError())
    with pytest.raises(KeyError):
        await reading
