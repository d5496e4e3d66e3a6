"""Users who log in and submit mail: swaks, smtplib and a Postfix as their mail programs, several workers, reloads."""

from __future__ import annotations

import os
import signal
import smtplib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.journeys.clients import swaks
from tests.journeys.postfix import Postfix
from tests.journeys.users import HASH, PASSWORD, Submission, submission
from tests.journeys.world import SENDER, World
from tests.peers import free_port, needs, wait_until

pytestmark = [pytest.mark.slow]

CAROL = "carol@mailbox.example"
MESSAGE = b"From: alice@fwd.example\r\nSubject: hello\r\n\r\nHi.\r\n"


def received(ours: Submission, count: int = 1) -> bytes:
    """The content of the last message of so many."""
    wait_until(lambda: len(ours.sink.received) >= count, f"{count} messages at the mailbox host")
    return ours.sink.received[count - 1].content


@needs("swaks")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("way", ["starttls", "implicit"])
def test_swaks_logs_in_and_sends_anywhere(world: World, mechanism: str, way: str) -> None:
    ours = submission(world)
    port, tls = (ours.starttls, "--tls") if way == "starttls" else (ours.implicit, "--tls-on-connect")
    done = swaks(
        (ours.relay.address, port),
        source=SENDER,
        helo="pc.example",
        sender="alice@fwd.example",
        recipients=[CAROL],
        options=[tls, "--auth", mechanism, "--auth-user", "alice", "--auth-password", PASSWORD],
    )
    assert done.returncode == 0, done.stdout
    content = received(ours)
    assert b" with ESMTPSA id " in content and b"auth=pass smtp.auth=alice" in content
    assert world.signers(content) == ["fwd.example"]
    (line,) = [line for line in ours.relay.log if line["event"] == "auth"]
    assert (line["mechanism"], line["user"], line["reply"][:3]) == (mechanism, "alice", "235")


@needs("swaks")
def test_swaks_with_a_wrong_password_and_without_tls(world: World) -> None:
    ours = submission(world)
    login = ["--auth", "PLAIN", "--auth-user", "alice", "--auth-password", "hunter2"]
    for options, code in ((["--tls", *login], 28), (login, 28)):
        done = swaks(
            (ours.relay.address, ours.starttls),
            source=SENDER,
            helo="pc.example",
            sender="alice@fwd.example",
            recipients=[CAROL],
            options=options,
        )
        assert done.returncode == code, done.stdout
        assert ("535 5.7.8" in done.stdout) is ("--tls" in options)
    assert "hunter2" not in ours.relay.log_text


def test_smtplib_with_date_and_message_id_signed_by_us(world: World) -> None:
    ours = submission(world)
    context = ours.context
    context.check_hostname = False
    with smtplib.SMTP_SSL(ours.relay.address, ours.implicit, context=context, timeout=60) as client:
        client.login("alice", PASSWORD)
        client.sendmail("press@fwd.example", [CAROL], MESSAGE.replace(b"alice@", b"press@"))
        with pytest.raises(smtplib.SMTPSenderRefused, match="may not send as this address"):
            client.sendmail("bob@fwd.example", [CAROL], MESSAGE)
        with pytest.raises(smtplib.SMTPDataError, match="may not write as"):
            client.sendmail("press@fwd.example", [CAROL], MESSAGE.replace(b"alice@", b"bob@"))
    assert [line["user"] for line in ours.relay.events("submitted")] == ["alice"]
    content = received(ours)
    signature = content[: content.index(b"Received:")].lower()
    assert b":date:" in signature.replace(b"\n\t", b"").replace(b" ", b"") and b"message-id" in signature
    assert b"@mx.fwd.example>\r\n" in content and world.signers(content) == ["fwd.example"]


@needs("postfix", root=True)
@pytest.mark.parametrize("way", ["starttls", "implicit"])
def test_postfix_logs_in_as_a_client_of_its_relayhost(world: World, way: str) -> None:
    ours = submission(world)
    port = ours.starttls if way == "starttls" else ours.implicit
    relayhost = f"[{ours.relay.address}]:{port}"
    passwords = world.base / "sasl_passwd"
    passwords.write_text(f"{relayhost} alice:{PASSWORD}\n")
    settings = {
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": f"texthash:{passwords}",
        "smtp_sasl_security_options": "noanonymous",
        "smtp_tls_security_level": "encrypt",
        "smtp_tls_wrappermode": "yes" if way == "implicit" else "no",
        "smtp_tls_CAfile": str(ours.certificate),
    }
    postfix = world.start(
        Postfix(
            world.base / "postfix", "mx.sender.example", SENDER, free_port(), relayhost=relayhost, settings=settings
        )
    )
    with smtplib.SMTP(SENDER, postfix.port) as client:
        client.sendmail("alice@fwd.example", [CAROL], MESSAGE)
    assert b"auth=pass smtp.auth=alice" in received(ours)
    # The null sender is that of the relay's own look at the way home, which may come meanwhile.
    assert [line["tls"][:3] for line in ours.relay.events("mail") if line["from"]] == ["TLS"]


def test_the_limit_counts_over_workers_and_reloads(world: World) -> None:
    ours = submission(world, workers=2)
    replies = []
    for _ in range(9):
        with ours.client("127.0.9.1") as client:
            replies.append(client.log_in("alice", "wrong"))
    before = set(ours.relay.workers())
    os.kill(ours.relay.pid, signal.SIGHUP)
    wait_until(lambda: ours.relay.has_events("reloaded", 1), "the reload")
    wait_until(lambda: before.isdisjoint(ours.relay.workers()), "the end of the old workers")
    for password in ("wrong", "wrong", PASSWORD):
        with ours.client("127.0.9.1") as client:
            replies.append(client.log_in("alice", password))
    assert replies == [535] * 10 + [454] * 2
    with ours.client("127.0.9.2") as client:
        assert client.log_in("alice", PASSWORD) == 235
    assert len(ours.relay.events("auth")) == 13


def test_users_and_senders_are_read_again(world: World) -> None:
    ours = submission(world)
    folder = ours.relay.folder
    with ours.client() as client:
        assert client.log_in("carl", PASSWORD) == 535
        (folder / "users").write_text(f"carl:{HASH}\n")
        (folder / "senders").write_text("carl @one.example\n")
        wait_until(lambda: len(ours.relay.events("file_reloaded")) == 2, "the new files")
        wait_until(lambda: client.log_in("carl", PASSWORD) == 235, "carl's login", 3)
        wait_until(lambda: client("MAIL FROM:<x@one.example>").code == 250, "carl's sender", 3)
    with ours.client() as client:
        assert client.log_in("alice", PASSWORD) == 535


def test_the_command_adds_a_user_to_a_running_relay(world: World) -> None:
    ours = submission(world)
    assert ours.relay.command("users", "add", "dora", stdin="s3cret\n").returncode == 0
    wait_until(lambda: ours.relay.has_events("file_reloaded", 1), "the new user")
    with ours.client() as client:
        wait_until(lambda: client.log_in("dora", "s3cret") == 235, "dora's login", 5)


def test_sessions_are_answered_while_passwords_are_compared(world: World) -> None:
    """One worker, and more logins than it compares at once: others do not wait for them."""
    ours = submission(world, workers=1)
    stop, waits = threading.Event(), list[float]()

    def log_in(number: int) -> int:
        with ours.client(f"127.0.{10 + number}.1") as client:
            return client.log_in("alice", "wrong" if number % 2 else PASSWORD)

    def ask() -> None:
        with ours.client() as client:
            assert client.log_in("alice", PASSWORD) == 235  # others may not say NOOP so often
            while not stop.is_set():
                began = time.monotonic()
                assert client("NOOP").code == 250
                waits.append(time.monotonic() - began)
                time.sleep(0.005)

    asking = threading.Thread(target=ask)
    asking.start()
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(log_in, range(20)))
    stop.set()
    asking.join()
    assert codes == [235, 535] * 10
    waits.sort()
    assert waits[len(waits) // 2] < 0.05  # one comparison takes longer


def test_required_is_for_trusted_clients_too(world: World) -> None:
    ours = submission(world, clients={"trusted": ["127.0.0.0/8"]})
    with ours.client() as client:
        client("EHLO pc.example")
        assert client("MAIL FROM:<alice@fwd.example>")[:2] == (530, "5.7.0")
        assert client.log_in("alice", PASSWORD) == 235
        assert client("MAIL FROM:<bob@fwd.example>")[:2] == (550, "5.7.1")
        assert client("MAIL FROM:<alice@fwd.example>").code == 250
