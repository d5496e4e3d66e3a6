"""Connections to a table: many requests at once, slow clients, limits on time and number, and the end in order."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.config.sections import TablesSection
from relay.network import host_port
from relay.postfix_tables import server
from relay.srs.address import is_srs
from tests.postfix_tables.conftest import Serve
from tests.postfix_tables.served import Client
from tests.postfix_tables.test_lookups import LONG, Store

REQUEST = b"28:forward test@otherdomain.com,"


async def test_a_socketmap_has_both_maps_on_one_connection(serve: Serve) -> None:
    client = await (await serve()).client()
    found = await client.ask("forward", "joe@origin.test")
    assert found.startswith("OK SRS0=")
    assert await client.ask("reverse", found.removeprefix("OK ")) == "OK joe@origin.test"
    assert await client.ask("reverse", "joe@example.com") == "NOTFOUND "
    assert (await client.ask("other", "joe@origin.test")).startswith("PERM ")
    assert await client.ask("forward", "joe@origin.test") == found


async def test_tcp_tables_have_one_map_each(serve: Serve) -> None:
    forward = await (await serve(protocol="tcp", direction="forward")).client()
    reverse = await (await serve(protocol="tcp", direction="reverse")).client()
    found = await forward.get('"joe x"@origin.test')
    assert found.startswith('200 "SRS0=')
    assert await reverse.get(found.removeprefix("200 ")) == '200 "joe x"@origin.test'
    assert (await reverse.get("SRS0=FAKE=2V=a.test=b@example.com")).startswith("500 forged")
    forward.send(b"put a b\n")
    assert (await forward.line()).startswith("400 ")
    assert await forward.get('"joe x"@origin.test') == found


async def test_a_unix_socket_is_as_good_as_a_port(serve: Serve, tmp_path: Any) -> None:
    client = await (await serve(address=f"unix:{tmp_path}/tables")).client()
    assert (await client.ask("forward", "joe@origin.test")).startswith("OK SRS0=")


async def test_many_requests_at_once_are_answered_in_their_order(serve: Serve) -> None:
    client = await (await serve()).client()
    names = [f"user{number}" for number in range(2000)]
    requests = b"".join(b"%d:%s," % (len(r), r) for r in (f"forward {name}@origin.test".encode() for name in names))
    client.send(requests)
    for name in names:
        reply = await client.reply()
        assert reply.startswith("OK SRS0=") and f"={name}@" in reply


async def test_a_request_in_single_octets_is_answered(serve: Serve) -> None:
    client = await (await serve()).client()
    for octet in REQUEST:
        client.send(bytes([octet]))
        await client.writer.drain()
        await asyncio.sleep(0)
    assert (await client.reply()).startswith("OK ")


async def test_a_client_that_has_said_all_gets_all_answers(serve: Serve) -> None:
    client = await (await serve()).client()
    client.send(REQUEST * 3)
    client.writer.write_eof()
    for _ in range(3):
        assert (await client.reply()).startswith("OK ")
    assert await client.closed()


@pytest.mark.parametrize(
    "octets", [b"get joe@origin.test\n", b"9:forward a;", b"18446744073709551616:x", b"100001:" + b"x" * 300_000]
)
async def test_what_is_no_netstring_is_told_and_ends_the_connection(serve: Serve, octets: bytes) -> None:
    client = await (await serve()).client()
    client.send(REQUEST + octets)
    assert (await client.reply()).startswith("OK ")
    assert (await client.reply()).startswith("PERM ")
    assert await client.closed()


async def test_a_request_of_the_greatest_length_is_answered(serve: Serve) -> None:
    client = await (await serve()).client()
    assert await client.ask("forward", "a" * 99_980 + "@origin.test") == "NOTFOUND "
    assert await client.ask("forward", "joe@origin.test") != "NOTFOUND "


async def test_stored_senders_are_answered_too(serve: Serve) -> None:
    client = await (await serve(tokens=Store())).client()
    found = (await client.ask("forward", LONG)).removeprefix("OK ")
    assert is_srs(found) and await client.ask("reverse", found) == f"OK {LONG}"


async def test_while_the_queue_is_away_the_client_is_told_to_ask_again(serve: Serve) -> None:
    store = Store()
    store.away = True
    assert await (await (await serve(tokens=store)).client()).ask("forward", LONG) == "TEMP the queue does not answer"
    tcp = await serve(tokens=store, protocol="tcp", direction="forward")
    assert await (await tcp.client()).get(LONG) == "400 the queue does not answer"


# limits


async def test_a_client_that_does_not_read_is_not_read(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.3)
    served = await serve()
    served.server._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # the system keeps little
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.connect(host_port(served.table.address))
        sock.settimeout(10)
        sent = 0
        with pytest.raises(ConnectionError):
            while sent < 100_000_000:
                sent += await asyncio.to_thread(sock.send, REQUEST * 100)
        assert sent < 100_000_000
    assert (await (await served.client()).ask("forward", "joe@origin.test")).startswith("OK ")


async def test_half_a_request_is_waited_for_in_bounds_even_if_octets_trickle_in(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.2)
    client = await (await serve()).client()
    loop = asyncio.get_running_loop()
    start = loop.time()
    closed = asyncio.create_task(client.closed())
    client.send(b"5000:forward ")
    while not closed.done():
        client.send(b"a")
        await asyncio.sleep(0.02)
    assert await closed and loop.time() - start < 5


async def test_an_idle_connection_is_closed_after_a_while(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.2)
    client = await (await serve()).client()
    await client.ask("forward", "joe@origin.test")
    assert await client.closed()


async def test_past_the_limit_the_connection_that_is_quiet_for_longest_is_closed(serve: Serve) -> None:
    served = await serve(connections=3)
    first, second, third = [await served.client() for _ in range(3)]
    for client in (first, second, third, first):
        assert (await client.ask("forward", "joe@origin.test")).startswith("OK ")
    fourth = await served.client()
    assert (await fourth.ask("forward", "joe@origin.test")).startswith("OK ")
    assert await second.closed()
    for client in (first, third, fourth):
        assert (await client.ask("forward", "joe@origin.test")).startswith("OK ")


async def test_silent_connections_keep_nobody_out(serve: Serve) -> None:
    served = await serve(connections=3)
    silent = [await served.client() for _ in range(20)]
    client = await served.client()
    assert (await client.ask("forward", "joe@origin.test")).startswith("OK ")
    assert all([await each.closed() for each in silent[:17]])


async def test_who_may_not_connect_is_refused_and_logged(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = await serve(clients=["192.0.2.1"])
    assert (await (await served.client()).ask("forward", "joe@origin.test")).startswith("OK "), "this host may"
    monkeypatch.setattr(TablesSection, "admits", lambda table, ip: ip != "127.0.0.1")
    with capture_logs() as lines:
        client = await served.client()
        assert await client.closed()
    assert [(line["event"], line["ip"]) for line in lines] == [("table_refused", "127.0.0.1")]


# the end


async def test_idle_connections_end_soon_after_the_stop(serve: Serve) -> None:
    served = await serve()
    client = await served.client()
    await client.ask("forward", "joe@origin.test")
    await served.stop()
    assert await client.closed()


async def test_a_request_that_comes_while_it_stops_is_answered(serve: Serve) -> None:
    served = await serve()
    idle, fresh, half = [await served.client() for _ in range(3)]
    await idle.ask("forward", "joe@origin.test")
    half.send(REQUEST[:10])
    await asyncio.sleep(0.05)  # until its half has been read; if it has not, the test is easier
    stopping = asyncio.create_task(served.stop())
    await asyncio.sleep(0)
    for client, octets in ((idle, REQUEST), (fresh, REQUEST), (half, REQUEST[10:])):
        client.send(octets)
    for client in (idle, fresh, half):
        assert (await client.reply()).startswith("OK ") and await client.closed()
    await stopping


async def test_a_connection_that_does_not_end_is_cut_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE_SECONDS", 60.0)
    served = await serve()
    client = await served.client()
    client.send(REQUEST[:10])
    await asyncio.sleep(0.05)
    await served.stop(patience=0.1)
    assert await client.closed()


async def test_who_connects_after_the_stop_waits_for_another_worker(serve: Serve) -> None:
    served = await serve()
    await served.stop()
    client = await served.client()  # the test's own descriptor still listens, as that of the supervisor does
    client.send(REQUEST)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.reader.read(1)


class SlowStore(Store):
    """A store whose answers take a moment, in which clients go."""

    async def token_for(self, sender: str, now: float, lifetime: float) -> str:
        await asyncio.sleep(0.001)
        return await super().token_for(sender, now, lifetime)


@pytest.mark.parametrize("store", [None, SlowStore()])
async def test_clients_that_reset_the_connection_leave_nothing_behind(serve: Serve, store: Store | None) -> None:
    served = await serve(tokens=store)
    long = b"%d:forward %s," % (len(LONG) + 8, LONG.encode())
    with capture_logs() as lines:
        for octets in (b"", b"12:forw", REQUEST * 500, long * 20, long * 5 + b"x" * 100, b"x" * 100_000):
            client = await Client.connect(served.table)
            client.send(octets)
            await asyncio.sleep(0.005)
            client.writer.transport.abort()
        client = await served.client()
        assert (await client.ask("forward", "joe@origin.test")).startswith("OK ")
        await client.close()
        async with asyncio.timeout(10):
            while served.server._tasks:
                await asyncio.sleep(0.01)
    assert not served.server._by_quiet
    assert not [line for line in lines if line["event"] == "table_failed"]
