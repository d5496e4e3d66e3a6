"""The wait of strangers for the greeting, and those who do not wait."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from relay.config.sections import TlsSection
from relay.receive.server_tls import ServerTls
from relay.receive.shared_counts import ALL, CONNECTIONS
from tests.certificates import write_certificate
from tests.peers import wait_for
from tests.receive.door import Door, Talk, within_patience
from tests.receive.test_auth import Scripted

LONG = {"greeting_delay": "25s"}  # longer than a test waits
MESSAGE = b"Subject: hello\r\n\r\nHi.\r\n"
EARLY = "554 5.5.1 mx.test Error: you spoke before the greeting\r\n"


def connections(server: Door) -> int:
    return server.counts.total(CONNECTIONS + ALL)


async def test_who_waits_is_greeted_after_the_delay(door: Callable[..., Door]) -> None:
    server = door(clients={"greeting_delay": "300ms"})
    began = time.monotonic()
    client = await server.client()
    assert time.monotonic() - began >= 0.29
    assert (await client.mails(MESSAGE)).startswith("250 ")


@pytest.mark.parametrize(
    "said", ["EHLO spam.test\r\nMAIL FROM:<a@b.test>\r\n", "x", "GET / HTTP/1.0\r\n\r\n", "\x00\xff"]
)
async def test_who_speaks_first_is_disconnected(
    door: Callable[..., Door], log: list[MutableMapping[str, Any]], said: str
) -> None:
    server = door(clients=LONG)
    client = await server.client(greet=False)
    assert await client.says(said.encode("latin-1")) == EARLY
    assert await client.closed()
    (line,) = [line for line in log if line["event"] == "early_talker"]
    assert line["ip"] == "127.0.0.1" and line["said"].isascii() and line["said"].isprintable()
    assert not server.contents


async def test_who_speaks_and_closes_at_once_is_an_early_talker(
    door: Callable[..., Door], log: list[MutableMapping[str, Any]]
) -> None:
    client = await door(clients=LONG).client(greet=False)
    client.writer.write(b"QUIT\r\n")
    client.writer.write_eof()
    assert await client.reply() == EARLY
    assert "early_talker" in [line["event"] for line in log]


async def test_trusted_clients_do_not_wait(door: Callable[..., Door]) -> None:
    server = door(clients={**LONG, "trusted": ["127.0.0.1"]})
    client = await server.client(greet=False)
    assert (await client.says("EHLO client.test\r\n")).startswith("220 ")


async def test_mail_programs_do_not_wait(door: Callable[..., Door], tmp_path: Path) -> None:
    """Where TLS comes first, or a login is required."""
    write_certificate(tmp_path, "first")
    section = TlsSection(certificate=tmp_path / "cert.pem", private_key=tmp_path / "key.pem")
    tls = ServerTls(section).context
    server = door(tls=tls, listen={"tls": "implicit"}, clients=LONG)
    context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    talk = Talk(*await asyncio.open_connection(*server.address, ssl=context, server_hostname="mx.test"))
    assert (await talk.reply()).startswith("220 ")
    server = door(tls=tls, authenticator=Scripted(), listen={"auth": "required"}, clients=LONG)
    await server.client()


async def test_the_proxy_header_is_no_early_word(door: Callable[..., Door]) -> None:
    server = door(listen={"proxy_protocol": True}, clients={"greeting_delay": "300ms"})
    client = await server.client(greet=False)
    assert (await client.says("PROXY TCP4 192.0.2.7 127.0.0.1 1234 25\r\n")).startswith("220 ")
    client = await server.client(greet=False)
    assert await client.says("PROXY TCP4 192.0.2.7 127.0.0.1 1234 25\r\nEHLO spam.test\r\n") == EARLY


async def test_a_client_that_leaves_gives_its_place_back_at_once(door: Callable[..., Door]) -> None:
    server = door(clients=LONG, limits={"connections_per_client": 1})
    client = await server.client(greet=False)
    await wait_for(lambda: connections(server) == 1, "the connection")
    assert (await (await server.client(greet=False)).reply()).startswith("421 "), "who waits counts"
    client.writer.close()
    await wait_for(lambda: connections(server) == 0, "the end of it")


@pytest.mark.parametrize("aborted", [False, True])
async def test_a_stop_ends_the_wait(door: Callable[..., Door], aborted: bool) -> None:
    server = door(clients=LONG)
    client = await server.client(greet=False)
    await wait_for(lambda: connections(server) == 1, "the connection")
    server.listener.stop()
    if aborted:
        server.listener.abort()
    await within_patience(server.listener.finished())
    assert (await client.reply()).startswith("421 4.3.2 " if not aborted else "")


async def test_a_thousand_who_wait_are_all_greeted(door: Callable[..., Door]) -> None:
    """They wait side by side: a thousand take no longer than one."""
    server = door(clients={"greeting_delay": "1s"}, limits={"connections": 2000, "connections_per_client": 2000})
    began = time.monotonic()
    clients = await asyncio.gather(*(server.client(greet=False) for _ in range(400)))
    greetings = await asyncio.gather(*(client.reply() for client in clients))
    assert {greeting[:4] for greeting in greetings} == {"220 "}
    assert time.monotonic() - began < 8
