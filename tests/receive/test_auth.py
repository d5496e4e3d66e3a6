"""AUTH at the door: the lines of the exchange, what is refused before a login and after one, and what the log has."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.config.sections import TlsSection
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.receive.authenticator import Challenge, LoggedIn, LoginFailed
from relay.receive.server_tls import ServerTls
from relay.receive.shared_counts import CONNECTIONS, MEMORY, bucket
from tests.certificates import write_certificate
from tests.peers import wait_for
from tests.receive.door import Door, Talk, within_patience


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


class Scripted:
    """An authenticator whose logins answer as they are told to.

    Attributes:
        answers: what each step gives; an exception is raised, and an event is waited for.
        heard: the responses.
        closed: how many logins are over.
    """

    def __init__(self, *answers: object, mechanisms: Sequence[str] = ("PLAIN", "LOGIN")) -> None:
        self.answers = list(answers)
        self.offered = mechanisms
        self.heard: list[bytes | None] = []
        self.clients: list[Client] = []
        self.closed = 0
        self.cancelled = 0

    def mechanisms(self) -> Sequence[str]:
        return self.offered

    def login(self, mechanism: str, client: Client) -> Scripted:
        assert mechanism in self.offered
        self.clients.append(client)
        return self

    async def step(self, response: bytes | None) -> Challenge | LoggedIn:
        self.heard.append(response)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, asyncio.Event):
            try:
                await answer.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            answer = LoggedIn("joe")
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Challenge | LoggedIn)
        return answer

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def tls(tmp_path: Path) -> Callable[[], ssl.SSLContext]:
    write_certificate(tmp_path, "first")
    return ServerTls(TlsSection(certificate=tmp_path / "cert.pem", private_key=tmp_path / "key.pem")).context


@pytest.fixture
def context(tmp_path: Path, tls: object) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=tmp_path / "cert.pem")


Opened = Callable[..., Door]


@pytest.fixture
def opened(door: Callable[..., Door], tls: Callable[[], ssl.SSLContext]) -> Opened:
    def make(
        *answers: object, mode: str = "offered", mechanisms: Sequence[str] = ("PLAIN", "LOGIN"), **more: Any
    ) -> Door:
        scripted = Scripted(*(answers or (LoggedIn("joe"),)), mechanisms=mechanisms)
        server = door(tls=tls, authenticator=scripted, listen={"auth": mode, **more.pop("listen", {})}, **more)
        server.__dict__["scripted"] = scripted
        return server

    return make


def script(server: Door) -> Scripted:
    scripted = server.__dict__["scripted"]
    assert isinstance(scripted, Scripted)
    return scripted


async def secured(server: Door, context: ssl.SSLContext, source: str = "127.0.0.1") -> Talk:
    talk = await server.client(source=source)
    await talk.says("STARTTLS\r\n")
    await talk.starts_tls(context)
    await talk.says("EHLO client.test\r\n")
    return talk


LOGIN = f"AUTH PLAIN {b64(b'x')}\r\n"


async def test_auth_is_offered_inside_tls_only(opened: Opened, context: ssl.SSLContext) -> None:
    server = opened(mechanisms=("PLAIN", "SCRAM-SHA-256"))
    talk = await server.client()
    assert "AUTH" not in await talk.says("EHLO c\r\n") + await talk.says("HELP\r\n")
    assert (await talk.says(LOGIN)).startswith("538 5.7.11 ")
    talk = await secured(server, context)
    assert "250 AUTH PLAIN SCRAM-SHA-256\r\n" in await talk.says("EHLO c\r\n")
    assert "AUTH" in await talk.says("HELP\r\n")


async def test_a_listener_that_requires_tls_says_so_first(opened: Opened) -> None:
    talk = await opened(mode="required", listen={"tls": "require"}).client()
    assert (await talk.says("MAIL FROM:<a@b.test>\r\n")).startswith("530 5.7.0 Must issue a STARTTLS command first")
    assert (await talk.says(LOGIN)).startswith("538 5.7.11 ")


async def test_a_login_makes_the_client_a_trusted_one_for_good(opened: Opened, context: ssl.SSLContext) -> None:
    server = opened(limits={"errors": 3})
    talk = await secured(server, context)
    assert await talk.says(LOGIN) == "235 2.7.0 Authentication successful\r\n"
    assert script(server).heard == [b"x"] and script(server).closed == 1 and script(server).clients[0].tls
    await talk.says("RSET\r\nEHLO other.test\r\n", 2)
    assert (await talk.says("AUTH PLAIN\r\n")).startswith("503 5.5.1")
    await talk.says("FOO\r\n" * 30, 30)  # as a trusted client it may err
    assert (await talk.mails(b"a: b\n\nbare\r\n")).startswith("250")
    ((client, _, message),) = server.taker.taken
    assert (client.user, client.trusted, client.protocol, client.helo) == ("joe", True, "ESMTPSA", "other.test")
    assert message.content == b"a: b\r\n\r\nbare\r\n"


async def test_the_limits_on_strangers_let_go_of_a_client_that_has_logged_in(
    opened: Opened, context: ssl.SSLContext
) -> None:
    server = opened(limits={"connections_per_client": 2})
    first, second = await secured(server, context), await secured(server, context)
    assert (await first.says(LOGIN) + await second.says(LOGIN)).count("235") == 2
    counter = CONNECTIONS + bucket("127.0.0.1")
    assert server.limits.total(counter) == 0
    third, fourth = await server.client(), await server.client()
    assert (await third.says("NOOP\r\n") + await fourth.says("NOOP\r\n")).count("250") == 2
    refused = await server.client(greet=False)
    assert (await refused.reply()).startswith("421 4.7.0")
    for talk in (first, third, fourth, second):
        await talk.says("QUIT\r\n")
    await wait_for(lambda: server.limits.total(counter) == 0, "every connection to be counted down")
    assert server.limits.total(CONNECTIONS) == server.limits.total(MEMORY) == 0


@pytest.mark.parametrize("trusted", [[], ["127.0.0.1"]], ids=["stranger", "trusted"])
async def test_required_means_everybody(opened: Opened, context: ssl.SSLContext, trusted: list[str]) -> None:
    server = opened(mode="required", clients={"trusted": trusted})
    for talk in (await server.client(), await secured(server, context)):
        for command in ("MAIL FROM:<a@b.test>", "RCPT TO:<a@b.test>", "DATA", "VRFY a"):
            assert (await talk.says(f"{command}\r\n")).startswith("530 5.7.0 Authentication required")
        assert (await talk.says("BDAT 6 LAST\r\nQUIT\r\n")).startswith("530 5.7.0")  # the chunk is no command
        assert (await talk.says("NOOP\r\nRSET\r\nHELP\r\nHELO c\r\n", 4)).count("\r\n") == 4
        assert (await talk.says("FOO\r\n")).startswith("500 5.5.1")
    await talk.says("EHLO c\r\n")
    assert (await talk.says(LOGIN)).startswith("235")
    assert (await talk.mails(b"hi\r\n")).startswith("250")


async def test_a_listener_without_auth_answers_as_ever(door: Callable[..., Door], tls: Any, context: Any) -> None:
    server = door(tls=tls)
    talk = await secured(server, context)
    assert "AUTH" not in await talk.says("EHLO c\r\n")
    assert (await talk.says(LOGIN)).startswith("502 5.5.1")
    assert (await talk.says("MAIL FROM:<a@b.test> AUTH=<>\r\n")).startswith("555 5.5.4")


async def test_challenges_and_responses(opened: Opened, context: ssl.SSLContext) -> None:
    server = opened(Challenge(b""), Challenge(b"Password:"), LoggedIn("joe", last=b"v=xyz"))
    talk = await secured(server, context)
    assert await talk.says("auth login\r\n") == "334 \r\n"
    assert await talk.says(f"{b64(b'joe')}\r\n") == f"334 {b64(b'Password:')}\r\n"
    assert await talk.says(f"{b64(b'secret')}\r\n") == f"334 {b64(b'v=xyz')}\r\n"
    assert await talk.says("\r\n") == "235 2.7.0 Authentication successful\r\n"
    assert script(server).heard == [None, b"joe", b"secret"]


async def test_an_empty_initial_response(opened: Opened, context: ssl.SSLContext) -> None:
    server = opened()
    talk = await secured(server, context)
    assert (await talk.says("AUTH PLAIN =\r\n")).startswith("235") and script(server).heard == [b""]


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("AUTH\r\n", "501 5.5.4"),
        ("AUTH CRAM-MD5\r\n", "504 5.5.4"),
        ("AUTH \u00a0\r\n", "504 5.5.4"),
        ("AUTH CRAM-MD5 !\r\n", "504 5.5.4"),
        ("AUTH PLAIN a b\r\n", "501 5.5.4"),
        ("AUTH PLAIN ====\r\n", "501 5.5.2"),
        ("AUTH PLAIN eA=\r\n", "501 5.5.2"),
        ("AUTH PLAIN eA==eA==\r\n", "501 5.5.2"),
        ("AUTH PLAIN e A==\r\n", "501 5.5.4"),
        ("AUTH PLAIN \u00e4\r\n", "501 5.5.2"),
        ("AUTH \u00e4\r\n", "504 5.5.4"),
        ("AUTH PLAIN\r\n*\r\n", "501 5.7.0"),
        ("AUTH PLAIN\r\n!\r\n", "501 5.5.2"),
        ("AUTH PLAIN\r\neA==\n", "500 5.5.2"),
        ("AUTH PLAIN\r\n" + "A" * 12287 + "\r\n", "500 5.5.6"),
        ("AUTH PLAIN " + "A" * 12276 + "\r\n", "500 5.5.2"),
        ("NOOP " + "A" * 3000 + "\r\n", "500 5.5.2"),
    ],
)
async def test_a_bad_exchange_is_refused_and_the_session_goes_on(
    opened: Opened, context: ssl.SSLContext, said: str, reply: str
) -> None:
    server = opened(Challenge(b""), LoggedIn("joe"))
    talk = await secured(server, context)
    answers = await talk.says(said, 2 if said.startswith("AUTH PLAIN\r\n") else 1)
    assert answers.splitlines()[-1].startswith(reply + " ")
    assert (await talk.says("MAIL FROM:<a@b.test>\r\nRSET\r\n", 2)).count("250") == 2
    assert len(script(server).clients) == script(server).closed


async def test_lines_of_the_exchange_may_be_long(opened: Opened, context: ssl.SSLContext) -> None:
    """RFC 4954 section 4: 12288 octets; tokens of OAuth come in the initial response and take some thousand."""
    token = b"x" * 9000
    server = opened(Challenge(b""), LoggedIn("joe"), mechanisms=("XOAUTH2",))
    talk = await secured(server, context)
    assert (await talk.says(f"AUTH XOAUTH2 {b64(token)}\r\n")).startswith("334")
    assert (await talk.says(f"{b64(token)}\r\n")).startswith("235")
    assert script(server).heard == [token, token]


async def test_auth_has_its_place(opened: Opened, context: ssl.SSLContext) -> None:
    server = opened()
    talk = await server.client()
    await talk.says("STARTTLS\r\n")
    await talk.starts_tls(context)
    assert (await talk.says(LOGIN)).startswith("503 5.5.1 Error: send EHLO first")
    await talk.says("HELO c\r\n")
    assert (await talk.says(LOGIN)).startswith("503 5.5.1 Error: send EHLO first")
    await talk.says("EHLO c\r\nMAIL FROM:<a@b.test>\r\n", 2)
    assert (await talk.says(LOGIN)).startswith("503 5.5.1")
    assert (await talk.says(f"RSET\r\n{LOGIN}", 2)).splitlines()[-1].startswith("235")


async def test_no_mechanism_is_no_offer(opened: Opened, context: ssl.SSLContext) -> None:
    server = opened(mechanisms=())
    talk = await secured(server, context)
    assert "AUTH" not in await talk.says("EHLO c\r\n")
    assert (await talk.says(LOGIN)).startswith("454 4.7.0")
    assert (await talk.says("MAIL FROM:<a@b.test> AUTH=<>\r\n")).startswith("250")  # offered a moment ago, perhaps


@pytest.mark.parametrize(("parameter", "code"), [("<>", 250), ("joe+40b.test", 250), ("joe@b.test", 250), ("a+4", 501)])
async def test_mail_has_the_parameter_of_auth(
    opened: Opened, context: ssl.SSLContext, parameter: str, code: int
) -> None:
    """RFC 4954 section 5; Postfix says AUTH=<> to every server that offers AUTH."""
    talk = await secured(opened(), context)
    assert (await talk.says(f"MAIL FROM:<a@b.test> AUTH={parameter}\r\n")).startswith(str(code))


@pytest.mark.parametrize(
    ("answer", "reply", "user"),
    [
        (LoginFailed("joe", known=True), "535 5.7.8 ", "joe"),
        (LoginFailed("hunter2"), "535 5.7.8 ", None),
        (Refused(454, "4.7.0", "later"), "454 4.7.0 ", None),
        (LoggedIn("joe"), "235 2.7.0 ", "joe"),
    ],
)
async def test_the_log_names_accounts_and_never_a_password(
    opened: Opened,
    context: ssl.SSLContext,
    log: list[MutableMapping[str, Any]],
    answer: object,
    reply: str,
    user: str | None,
) -> None:
    talk = await secured(opened(answer), context)
    secret = b64(b"\0joe\0hunter2")
    assert (await talk.says(f"AUTH PLAIN {secret}\r\n")).startswith(reply)
    (line,) = [line for line in log if line["event"] == "auth"]
    assert (line["mechanism"], line["user"], line["reply"][:10]) == ("PLAIN", user, reply)
    assert not [line for line in log if "hunter2" in str(line) or secret in str(line)]


async def test_a_client_that_leaves_ends_its_login(opened: Opened, context: ssl.SSLContext) -> None:
    server = opened(asyncio.Event())
    talk = await secured(server, context)
    await talk.says(LOGIN, 0)
    await wait_for(lambda: bool(script(server).heard), "the login to begin")
    talk.writer.transport.abort()
    await wait_for(lambda: script(server).closed == 1, "the login to end")
    assert script(server).cancelled == 1
    await within_patience(server.listener.finished())


async def test_a_stop_does_not_wait_for_a_login(opened: Opened, context: ssl.SSLContext) -> None:
    server = opened(asyncio.Event())
    talk = await secured(server, context)
    await talk.says(LOGIN, 0)
    await wait_for(lambda: bool(script(server).heard), "the login to begin")
    server.listener.stop()
    server.listener.abort()
    await within_patience(server.listener.finished())
    assert (script(server).cancelled, script(server).closed) == (1, 1)


async def test_a_silent_client_is_sent_away(opened: Opened, context: ssl.SSLContext) -> None:
    server = opened(Challenge(b""), limits={"command_timeout": "1s"})
    talk = await secured(server, context)
    await talk.says("AUTH LOGIN\r\n")
    assert (await talk.reply()).startswith("421 4.4.2")
    assert script(server).closed == 1


async def test_a_fault_of_the_authenticator_closes_the_session_and_lets_nobody_in(
    opened: Opened, context: ssl.SSLContext
) -> None:
    talk = await secured(opened(RuntimeError("broken")), context)
    assert (await talk.says(LOGIN)).startswith("421 4.3.0")
    assert await talk.closed()
