"""Logins through a scripted Dovecot: every answer, every fault, and what of it the client and the log see."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.accounts import dovecot_connection, dovecot_link
from relay.accounts.dovecot import DovecotAuthenticator
from relay.accounts.dovecot_connection import Disconnected, DovecotConnection
from relay.accounts.dovecot_unreachable import Unreachable
from relay.mail.reply import Refused
from relay.receive.authenticator import Challenge, LoggedIn, Login, LoginFailed
from tests.accounts.scripted_dovecot import CLIENT, GREETING, ScriptedDovecot, Talk, ready, running
from tests.peers import wait_for

SECRET = b"\0joe\0correct horse"
IN_BASE64 = base64.b64encode(SECRET).decode()
NOT_NOW = "454 4.7.0 Temporary authentication failure: try again later"
FAILED = "535 5.7.8 Error: authentication failed"
WRONG = f"{FAILED}: wrong user name or password"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """New connections come after a hundredth of a second."""
    monkeypatch.setattr(dovecot_link, "FIRST_PAUSE", 0.01)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ScriptedDovecot]:
    scripted = ScriptedDovecot(tmp_path / "auth-client")
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def authenticator(server: ScriptedDovecot) -> AsyncIterator[DovecotAuthenticator]:
    async with running(server.path) as made:
        yield made


@pytest.fixture
async def talk(server: ScriptedDovecot, authenticator: DovecotAuthenticator) -> Talk:
    """The connection, after an ordinary handshake that the relay has read."""
    greeted = await server.greeted()
    await ready(authenticator)
    return greeted


def step(login: Login, response: bytes | None = SECRET) -> asyncio.Task[Challenge | LoggedIn]:
    return asyncio.create_task(login.step(response))


async def reply(task: asyncio.Task[Challenge | LoggedIn]) -> str:
    """The reply with which the step is refused."""
    async with asyncio.timeout(20):
        with pytest.raises(Refused) as caught:
            await task
    assert caught.value.__cause__ is None  # nothing of the exchange is in a traceback
    return str(caught.value)


def log_lines(logs: list[Any], event: str) -> list[Any]:
    return [line for line in logs if line["event"] == event]


# the exchange


async def test_a_right_password(talk: Talk, authenticator: DovecotAuthenticator) -> None:
    task = step(authenticator.login("PLAIN", CLIENT))
    assert await talk.line() == (
        "AUTH\t1\tPLAIN\tservice=smtp\tfinal-resp-ok\tsecured=tls\tlip=192.0.2.1\tlport=587\trip=192.0.2.7\trport=40123"
        f"\tresp={IN_BASE64}"
    )
    talk.say("OK\t1\tuser=Joe@example.org\toriginal_user=joe")
    assert await task == LoggedIn("Joe@example.org")


async def test_a_login_in_steps(talk: Talk, authenticator: DovecotAuthenticator) -> None:
    login = authenticator.login("LOGIN", CLIENT)
    task = step(login, None)
    assert (await talk.line()).endswith("\trport=40123")  # no initial response
    talk.say("CONT\t1\tVXNlcm5hbWU6")
    assert await task == Challenge(b"Username:")
    task = step(login, b"joe")
    assert await talk.line() == "CONT\t1\tam9l"
    talk.say("CONT\t1\tUGFzc3dvcmQ6")
    assert await task == Challenge(b"Password:")
    task = step(login, b"")
    assert await talk.line() == "CONT\t1\t"
    talk.say("FAIL\t1\tuser=joe")
    assert await reply(task) == WRONG
    login.close()
    await a_login_works(talk, authenticator, "2")  # without a CANCEL before it


async def a_login_works(talk: Talk, authenticator: DovecotAuthenticator, number: str = "1") -> None:
    task = step(authenticator.login("PLAIN", CLIENT))
    line = (await talk.line()).split("\t")
    assert line[:3] == ["AUTH", number, "PLAIN"]
    talk.say(f"OK\t{number}\tuser=joe")
    assert await task == LoggedIn("joe")


async def test_an_empty_initial_response_is_sent(talk: Talk, authenticator: DovecotAuthenticator) -> None:
    task = step(authenticator.login("PLAIN", CLIENT), b"")
    assert (await talk.line()).endswith("\tresp=")
    talk.say("FAIL\t1")
    assert await reply(task) == WRONG


async def test_what_the_server_proves_at_the_end_reaches_the_client(
    talk: Talk, authenticator: DovecotAuthenticator
) -> None:
    task = step(authenticator.login("SCRAM-SHA-256", CLIENT), b"n,,n=joe,r=abc")
    await talk.line()
    talk.say("OK\t1\tuser=joe\tresp=dj1yPQ==")
    assert await task == LoggedIn("joe", b"v=r=")


async def test_an_error_of_a_mechanism_is_answered_before_the_refusal(
    talk: Talk, authenticator: DovecotAuthenticator
) -> None:
    """RFC 7628 section 3.2.3: as Dovecot 2.3 does it, and as 2.4 does."""
    login = authenticator.login("XOAUTH2", CLIENT)
    task = step(login, b"user=joe\x01auth=Bearer old\x01\x01")
    await talk.line()
    talk.say("CONT\t1\teyJzdGF0dXMiOiI0MDEifQ==")
    assert await task == Challenge(b'{"status":"401"}')
    task = step(login, b"\x01")
    assert await talk.line() == "CONT\t1\tAQ=="
    talk.say("FAIL\t1\tuser=joe")
    assert await reply(task) == WRONG

    login = authenticator.login("XOAUTH2", CLIENT)
    task = step(login, b"user=joe\x01auth=Bearer old\x01\x01")
    await talk.line()
    talk.say("FAIL\t2\tuser=joe\tresp=eyJzdGF0dXMiOiI0MDEifQ==")
    assert await task == Challenge(b'{"status":"401"}')
    assert await reply(step(login, b"\x01")) == WRONG
    login.close()
    await a_login_works(talk, authenticator, "3")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("FAIL\t1", WRONG),
        ("FAIL\t1\tuser=joe\treason=Invalid base64", f"{FAILED}: Invalid base64"),
        ("FAIL\t1\treason=two\x01nlines\x01t…", f"{FAILED}: two?lines??"),
        ("FAIL\t1\tcode=user_disabled", f"{FAILED}: the account is disabled"),
        ("FAIL\t1\tcode=pass_expired", f"{FAILED}: the password has expired"),
        ("FAIL\t1\tcode=authz_fail", f"{FAILED}: not allowed to act for that user"),
        ("FAIL\t1\ttemp", NOT_NOW),
        ("FAIL\t1\tcode=temp_fail\tuser=joe", NOT_NOW),
        ("FAIL\t1\tcode=temp_fail\treason=no database", "454 4.7.0 Temporary authentication failure: no database"),
        ("OK\t1\tuser=joe\tnologin", f"{FAILED}: no logins for this account on this host"),
        ("OK\t1\tuser=joe\tproxy\thost=192.0.2.9", f"{FAILED}: no logins for this account on this host"),
        ("OK\t1\tuser=nobody\tanonymous", f"{FAILED}: no anonymous logins"),
    ],
)
async def test_a_failure_has_its_reply(
    talk: Talk, authenticator: DovecotAuthenticator, answer: str, expected: str
) -> None:
    task = step(authenticator.login("PLAIN", CLIENT))
    await talk.line()
    talk.say(answer)
    assert await reply(task) == expected
    await a_login_works(talk, authenticator, "2")


async def test_a_failure_counts_for_the_name_that_dovecot_says(talk: Talk, authenticator: DovecotAuthenticator) -> None:
    task = step(authenticator.login("PLAIN", CLIENT))
    await talk.line()
    talk.say("FAIL\t1\tuser=JOE@Example.ORG")
    with pytest.raises(LoginFailed) as caught:
        await task
    assert caught.value.user == "joe@example.org" and not caught.value.known


async def test_logins_at_the_same_time_get_their_own_answers(talk: Talk, authenticator: DovecotAuthenticator) -> None:
    tasks = [step(authenticator.login("PLAIN", CLIENT)) for _ in range(100)]
    numbers = [(await talk.line()).split("\t")[1] for _ in tasks]
    assert sorted(numbers, key=int) == [str(number) for number in range(1, 101)]
    talk.say(*(f"OK\t{number}\tuser=user{number}" for number in reversed(numbers)))
    assert [await task for task in tasks] == [LoggedIn(f"user{number}") for number in numbers]


async def test_an_answer_in_pieces(talk: Talk, authenticator: DovecotAuthenticator) -> None:
    task = step(authenticator.login("PLAIN", CLIENT))
    await talk.line()
    for octet in b"OK\t1\tuser=joe\n":
        talk.send(bytes([octet]))
        await asyncio.sleep(0)
    assert await task == LoggedIn("joe")


# clients that give up


async def test_a_client_that_gives_up_cancels_its_login(talk: Talk, authenticator: DovecotAuthenticator) -> None:
    login = authenticator.login("LOGIN", CLIENT)
    task = step(login, None)
    await talk.line()
    talk.say("CONT\t1\tVXNlcm5hbWU6")
    await task
    login.close()
    login.close()
    assert await talk.line() == "CANCEL\t1"
    talk.say("CANCELLED\t1", "FAIL\t1\treason=timed out")
    await a_login_works(talk, authenticator, "2")


async def test_a_client_that_is_lost_cancels_its_login(talk: Talk, authenticator: DovecotAuthenticator) -> None:
    """Its late answer lets nobody in."""
    login = authenticator.login("PLAIN", CLIENT)
    task = step(login)
    await talk.line()
    task.cancel()
    await asyncio.wait([task])
    login.close()
    assert await talk.line() == "CANCEL\t1"
    talk.say("OK\t1\tuser=joe")
    await a_login_works(talk, authenticator, "2")


async def test_a_login_that_never_asked_is_closed(talk: Talk, authenticator: DovecotAuthenticator) -> None:
    authenticator.login("PLAIN", CLIENT).close()
    await a_login_works(talk, authenticator)


async def test_a_login_that_dovecot_ends_meanwhile(talk: Talk, authenticator: DovecotAuthenticator) -> None:
    """Dovecot waits 150 seconds for a client."""
    login = authenticator.login("LOGIN", CLIENT)
    task = step(login, None)
    await talk.line()
    talk.say("CONT\t1\tVXNlcm5hbWU6")
    await task
    talk.say("FAIL\t1\treason=Authentication request timed out")
    await a_login_works(talk, authenticator, "2")
    assert await reply(step(login, b"joe")) == f"{FAILED}: Authentication request timed out"


async def test_a_response_that_dovecot_would_not_read_is_not_sent(
    talk: Talk, authenticator: DovecotAuthenticator
) -> None:
    """It closes the connection, with the logins of others on it."""
    login = authenticator.login("PLAIN", CLIENT)
    assert (await reply(step(login, bytes(12288)))).startswith("500 5.5.6 ")
    login.close()
    assert await talk.line() == "CANCEL\t1"
    login = authenticator.login("PLAIN", CLIENT)
    task = step(login, bytes(9216))  # 12288 octets in base64, the most that RFC 4954 section 4 asks for
    assert len(await talk.line()) > 12288
    talk.say("FAIL\t2")
    assert await reply(task) == WRONG


# a Dovecot that goes away


async def test_a_login_under_way_when_dovecot_stops_fails_for_now(
    server: ScriptedDovecot, talk: Talk, authenticator: DovecotAuthenticator
) -> None:
    waiting = authenticator.login("LOGIN", CLIENT)
    first = step(waiting, None)
    await talk.line()
    talk.say("CONT\t1\tVXNlcm5hbWU6")
    await first
    asking = step(authenticator.login("PLAIN", CLIENT))
    await talk.line()
    talk.hang_up()
    assert await reply(asking) == NOT_NOW
    assert authenticator.mechanisms() == ("PLAIN", "LOGIN", "XOAUTH2", "SCRAM-SHA-256")
    new = await server.greeted()
    assert await reply(step(waiting, b"joe")) == NOT_NOW
    waiting.close()
    await a_login_works(new, authenticator)


async def test_a_login_waits_for_dovecot_to_come_back(
    server: ScriptedDovecot, talk: Talk, authenticator: DovecotAuthenticator
) -> None:
    connection = await authenticator._link.connection()
    talk.hang_up()
    await wait_for(lambda: connection.ended, "the end of the connection")
    task = step(authenticator.login("PLAIN", CLIENT))
    new = await server.greeted()
    assert (await new.line()).startswith("AUTH\t1\tPLAIN\t")
    new.say("OK\t1\tuser=joe")
    assert await task == LoggedIn("joe")


async def test_the_mechanisms_are_those_of_the_last_handshake(
    server: ScriptedDovecot, talk: Talk, authenticator: DovecotAuthenticator
) -> None:
    login = authenticator.login("LOGIN", CLIENT)
    talk.hang_up()
    await (await server.next()).greet(["VERSION\t1\t2", "MECH\tPLAIN", "DONE"])
    await wait_for(lambda: authenticator.mechanisms() == ("PLAIN",), "the new list")
    assert (await reply(step(login, None))).startswith("504 5.5.4 ")


async def test_a_connection_is_replaced_and_its_logins_end_on_it(
    server: ScriptedDovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dovecot_link, "RENEWED_AFTER", 0.2)
    with structlog.testing.capture_logs() as logs:
        async with running(server.path) as authenticator:
            old = await server.greeted()
            under_way = authenticator.login("LOGIN", CLIENT)
            task = step(under_way, None)
            await old.line()
            old.say("CONT\t1\tVXNlcm5hbWU6")
            await task
            replaced = await authenticator._link.connection()
            new = await server.greeted()
            monkeypatch.undo()
            await wait_for(lambda: replaced.retired, "the new connection")
            await a_login_works(new, authenticator)
            task = step(under_way, b"joe")
            assert await old.line() == "CONT\t1\tam9l"
            old.say("OK\t1\tuser=joe")
            assert await task == LoggedIn("joe")
            assert await old.line() == ""
            assert not replaced.faulty
    assert [line["event"] for line in logs] == ["dovecot_connected"]


async def test_a_connection_that_cannot_be_replaced_is_left(
    server: ScriptedDovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dovecot was stopped, but its authentication process stays while there are clients."""
    monkeypatch.setattr(dovecot_link, "RENEWED_AFTER", 0.1)
    monkeypatch.setattr(dovecot_link, "PATIENCE", 0.1)
    with structlog.testing.capture_logs() as logs:
        async with running(server.path) as authenticator:
            old = await server.greeted()
            server.path.unlink()
            assert await old.line() == ""
            assert await reply(step(authenticator.login("PLAIN", CLIENT))) == NOT_NOW
    assert [line["event"] for line in logs] == ["dovecot_connected", "dovecot_unreachable"]


async def test_without_a_socket_nothing_is_offered_and_the_relay_goes_on(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with running(tmp_path / "auth-client") as authenticator:
            await wait_for(lambda: log_lines(logs, "dovecot_unreachable"), "the line of the log")
            assert authenticator.mechanisms() == ()
            server = ScriptedDovecot(tmp_path / "auth-client")
            await server.start()
            await server.greeted()
            await ready(authenticator)
            await server.stop()
    [line] = log_lines(logs, "dovecot_unreachable")
    assert line["log_level"] == "error" and line["problem"] == "there is no such socket"
    assert f"unix_listener {tmp_path}/auth-client {{ mode = 0600" in line["mend"]
    [connected] = log_lines(logs, "dovecot_connected")
    assert connected["mechanisms"] == ["PLAIN", "LOGIN", "XOAUTH2", "SCRAM-SHA-256"]


async def test_a_login_without_dovecot_fails_for_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dovecot_link, "PATIENCE", 0.05)
    async with running(tmp_path / "auth-client") as authenticator:
        assert await reply(step(authenticator.login("PLAIN", CLIENT))) == NOT_NOW


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_socket_that_is_not_for_us_is_named_with_its_mend(server: ScriptedDovecot) -> None:
    server.path.chmod(0o600)
    server.path.parent.chmod(0o755)
    for folder in server.path.parents[1:3]:
        folder.chmod(folder.stat().st_mode | 0o011)
    with structlog.testing.capture_logs() as logs:
        os.seteuid(65534)
        try:
            async with running(server.path):
                await wait_for(lambda: log_lines(logs, "dovecot_unreachable"), "the line of the log")
        finally:
            os.seteuid(0)
    [line] = log_lines(logs, "dovecot_unreachable")
    assert line["problem"] == "the user nobody may not connect to it"
    assert line["mend"] == (
        f"let Dovecot have: service auth {{ unix_listener {server.path} {{ mode = 0600 user = nobody }} }}"
    )


async def test_a_socket_on_which_nobody_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "auth-client"))
    with structlog.testing.capture_logs() as logs:
        async with running(tmp_path / "auth-client"):
            await wait_for(lambda: log_lines(logs, "dovecot_unreachable"), "the line of the log")
    assert log_lines(logs, "dovecot_unreachable")[0]["problem"] == "nobody listens on it"


async def test_another_worker_speaks_for_a_quiet_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    async def count(*args: object) -> Any:
        nonlocal tries
        tries += 1
        raise Unreachable("x", "y")

    monkeypatch.setattr(dovecot_connection.DovecotConnection, "connect", count)
    with structlog.testing.capture_logs() as logs:
        async with running(tmp_path / "auth-client", quiet=True):
            await wait_for(lambda: tries > 2, "new tries")
    assert logs == []


# a Dovecot that talks nonsense, or nothing

NONSENSE = {
    "an unknown word": b"OTHER\n",
    "an empty line": b"\n",
    "an ok without a user": b"OK\t1\n",
    "an answer to nobody": b"OK\t2\tuser=joe\n",
    "login number zero": b"OK\t0\tuser=joe\n",
    "no number": b"FAIL\n",
    "no base64": b"CONT\t1\t#\n",
    "binary": bytes(range(256)) * 4 + b"\n",
    "a long line": b"OK\t1\tuser=joe\tx=" + b"x" * 20_000 + b"\n",
    "a line without end": b"x" * 100_000,
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_ends_the_connection_and_is_logged_once(
    server: ScriptedDovecot, authenticator: DovecotAuthenticator, nonsense: bytes
) -> None:
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            talk = await server.greeted()
            task = step(authenticator.login("PLAIN", CLIENT))
            assert (await talk.line()).startswith("AUTH\t1\t")
            talk.send(nonsense)
            assert await reply(task) == NOT_NOW
        await a_login_works(await server.greeted(), authenticator)
    [line] = log_lines(logs, "dovecot_lost")
    assert line["log_level"] == "error"
    assert len(log_lines(logs, "dovecot_connected")) <= 2
    assert "joe" not in str(logs) and IN_BASE64 not in str(logs)


async def test_an_answer_in_the_clients_turn_is_nonsense(
    server: ScriptedDovecot, talk: Talk, authenticator: DovecotAuthenticator
) -> None:
    """A client that has not said its password is not let in."""
    login = authenticator.login("LOGIN", CLIENT)
    task = step(login, None)
    await talk.line()
    talk.say("CONT\t1\tVXNlcm5hbWU6", "OK\t1\tuser=joe")
    await task
    talk.say("OK\t1\tuser=joe")
    assert await talk.line() == ""
    assert await reply(step(login, b"joe")) == NOT_NOW


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["VERSION\t2\t0"], "its protocol has the major version 2 in place of 1"),
        (["220 mx.example ESMTP"], "it does not greet as Dovecot does"),
        (["MECH\tPLAIN", "DONE"], "it did not say its protocol version"),
        (["x" * 20_000], "it sends a line of more than 16384 octets"),
        (["VERSION\t1\t2"] * 1000, "its greeting has no end"),
    ],
)
async def test_what_is_no_dovecot_is_logged_once(server: ScriptedDovecot, lines: list[str], problem: str) -> None:
    with structlog.testing.capture_logs() as logs:
        async with running(server.path) as authenticator:
            for _ in range(3):
                await (await server.next()).greet(lines)
            assert authenticator.mechanisms() == ()
    [line] = log_lines(logs, "dovecot_unreachable")
    assert line["problem"] == problem and line["mend"]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["VERSION\t1\t1", "SPID\t4711"], "it is a socket of Dovecot, but not for clients"),
        ([], "it does not greet within 0.1 seconds"),
        (GREETING[:-1], "it does not greet within 0.1 seconds"),
    ],
)
async def test_a_greeting_that_does_not_come(
    server: ScriptedDovecot, monkeypatch: pytest.MonkeyPatch, lines: list[str], problem: str
) -> None:
    monkeypatch.setattr(dovecot_connection, "HANDSHAKE_TIMEOUT", 0.1)
    with structlog.testing.capture_logs() as logs:
        async with running(server.path):
            talk = await server.next()
            await talk.greet(lines)
            assert await talk.line() == ""
            await wait_for(lambda: log_lines(logs, "dovecot_unreachable"), "the line of the log")
    assert log_lines(logs, "dovecot_unreachable")[0]["problem"] == problem


async def test_a_connection_that_is_closed_at_once(server: ScriptedDovecot) -> None:
    with structlog.testing.capture_logs() as logs:
        async with running(server.path):
            (await server.next()).hang_up()
            await server.next()
    assert log_lines(logs, "dovecot_unreachable")[0]["problem"] == "it closes the connection at once"


async def test_a_slow_answer_fails_for_now_without_harm_to_others(
    server: ScriptedDovecot, talk: Talk, authenticator: DovecotAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dovecot_connection, "ANSWER_TIMEOUT", 0.3)
    slow = step(authenticator.login("PLAIN", CLIENT))
    await talk.line()
    await a_login_works(talk, authenticator, "2")
    assert await reply(slow) == NOT_NOW
    assert await talk.line() == "CANCEL\t1"
    talk.say("OK\t1\tuser=joe")  # too late
    await a_login_works(talk, authenticator, "3")
    assert server.connections == 1


async def test_a_dovecot_that_answers_nobody_is_left(
    server: ScriptedDovecot, talk: Talk, authenticator: DovecotAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dovecot_connection, "ANSWER_TIMEOUT", 0.1)
    with structlog.testing.capture_logs() as logs:
        tasks = [step(authenticator.login("PLAIN", CLIENT)) for _ in range(3)]
        assert [await reply(task) for task in tasks] == [NOT_NOW] * 3
        new = await server.greeted()
        assert log_lines(logs, "dovecot_lost")[0]["problem"] == "it did not answer for 0.1 seconds"
    monkeypatch.undo()
    await a_login_works(new, authenticator)


async def test_a_dovecot_that_does_not_read_costs_little_memory(
    server: ScriptedDovecot, authenticator: DovecotAuthenticator
) -> None:
    """Clients that come and go meanwhile add nothing."""
    talk = await server.greeted()
    talk.stream[1].transport.pause_reading()  # type: ignore[attr-defined]  # typeshed has no read side on this transport
    await ready(authenticator)
    refused = 0
    for _ in range(500):
        login = authenticator.login("PLAIN", CLIENT)
        task = step(login, bytes(9000))
        await asyncio.wait([task], timeout=0.001)
        if task.done():
            assert await reply(task) == NOT_NOW
            refused += 1
        else:
            task.cancel()
            await asyncio.wait([task])
        login.close()
    connection = await authenticator._link.connection()
    assert refused > 400
    assert connection._writer.transport.get_write_buffer_size() < 2 * dovecot_connection.UNSENT
    assert not connection._logins


async def test_used_up_numbers_begin_again_with_a_new_connection(
    server: ScriptedDovecot, talk: Talk, authenticator: DovecotAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dovecot_connection, "LARGEST_ID", 1)
    await a_login_works(talk, authenticator)
    assert await reply(step(authenticator.login("PLAIN", CLIENT))) == NOT_NOW
    await a_login_works(await server.greeted(), authenticator)


async def test_a_fault_of_the_program_does_not_end_it(server: ScriptedDovecot, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(line: bytes) -> None:
        raise RuntimeError("a fault")

    with structlog.testing.capture_logs() as logs:
        async with running(server.path) as authenticator:
            with monkeypatch.context() as patch:
                patch.setattr(dovecot_connection, "parse_answer", fail)
                talk = await server.greeted()
                task = step(authenticator.login("PLAIN", CLIENT))
                await talk.line()
                talk.say("OK\t1\tuser=joe")
                assert await reply(task) == NOT_NOW
            await a_login_works(await server.greeted(), authenticator)
    assert len(log_lines(logs, "dovecot_failed")) == 1


async def test_a_connection_that_is_broken_takes_nothing_more_before_its_end_is_read(server: ScriptedDovecot) -> None:
    """uvloop raises RuntimeError for a write to a transport that is closed, which the reader may not have seen yet."""
    connecting = asyncio.create_task(DovecotConnection.connect(server.path))
    await server.greeted()
    connection = await connecting
    begun, given_up = connection.begin(), connection.begin()
    connection._writer.transport.abort()
    await asyncio.sleep(0.01)
    with pytest.raises(Disconnected):
        connection.begin()
    connection.cancel(given_up)
    waiting = asyncio.create_task(connection.ask(begun, b"CONT\t1\t\n"))
    await asyncio.sleep(0.01)
    connection.end("it broke")
    with pytest.raises(Disconnected, match="it broke"):
        await waiting


octets = (
    st.binary(max_size=40)
    | st.sampled_from([line.encode() + b"\n" for line in GREETING])
    | st.sampled_from(
        [b"OK\t1\tuser=joe\n", b"FAIL\t1\n", b"CONT\t1\tYQ==\n", b"CONT\t2\t\n", b"\n", b"\t", b"\x01", b"OK\t1\n"]
    )
)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(before=st.lists(octets, max_size=8), after=st.lists(octets, max_size=8))
def test_whatever_dovecot_says_the_next_login_works(
    tmp_path_factory: Any, before: list[bytes], after: list[bytes]
) -> None:
    uvloop.run(_odd_dialogue(tmp_path_factory.mktemp("odd") / "auth-client", before, after))


async def _odd_dialogue(path: Path, before: list[bytes], after: list[bytes]) -> None:
    server = ScriptedDovecot(path)
    await server.start()
    try:
        with structlog.testing.capture_logs() as logs:
            async with running(path) as authenticator:
                await _odd_login(server, authenticator, before, after)
    finally:  # a server that is left open keeps uvloop from closing its loop
        await server.stop()
    assert not log_lines(logs, "dovecot_failed")
    assert IN_BASE64 not in str(logs)


async def _odd_login(
    server: ScriptedDovecot, authenticator: DovecotAuthenticator, before: list[bytes], after: list[bytes]
) -> None:
    talk = await server.next()
    for part in before:
        talk.send(part)
    talk.say(*GREETING)
    login = authenticator.login("PLAIN", CLIENT)
    task = step(login)
    for part in after:
        talk.send(part)
        await asyncio.sleep(0)
    talk.hang_up()
    new = await server.next()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(new.greet(), 20)
    if not task.done():
        await asyncio.wait([task], timeout=0.05)
    if not task.done():
        number = re.match("AUTH\t([0-9]+)\t", await new.line())
        assert number is not None
        new.say(f"OK\t{number[1]}\tuser=joe")
    with contextlib.suppress(Refused):
        assert isinstance(await task, Challenge | LoggedIn)
    login.close()
    second = step(authenticator.login("PLAIN", CLIENT))
    while not (line := await new.line()).startswith("AUTH\t"):
        assert line.startswith("CANCEL\t")
    new.say(f"OK\t{line.split()[1]}\tuser=jim")
    assert await second == LoggedIn("jim")
