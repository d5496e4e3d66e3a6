"""Who gets a session: connections counted and refused, the client behind a proxy, a process that runs out of files."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from relay.receive.proxy_protocol import SIGNATURE
from tests.peers import wait_for
from tests.receive.door import Door


async def test_connections_are_limited_by_client(door: Callable[..., Door]) -> None:
    server = door(limits={"connections_per_client": 2})
    talks = [await server.client() for _ in range(2)]
    refused = await server.client(greet=False)
    assert (await refused.reply()).startswith("421 4.7.0 mx.test Error: too many connections from your address")
    assert await refused.closed()
    await talks[0].says("QUIT\r\n")
    assert await talks[0].closed()
    await server.client()


async def test_connections_that_come_together_are_all_greeted(door: Callable[..., Door]) -> None:
    server = door(limits={"connections_per_client": 60})
    for number in (40, 1, 3):
        talks = await asyncio.gather(*(server.client(greet=False) for _ in range(number)))
        assert {(await talk.reply())[:3] for talk in talks} == {"220"}


async def test_connections_are_limited_in_all(door: Callable[..., Door]) -> None:
    server = door(limits={"connections": 1}, clients={"trusted": ["127.0.0.1"]})
    await server.client()
    refused = await server.client(greet=False)
    assert (await refused.reply()).startswith("421 4.7.0 mx.test Error: too many connections")
    assert await refused.closed()


async def test_trusted_clients_may_have_as_many_connections_as_there_are(door: Callable[..., Door]) -> None:
    server = door(limits={"connections_per_client": 1}, clients={"trusted": ["127.0.0.1"]})
    for _ in range(3):
        await server.client()


async def test_the_client_behind_a_proxy_is_the_one_that_counts(door: Callable[..., Door]) -> None:
    server = door(listen={"proxy_protocol": True}, limits={"connections_per_client": 1})
    talks = [await server.client(greet=False) for _ in range(3)]
    lines = [f"PROXY TCP4 192.0.2.{last} 127.0.0.1 1234 25\r\n" for last in (1, 2, 2)]
    greetings = [await talk.says(line) for talk, line in zip(talks, lines, strict=True)]
    assert [greeting[:3] for greeting in greetings] == ["220", "220", "421"]


V1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 1234 25\r\n"
V2 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 127, 0, 0, 1]) + struct.pack("!HH", 1234, 25)


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("pace", ["whole", "octet by octet", "with what follows"])
async def test_proxy_protocol(door: Callable[..., Door], header: bytes, pace: str) -> None:
    server = door(listen={"proxy_protocol": True}, clients={"trusted": ["127.0.0.1"]})
    talk = await server.client(greet=False)
    if pace == "octet by octet":
        for octet in header:
            talk.writer.write(bytes([octet]))
            await asyncio.sleep(0)
    else:
        talk.writer.write(header + (b"EHLO c\r\n" if pace == "with what follows" else b""))
    await talk.reply()
    if pace == "with what follows":
        await talk.reply()
    await talk.says("EHLO c\r\n")
    await talk.mails(b"hi\r\n")
    client = server.taker.taken[0][0]
    assert (client.ip, client.port, client.trusted) == ("192.0.2.7", 1234, False)


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\x00\x00\x00"], ids=["v1 UNKNOWN", "v2 LOCAL"]
)
async def test_an_unknown_proxied_client_is_never_trusted(door: Callable[..., Door], header: bytes) -> None:
    server = door(listen={"proxy_protocol": True}, clients={"trusted": ["127.0.0.1"]})
    talk = await server.client(greet=False)
    talk.writer.write(header)
    await talk.reply()
    await talk.says("EHLO c\r\n")
    await talk.mails(b"hi\r\n")
    assert server.taker.taken[0][0].trusted is False


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ({"proxies": ["192.0.2.0/24"]}, V1),
        ({}, b"EHLO client.test\r\n"),
        ({}, b"PROXY TCP4 192.0.2.7 127.0.0.1 1234\r\n"),
        ({}, b"PROXY " + b"x" * 200),
        ({}, SIGNATURE + b"\x21\x11\xff\xff" + bytes(65535)),
        ({}, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
    ],
    ids=["not one of the proxies", "no header", "malformed", "endless", "too long", "TLS"],
)
async def test_without_a_header_from_a_named_proxy_nobody_comes_in(
    door: Callable[..., Door], listen: dict[str, Any], said: bytes
) -> None:
    server = door(listen={"proxy_protocol": True, **listen})
    talk = await server.client(greet=False)
    talk.writer.write(said)
    assert await talk.closed()


async def test_who_comes_while_the_relay_stops_is_sent_away(door: Callable[..., Door]) -> None:
    server = door(listen={"proxy_protocol": True})
    talk = await server.client(greet=False)
    await wait_for(lambda: server.listener._connections, "the connection")
    server.listener.stop()
    assert (await talk.says(V1, 2)).splitlines()[-1].startswith("421 4.3.2 mx.test")
    assert await talk.closed()


async def test_out_of_files_nobody_is_lost(door: Callable[..., Door], log: list[dict[str, Any]]) -> None:
    """Clients wait in the backlog until there are files again; meanwhile the listener does not spin."""
    server = door()
    clients = [socket.create_connection(server.address) for _ in range(5)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(server.socket.fileno())
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, hard))
    try:
        await wait_for(lambda: [line for line in log if line["event"] == "accept_failed"], "the log of it")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    loop = asyncio.get_running_loop()
    for client in clients:
        client.setblocking(False)
        assert (await asyncio.wait_for(loop.sock_recv(client, 100), 10)).startswith(b"220 mx.test")
        client.close()
    assert len([line for line in log if line["event"] == "accept_failed"]) < 5


async def test_a_listener_that_stops_while_out_of_files_stays_stopped(
    door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.receive.listener._OUT_OF_FILES_PAUSE", 0.05)
    server = door()
    waiting = socket.create_connection(server.address)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(server.socket.fileno())
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        await asyncio.sleep(0.02)
        server.listener.stop()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await asyncio.sleep(0.2)
    waiting.setblocking(False)
    with pytest.raises(BlockingIOError):
        waiting.recv(100)
    waiting.close()
