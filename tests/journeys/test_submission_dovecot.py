"""Users whom Dovecot knows log in at the relay: every mechanism through the door, and a Dovecot that comes and goes."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.accounts import sasl_clients as sasl
from tests.journeys.clients import swaks
from tests.journeys.dovecot_auth import DovecotAuth, TokenServer
from tests.journeys.users import Submission, TlsDialogue, submission
from tests.journeys.world import SENDER, World
from tests.peers import needs, wait_until

pytestmark = [needs("dovecot", root=True), pytest.mark.slow]

CAROL, JOE, PASSWORD = "carol@mailbox.example", "joe@fwd.example", "pencil"
USERS = {JOE: PASSWORD, "moved@fwd.example": "pencil proxy=y host=192.0.2.9"}


@pytest.fixture
def dovecot(world: World) -> DovecotAuth:
    return DovecotAuth(world.base / "dovecot", USERS)


def with_dovecot(world: World, dovecot: DovecotAuth, **tables: Any) -> Submission:
    return submission(world, auth={"dovecot": str(dovecot.socket)}, **tables)


def offered(client: TlsDialogue) -> set[str]:
    """What EHLO says of AUTH."""
    found = re.search("AUTH ([A-Z0-9 _-]+)", str(client("EHLO pc.example")))
    return set(found[1].split()) if found else set()


def log_in(client: TlsDialogue, mechanism: str, exchange: sasl.Exchange) -> str:
    """AUTH as a mail client does it; the code and enhanced code of the last reply."""
    first = next(exchange)
    initial = "" if first is None else f" {base64.b64encode(first).decode() or '='}"
    reply = client(f"AUTH {mechanism}{initial}")
    while reply.code == 334:
        response = exchange.send(base64.b64decode(str(reply[2]).strip() or ""))
        reply = client(base64.b64encode(response or b"").decode())
    exchange.close()
    return f"{reply.code} {reply[1]}"


EXCHANGES: dict[str, Callable[[str, str], sasl.Exchange]] = {
    "PLAIN": sasl.plain,
    "LOGIN": sasl.login,
    "CRAM-MD5": sasl.cram_md5,
    "DIGEST-MD5": sasl.digest_md5,
    "SCRAM-SHA-1": lambda user, password: sasl.scram("SCRAM-SHA-1", user, password),
    "SCRAM-SHA-256": lambda user, password: sasl.scram("SCRAM-SHA-256", user, password),
}


def test_every_mechanism_of_dovecot_lets_a_user_in(world: World, dovecot: DovecotAuth) -> None:
    tokens = world.start(TokenServer({"good-token": JOE}))
    dovecot.introspection = tokens.url
    world.start(dovecot)
    ours = with_dovecot(world, dovecot)
    tokens_too = {**EXCHANGES, "OAUTHBEARER": sasl.oauthbearer, "XOAUTH2": sasl.xoauth2}
    for number, (mechanism, exchange) in enumerate(tokens_too.items()):
        secret = PASSWORD if mechanism in EXCHANGES else "good-token"
        with ours.client(f"127.0.{number}.7") as client:
            assert offered(client) == set(tokens_too)
            assert log_in(client, mechanism, exchange(JOE, "wrong")) == "535 5.7.8", mechanism
            assert log_in(client, mechanism, exchange(JOE, secret)) == "235 2.7.0", mechanism
            assert client(f"MAIL FROM:<{JOE}>").code == 250
            assert client("RSET").code == 250
            assert client("MAIL FROM:<boss@fwd.example>")[:2] == (550, "5.7.1")
    lines = [line for line in ours.relay.log if line["event"] == "auth" and line["reply"].startswith("235")]
    assert [(line["mechanism"], line["user"]) for line in lines] == [(mechanism, JOE) for mechanism in tokens_too]
    for secret in (PASSWORD, "good-token"):
        assert secret not in ours.relay.log_text
        assert base64.b64encode(secret.encode()).decode().strip("=") not in ours.relay.log_text


@needs("swaks")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_swaks_logs_in_and_sends(world: World, dovecot: DovecotAuth, mechanism: str) -> None:
    world.start(dovecot)
    ours = with_dovecot(world, dovecot)
    done = swaks(
        (ours.relay.address, ours.starttls),
        source=SENDER,
        helo="pc.example",
        sender=JOE,
        recipients=[CAROL],
        options=["--tls", "--auth", mechanism, "--auth-user", JOE.upper(), "--auth-password", PASSWORD],
    )
    assert done.returncode == 0, done.stdout
    wait_until(lambda: ours.sink.received, "the message")
    assert f"auth=pass smtp.auth={JOE}".encode() in ours.sink.received[0].content


def test_a_user_of_another_host_and_an_odd_password(world: World, dovecot: DovecotAuth) -> None:
    world.start(dovecot)
    ours = with_dovecot(world, dovecot)
    with ours.client() as client:
        client("EHLO pc.example")
        assert log_in(client, "PLAIN", sasl.plain("moved@fwd.example", PASSWORD)) == "535 5.7.8"
        assert log_in(client, "PLAIN", sasl.plain(JOE, "a\tb\nresp=\x01")) == "535 5.7.8"
        assert client("AUTH LOGIN").code == 334
        assert client("*").code == 501
        assert client("AUTH EXTERNAL =").code == client("AUTH ANONYMOUS =").code == 504
        assert client(f"AUTH PLAIN {'A' * 11000}")[:2] in ((535, "5.7.8"), (500, "5.5.2"))
        assert log_in(client, "PLAIN", sasl.plain(JOE, PASSWORD)) == "235 2.7.0"


def test_dovecot_comes_later_and_is_restarted(world: World, dovecot: DovecotAuth) -> None:
    ours = with_dovecot(world, dovecot, workers=2)
    with ours.client() as client:
        assert offered(client) == set()
        assert log_in(client, "PLAIN", sasl.plain(JOE, PASSWORD)) == "454 4.7.0"
    [line] = [line for line in ours.relay.log if line["event"] == "dovecot_unreachable"]
    assert line["problem"] == "there is no such socket" and "unix_listener" in line["mend"]
    world.start(dovecot)

    def everybody_may_log_in() -> bool:
        for _ in range(10):  # of both workers
            with ours.client() as client:
                if "PLAIN" not in offered(client):
                    return False
        return True

    wait_until(everybody_may_log_in, "AUTH in EHLO")
    with ours.client() as client:
        client("EHLO pc.example")
        assert client("AUTH LOGIN").code == 334
        dovecot.kill()
        assert client("am9l").code == 454
        dovecot.run()
        for _ in range(4):
            with ours.client() as another:
                another("EHLO pc.example")
                assert log_in(another, "SCRAM-SHA-256", EXCHANGES["SCRAM-SHA-256"](JOE, PASSWORD)) == "235 2.7.0"
        assert log_in(client, "PLAIN", sasl.plain(JOE, PASSWORD)) == "235 2.7.0"
