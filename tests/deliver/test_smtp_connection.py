"""An open connection: what it knows of the server, what may be sent over it, and how it ends."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.deliver import smtp_connection
from relay.deliver.mx import Host
from relay.deliver.next_hop import NextHop
from relay.deliver.reply_parser import NoReply
from relay.deliver.smtp_connection import Connection, HostFailed
from relay.deliver.smtp_opening import open_connection
from relay.deliver.tls_policy import HostPolicy
from relay.mail.outcome import Outcome
from tests.deliver.scripted import HANG_UP, STALL, ScriptedServer
from tests.deliver.sending import config
from tests.peers import wait_for


@asynccontextmanager
async def opened(server: ScriptedServer) -> AsyncIterator[Connection]:
    async with server():
        host = Host("mx.d.test", "127.0.0.1", server.port)
        leaving = config().destinations.leaving
        connection = await open_connection(host, NextHop(domain="d.test"), leaving, config().delivery)
        try:
            yield connection
        finally:
            connection.abort()


@pytest.mark.parametrize(
    ("offer", "limit"), [("SIZE 1000", 1000), ("SIZE", 0), ("SIZE x", 0), ("SIZE " + "9" * 30, 0), ("DSN", 0)]
)
async def test_the_ehlo_reply_is_remembered(offer: str, limit: int) -> None:
    async with opened(ScriptedServer(offers=(offer, "AUTH PLAIN CRAM-MD5"))) as connection:
        assert connection.size_limit == limit
        assert connection.offers(offer.partition(" ")[0].lower())
        assert not connection.offers("starttls")
        assert connection.auth_methods == ["plain", "cram-md5"]
        connection.note_offers("")
        assert (connection.size_limit, connection.auth_methods) == (0, [])


async def test_an_outcome_names_the_server() -> None:
    async with opened(ScriptedServer(offers=("DSN",))) as connection:
        refused = Outcome("failed", 550, "5.1.1", "no", remote=True)
        later = Outcome("deferred", 451, "4.3.0", "later", remote=True)
        stamped = connection.stamp(refused)
        assert (stamped.host, stamped.address, stamped.tls, stamped.dsn) == ("mx.d.test", "127.0.0.1", "", True)
        connection.fallback = "handshake failed"
        assert connection.stamp(refused).text == "no", "it is final with TLS, too"
        assert connection.stamp(later).text == "later (in clear, since TLS failed: handshake failed)"


async def test_nothing_is_sent_to_a_server_that_has_spoken_unasked() -> None:
    async with opened(ScriptedServer(NOOP="250 ok\r\n421 4.3.2 bye")) as connection:
        assert connection.idle
        connection.send(b"NOOP")
        assert (await connection.reply(5)).code == 250
        await wait_for(lambda: not connection.idle, "the 421")
        with pytest.raises(NoReply, match="garbage"):
            connection.send(b"NOOP")
        assert (await connection.reply(5)).code == 421, "it can still be read"


async def test_a_connection_without_a_reply_in_time_is_closed() -> None:
    async with opened(ScriptedServer(NOOP=STALL)) as connection:
        connection.send(b"NOOP")
        with pytest.raises(NoReply, match="timeout"):
            await connection.reply(0.05)
        await wait_for(lambda: not connection.idle, "the end of the connection")
        with pytest.raises(NoReply, match="lost"):
            connection.send(b"NOOP")


@pytest.mark.parametrize("answer", ["221 bye", "nonsense", HANG_UP, STALL])
async def test_quit_ends_whatever_the_server_says(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_connection, "QUIT_TIMEOUT", 0.05)
    server = ScriptedServer(QUIT=answer)
    async with opened(server) as connection:
        await connection.quit()
        await wait_for(lambda: not connection.idle, "the end of the connection")
        assert server.commands[-1] == "QUIT"
        await connection.quit()


async def test_a_host_that_refuses_the_connection_is_a_deferral() -> None:
    connection = Connection(Host("mx.d.test", "127.0.0.1", 1), HostPolicy("may", "may"), lmtp=False)
    with pytest.raises(HostFailed) as failed:
        await connection.connect(None, config().destinations.leaving, 10.0)
    outcome = failed.value.outcome
    assert (outcome.status, outcome.enhanced, outcome.host) == ("deferred", "4.4.1", "mx.d.test")
    assert "refused" in outcome.text.lower()


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (lambda path: None, "there is no such socket"),
        (lambda path: path.write_text(""), "Connection refused"),
        (lambda path: path.mkdir(), "Connection refused"),
    ],
    ids=["missing", "file", "folder"],
)
async def test_a_socket_that_cannot_be_used_is_a_deferral_that_says_why(
    tmp_path: Path, prepare: Callable[[Path], object], text: str
) -> None:
    path = tmp_path / "lmtp"
    prepare(path)
    with pytest.raises(HostFailed) as failed:
        await Connection(Host("localhost", str(path), 0), HostPolicy("none", "none"), lmtp=True).connect(
            None, config().destinations.leaving, 10.0
        )
    outcome = failed.value.outcome
    assert (outcome.status, outcome.enhanced, outcome.address, outcome.text) == ("deferred", "4.4.1", str(path), text)


async def test_a_socket_that_others_may_not_use_is_a_deferral_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may use every socket; so the kernel's answer is played."""

    async def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", refused, raising=False)
    with pytest.raises(HostFailed) as failed:
        await Connection(Host("localhost", "/run/x", 0), HostPolicy("none", "none"), lmtp=True).connect(
            None, config().destinations.leaving, 10.0
        )
    assert failed.value.outcome.text == "the relay's user may not connect to the socket"
