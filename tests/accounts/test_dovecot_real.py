"""Logins through a real Dovecot: every mechanism that it offers, what it refuses, and its restart."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import structlog.testing

from relay.accounts import dovecot_connection, dovecot_link
from relay.accounts.dovecot import DovecotAuthenticator
from relay.mail.reply import Refused
from relay.receive.authenticator import Challenge, LoggedIn
from tests.accounts import sasl_clients as sasl
from tests.accounts.scripted_dovecot import CLIENT, ready, running
from tests.journeys.dovecot_auth import MECHANISMS, DovecotAuth, TokenServer
from tests.peers import needs, wait_for

pytestmark = needs("dovecot", root=True)

JOE = "joe@fwd.example"
USERS = {
    JOE: "pencil",
    "ann@fwd.example": "salt",
    "locked@fwd.example": "pencil nologin",
    "moved@fwd.example": "pencil proxy=y host=192.0.2.9",
}


@pytest.fixture(scope="module")
def tokens() -> Iterator[TokenServer]:
    server = TokenServer({"good-token": JOE}).start()
    yield server
    server.stop()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that Dovecot's own users can enter, as they cannot those of pytest."""
    with tempfile.TemporaryDirectory(prefix="srs-relay-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def started(introspection: str = "http://127.0.0.1:9/") -> Iterator[DovecotAuth]:
    with folder() as base:
        server = DovecotAuth(base / "dovecot", USERS, ("gone@fwd.example",), introspection)
        try:
            yield server.start()
        finally:
            server.stop()


@pytest.fixture(scope="module")
def dovecot(tokens: TokenServer) -> Iterator[DovecotAuth]:
    with started(tokens.url) as server:
        yield server


@pytest.fixture
async def authenticator(dovecot: DovecotAuth) -> AsyncIterator[DovecotAuthenticator]:
    async with running(dovecot.socket) as made:
        await ready(made)
        yield made


async def log_in(authenticator: DovecotAuthenticator, mechanism: str, exchange: sasl.Exchange) -> str:
    """Log in as a mail client does; returns the name, or the reply of the refusal."""
    login = authenticator.login(mechanism, CLIENT)
    try:
        response = next(exchange)
        while True:
            came = await login.step(response)
            if isinstance(came, LoggedIn):
                if came.last is not None:
                    exchange.send(came.last)
                return came.user
            response = exchange.send(came.octets)
    except Refused as refused:
        return str(refused)
    finally:
        login.close()
        exchange.close()


EXCHANGES: dict[str, Callable[[str, str], sasl.Exchange]] = {
    "PLAIN": sasl.plain,
    "LOGIN": sasl.login,
    "CRAM-MD5": sasl.cram_md5,
    "DIGEST-MD5": sasl.digest_md5,
    "SCRAM-SHA-1": partial(sasl.scram, "SCRAM-SHA-1"),
    "SCRAM-SHA-256": partial(sasl.scram, "SCRAM-SHA-256"),
}


async def test_what_it_lists_is_offered_but_for_two(authenticator: DovecotAuthenticator) -> None:
    assert set(authenticator.mechanisms()) == set(MECHANISMS) - {"ANONYMOUS", "EXTERNAL"}


@pytest.mark.parametrize("mechanism", EXCHANGES)
async def test_a_password(authenticator: DovecotAuthenticator, mechanism: str) -> None:
    exchange = EXCHANGES[mechanism]
    assert await log_in(authenticator, mechanism, exchange(JOE, "pencil")) == JOE
    assert (await log_in(authenticator, mechanism, exchange(JOE, "pen"))).startswith("535 5.7.8 ")
    assert (await log_in(authenticator, mechanism, exchange("nobody@fwd.example", "pencil"))).startswith("535 5.7.8 ")


async def test_plain_without_an_initial_response(authenticator: DovecotAuthenticator) -> None:
    assert await log_in(authenticator, "PLAIN", sasl.plain_when_asked(JOE, "pencil")) == JOE


@pytest.mark.parametrize(("mechanism", "exchange"), [("OAUTHBEARER", sasl.oauthbearer), ("XOAUTH2", sasl.xoauth2)])
async def test_a_token(
    authenticator: DovecotAuthenticator, mechanism: str, exchange: Callable[[str, str], sasl.Exchange]
) -> None:
    assert await log_in(authenticator, mechanism, exchange(JOE, "good-token")) == JOE
    login = authenticator.login(mechanism, CLIENT)
    wrong = exchange(JOE, "old-token")
    error = await login.step(next(wrong))
    assert isinstance(error, Challenge) and b"status" in error.octets
    with pytest.raises(Refused, match=r"535 5\.7\.8 "):
        await login.step(next(wrong))


async def test_the_name_is_as_dovecot_writes_it(authenticator: DovecotAuthenticator) -> None:
    assert await log_in(authenticator, "PLAIN", sasl.plain("JOE@FWD.example", "pencil")) == JOE


@pytest.mark.parametrize("user", ["locked@fwd.example", "moved@fwd.example", "gone@fwd.example"])
async def test_an_account_that_may_not_log_in_here(authenticator: DovecotAuthenticator, user: str) -> None:
    assert (await log_in(authenticator, "PLAIN", sasl.plain(user, "pencil"))).startswith("535 5.7.8 ")


NO_RESPONSES = (b"", b"nonsense", b"\0\0", b"\0" * 9000, bytes(range(256)), b"\0joe\0x\ty\n\x01t")


@pytest.mark.parametrize("mechanism", sorted(set(MECHANISMS) - {"ANONYMOUS", "EXTERNAL"}))
async def test_a_response_that_is_none_harms_nobody(authenticator: DovecotAuthenticator, mechanism: str) -> None:
    async def say(response: bytes) -> str:
        login = authenticator.login(mechanism, CLIENT)
        with pytest.raises(Refused) as caught:
            for _ in range(4):
                await login.step(response)
        return str(caught.value)

    replies = await asyncio.gather(*map(say, NO_RESPONSES))
    assert all(reply.startswith("535 5.7.8 ") for reply in replies)
    assert await log_in(authenticator, "PLAIN", sasl.plain(JOE, "pencil")) == JOE
    connection = await authenticator._link.connection()
    assert connection._last_number == len(NO_RESPONSES) + 1  # the same connection


async def test_logins_of_many_at_the_same_time(authenticator: DovecotAuthenticator) -> None:
    def exchange(number: int) -> tuple[str, sasl.Exchange, str]:
        user, password = (JOE, "pencil") if number % 2 else ("ann@fwd.example", "salt")
        mechanism = sorted(EXCHANGES)[number % len(EXCHANGES)]
        return mechanism, EXCHANGES[mechanism](user, password), user

    wanted = [exchange(number) for number in range(60)]
    names = await asyncio.gather(*(log_in(authenticator, mechanism, made) for mechanism, made, _ in wanted))
    assert names == [user for _, _, user in wanted]


async def test_a_client_that_gives_up(authenticator: DovecotAuthenticator) -> None:
    login = authenticator.login("LOGIN", CLIENT)
    await login.step(None)
    login.close()
    assert await log_in(authenticator, "PLAIN", sasl.plain(JOE, "pencil")) == JOE


async def test_an_address_of_version_6_and_a_proxy_that_names_none(authenticator: DovecotAuthenticator) -> None:
    for client in (CLIENT._replace(ip="2001:db8::7", local="2001:db8::1"), CLIENT._replace(known=False)):
        assert await authenticator.login("PLAIN", client).step(f"\0{JOE}\0pencil".encode()) == LoggedIn(JOE)


async def test_two_workers(dovecot: DovecotAuth, authenticator: DovecotAuthenticator) -> None:
    async with running(dovecot.socket, quiet=True) as second:
        await ready(second)
        for worker in (authenticator, second):
            assert await log_in(worker, "SCRAM-SHA-256", sasl.scram("SCRAM-SHA-256", JOE, "pencil")) == JOE


async def test_a_database_that_is_down_is_temporary() -> None:
    tokens = TokenServer({"good-token": JOE}).start()
    with started(tokens.url) as dovecot:
        async with running(dovecot.socket) as authenticator:
            await ready(authenticator)
            assert await log_in(authenticator, "XOAUTH2", sasl.xoauth2(JOE, "good-token")) == JOE
            tokens.stop()
            assert (await log_in(authenticator, "XOAUTH2", sasl.xoauth2(JOE, "good-token"))).startswith("454 4.7.0 ")
            assert await log_in(authenticator, "PLAIN", sasl.plain(JOE, "pencil")) == JOE


async def test_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old authentication process stays while it has clients, and must not answer them for long."""
    monkeypatch.setattr(dovecot_link, "RENEWED_AFTER", 0.5)
    monkeypatch.setattr(dovecot_link, "PATIENCE", 1.0)
    with started() as dovecot:
        async with running(dovecot.socket) as authenticator:
            await ready(authenticator)
            await asyncio.to_thread(dovecot.stop)
            await wait_for(lambda: authenticator._link._connection is None, "the end of the connection")
            assert (await log_in(authenticator, "PLAIN", sasl.plain(JOE, "pencil"))).startswith("454 4.7.0 ")
            assert "PLAIN" in authenticator.mechanisms()
            await asyncio.to_thread(dovecot.run)
            assert await log_in(authenticator, "PLAIN", sasl.plain(JOE, "pencil")) == JOE


async def test_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new configuration holds as soon as the connection was replaced; a login that is under way ends well."""
    monkeypatch.setattr(dovecot_link, "RENEWED_AFTER", 0.5)
    with started() as dovecot:
        async with running(dovecot.socket) as authenticator:
            await ready(authenticator)
            under_way = sasl.login(JOE, "pencil")
            login = authenticator.login("LOGIN", CLIENT)
            await login.step(next(under_way))
            dovecot.mechanisms = ("PLAIN", "SCRAM-SHA-256")
            await asyncio.to_thread(dovecot.reload)
            await wait_for(lambda: authenticator.mechanisms() == dovecot.mechanisms, "the new mechanisms")
            await login.step(next(under_way))
            assert await login.step(next(under_way)) == LoggedIn(JOE)
            assert await log_in(authenticator, "PLAIN", sasl.plain(JOE, "pencil")) == JOE


async def test_a_stop_that_takes_the_processes_along() -> None:
    """As systemd does it."""
    with started() as dovecot:
        async with running(dovecot.socket) as authenticator:
            await ready(authenticator)
            under_way = authenticator.login("LOGIN", CLIENT)
            await under_way.step(None)
            first = await authenticator._link.connection()
            await asyncio.to_thread(dovecot.kill)
            await wait_for(lambda: first.ended, "the end of the connection")
            with pytest.raises(Refused, match=r"454 4\.7\.0 "):
                await under_way.step(JOE.encode())
            await asyncio.to_thread(dovecot.run)
            assert await log_in(authenticator, "PLAIN", sasl.plain(JOE, "pencil")) == JOE


async def test_the_socket_for_servers_is_told_from_the_one_for_clients(
    dovecot: DovecotAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dovecot_connection, "HANDSHAKE_TIMEOUT", 1.0)
    with structlog.testing.capture_logs() as logs:
        async with running(dovecot.folder / "run" / "auth-userdb"):
            await wait_for(lambda: logs, "a line of the log")
    assert logs[0]["problem"] == "it is a socket of Dovecot, but not for clients"
    assert "auth-client" in logs[0]["mend"]
