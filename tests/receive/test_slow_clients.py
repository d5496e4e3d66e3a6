"""Clients that are slow, greedy or gone: what they get, and that nobody else waits for them."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest

from relay.mail.envelope import Client
from relay.receive.command import Transaction
from relay.receive.stream import LINES_IN_A_ROW
from tests.peers import wait_for
from tests.receive.door import Door, Talk, within_patience

MAIL = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
TAKEN = {"clients": {"trusted": ["127.0.0.1"]}}  # may make any number of errors


async def deaf(server: Door) -> Talk:
    """A client with next to no room for replies on their way."""
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, server.address)
    return Talk(*await asyncio.open_connection(sock=sock, limit=1))


async def test_one_octet_at_a_time(door: Callable[..., Door]) -> None:
    server = door()
    talk = await server.client(greet=False)
    for octet in b"EHLO c\r\n" + MAIL + b"DATA\r\n\r\n..a\r\n.\r\n.\r\nQUIT\r\n":
        talk.writer.write(bytes([octet]))
        await asyncio.sleep(0)
    codes = [(await talk.reply())[:3] for _ in range(7)]
    assert codes == ["220", "250", "250", "250", "354", "250", "500"]
    assert server.contents == [b"\r\n.a\r\n"]


async def test_a_client_that_stops_sending_still_gets_its_replies(door: Callable[..., Door]) -> None:
    server = door()
    talk = await server.client(greet=False)
    talk.writer.write(b"EHLO c\r\n" + MAIL + b"DATA\r\nhi\r\n.\r\nQUIT\r\n")
    talk.writer.write_eof()
    codes = [(await talk.reply())[:3] for _ in range(7)]
    assert codes == ["220", "250", "250", "250", "354", "250", "221"]
    assert await talk.closed()
    assert server.contents == [b"hi\r\n"]


@pytest.mark.parametrize("more", [b"", b"NOOP\r\n"])
async def test_quit_is_answered_whatever_comes_behind_it(door: Callable[..., Door], more: bytes) -> None:
    talk = await door().client()
    talk.writer.write(b"QUIT\r\n" + more)
    assert (await talk.reply())[:3] == "221"
    assert await talk.closed()


@pytest.mark.parametrize("said", [b"", b"NOO", MAIL, MAIL + b"DATA\r\n", MAIL + b"DATA\r\nhi\r\n."])
@pytest.mark.parametrize("how", ["stops sending", "closes", "resets"])
async def test_a_client_that_is_gone_leaves_nothing(door: Callable[..., Door], said: bytes, how: str) -> None:
    server = door(limits={"connections_per_client": 1, "message_memory": 1000}, receive={"max_message_size": 1000})
    talk = await server.client()
    talk.writer.write(said)
    await asyncio.sleep(0.01)
    if how == "stops sending":
        talk.writer.write_eof()
    else:
        linger = struct.pack("ii", 1, 0) if how == "resets" else struct.pack("ii", 0, 0)
        talk.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        talk.writer.close()
    await within_patience(server.listener.finished())
    assert (await (await server.client()).mails(b"x" * 998 + b"\r\n")).startswith("250"), "room for all of it again"
    assert server.contents == [b"x" * 998 + b"\r\n"]


async def test_a_silent_client_is_sent_away(door: Callable[..., Door]) -> None:
    talk = await door(limits={"command_timeout": "100ms"}).client()
    assert (await talk.reply()).startswith("421 4.4.2 mx.test Error: timeout exceeded")
    assert await talk.closed()


async def test_a_line_without_end_is_neither_kept_nor_waited_for(door: Callable[..., Door]) -> None:
    server = door(limits={"command_timeout": "500ms"})
    talk, other = await server.client(), await server.client()
    sending = asyncio.create_task(_forever(talk, b"x" * 65536))
    assert (await other.mails(b"hi\r\n")).startswith("250"), "others are served meanwhile"
    assert (await talk.reply()).startswith("421 4.4.2")
    assert all(len(session._stream._buffer) < 2**20 for session in server.listener._sessions)
    sending.cancel()


@pytest.mark.parametrize("chunk", [b"x", b"x\r\n", b"\n.\n"])
async def test_data_that_trickles_has_an_end(door: Callable[..., Door], chunk: bytes) -> None:
    server = door(limits={"data_timeout": "200ms"})
    talk = await server.client()
    await talk.says(MAIL + b"DATA\r\n", 3)
    sending = asyncio.create_task(_forever(talk, chunk, 0.02))
    assert (await talk.reply()).startswith("421 4.4.2")
    sending.cancel()
    assert not server.taker.taken


async def test_silence_within_data_has_an_end(door: Callable[..., Door]) -> None:
    talk = await door(limits={"data_timeout": "100ms"}).client()
    await talk.says(MAIL + b"DATA\r\nhi\r\n", 3)
    assert (await talk.reply()).startswith("421 4.4.2")


async def test_a_pipeline_without_end_gives_others_their_turn(door: Callable[..., Door]) -> None:
    """However much of it has arrived, a few commands at a time are answered."""
    server = door(**TAKEN)
    done = 0

    async def mail(client: Client, transaction: Transaction) -> None:
        nonlocal done
        done += 1

    server.taker.mail = mail  # type: ignore[method-assign]
    talk = await server.client()
    talk.writer.write(b"MAIL FROM:<a@b>\r\nRSET\r\n" * 2000)
    reading = asyncio.create_task(talk.reader.readexactly(2000 * len("250 2.1.0 Ok\r\n250 2.0.0 Ok\r\n")))
    most = before = 0
    while not reading.done():
        most, before = max(most, done - before), done
        await asyncio.sleep(0)
    assert done == 2000
    assert most <= LINES_IN_A_ROW


@pytest.mark.parametrize("command", [b"EHLO c\r\n", b"x\r\n"])
async def test_a_client_that_never_reads_is_dropped(
    door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch, command: bytes
) -> None:
    """Its commands wait in its own socket, and the replies to them are not heaped up here."""
    monkeypatch.setattr("relay.receive.stream.WRITE_PATIENCE", 0.5)
    server = door(**TAKEN)
    talk = await deaf(server)
    sending = asyncio.create_task(_forever(talk, command * 10_000))
    await asyncio.sleep(0.3)
    (session,) = server.listener._sessions
    stream = session._stream
    assert len(stream._buffer) + len(stream._out) + stream._transport.get_write_buffer_size() < 2**20  # type: ignore[union-attr]
    assert (await (await server.client()).mails(b"hi\r\n")).startswith("250"), "others are served meanwhile"
    await wait_for(lambda: session not in server.listener._sessions, "the end of it")
    sending.cancel()


async def test_a_client_that_does_not_take_our_last_words_is_not_waited_for(
    door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.receive.stream.CLOSE_PATIENCE", 0.2)
    server = door(limits={"errors": 500})
    talk = await deaf(server)
    talk.writer.write(b"x\r\n" * 500)
    await wait_for(lambda: server.listener._connections, "the connection")
    await within_patience(server.listener.finished())


async def _forever(talk: Talk, data: bytes, pause: float = 0.0) -> None:
    while True:
        talk.writer.write(data)
        try:
            await talk.writer.drain()
        except ConnectionError:
            return
        await asyncio.sleep(pause)
