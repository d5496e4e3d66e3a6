"""What users, and those who are none, try at the ports where users log in: to be believed, to learn, to use us up."""

from __future__ import annotations

import base64
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.users import HASH, PASSWORD, Submission, TlsDialogue, submission
from tests.journeys.world import World
from tests.peers import wait_until

pytestmark = [pytest.mark.slow]

CAROL = "carol@mailbox.example"
SECRET = "Xk7-tr0ub4dor-zZ9"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def parts(secret: str) -> set[str]:
    """A secret, its base64 at each offset, and their halves."""
    encoded = {b64("\0" * shift + secret)[4 * (shift > 0) : -4] for shift in range(3)}
    return (
        {secret, secret[:8], secret[-8:]} | encoded | {word[:10] for word in encoded} | {word[-10:] for word in encoded}
    )


def starttls(ours: Submission, source: str = "127.0.0.1") -> TlsDialogue:
    """A client at the port where a login is offered, with TLS."""
    client = TlsDialogue.__new__(TlsDialogue)
    plain = socket.create_connection((ours.relay.address, ours.starttls), timeout=60, source_address=(source, 0))
    with plain.makefile("rb") as file:
        file.readline()
        plain.sendall(b"STARTTLS\r\n")
        assert file.readline().startswith(b"220")
    client._socket = ours.context.wrap_socket(plain, server_hostname="mx.fwd.example")
    client._file = client._socket.makefile("rb")
    return client


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_password_is_ever_logged(world: World, form: str) -> None:
    """Neither right nor wrong ones, nor in the wrong place, nor parts of them, at any level."""
    ours = submission(world, log={"format": form, "level": "debug"})
    plain = b64(f"\0alice\0{SECRET}")
    dialogues = [
        [f"AUTH PLAIN {plain}"],
        ["AUTH PLAIN", plain],
        ["AUTH LOGIN", b64("alice"), b64(SECRET)],
        ["AUTH LOGIN", b64(SECRET), b64("alice")],
        [f"AUTH LOGIN {b64(SECRET)}", b64(SECRET)],
        [f"AUTH {SECRET}"],
        [f"AUTH PLAIN alice {SECRET}"],
        [f"AUTH PLAIN {SECRET}"],
        [f"AUTH PLAIN {plain}!"],
        [f"AUTH PLAIN {plain} {SECRET}"],
        ["AUTH PLAIN", f"\0alice\0{SECRET}"],
        ["AUTH PLAIN", "*", plain],
        ["AUTH PLAIN =", plain],
        ["AUTH LOGIN", b64("alice"), b64(SECRET) + "=" * 13000],
        [SECRET, b64(SECRET), f"PASS {SECRET}", f"PLAIN {plain}", f"AUTH\t{plain}\x01", f"auth plain {plain}\x7f"],
        ["EHLO x", f"AUTH PLAIN {b64(chr(0) + SECRET + chr(0) + SECRET)}"],
    ]
    for number, lines in enumerate(dialogues):
        with starttls(ours, f"127.0.{number + 20}.1") as client:
            client("EHLO pc.example")
            for line in lines:
                client(line)
    with Dialogue((ours.relay.address, ours.starttls), source="127.0.90.1") as client:
        client("EHLO pc.example")
        assert client(f"AUTH PLAIN {plain}").code == 538
        client(plain)
    with starttls(ours, "127.0.91.1") as client:
        assert client.log_in("alice", PASSWORD) == 235
    ours.relay.stop()
    text = ours.relay.log_text
    found = {part for secret in (SECRET, PASSWORD) for part in parts(secret) if part in text}
    world.relays.remove(ours.relay)  # whose log in the other form it cannot read
    assert text.count("auth") > 15 and not found


def test_nothing_that_leaves_names_a_client_that_is_hidden(world: World) -> None:
    """With seals: neither address, name nor HELO."""
    ours = submission(world, receive={"hide_clients": True}, arc={"seal": True})
    with starttls(ours, "127.0.7.7") as client:
        client("EHLO secret-pc.example")
        assert client(f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + PASSWORD)}").code == 235
        client("MAIL FROM:<alice@fwd.example> RET=FULL")
        assert client(f"RCPT TO:<{CAROL}>").code == 250
        assert client("DATA").code == 354
        assert client("From: alice@fwd.example\r\nSubject: x\r\n\r\nHi.\r\n.").code == 250
    wait_until(lambda: ours.sink.received, "the message")
    content = ours.sink.received[0].content
    assert b"ESMTPSA" in content and b"auth=pass" in content
    for word in (b"127.0.7.7", b"secret-pc", b"iprev", b"remote-ip", b"client-ip"):
        assert word not in content.lower(), content


def test_a_login_that_fails_makes_nobody_trusted(world: World) -> None:
    """Nothing that a stranger does at a port with logins lets him send to others through us."""
    ours = submission(world)
    wrong = f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + 'wrong')}"
    tricks: list[list[str]] = [
        [],
        [wrong],
        [wrong, "RSET", "EHLO pc.example"],
        ["AUTH LOGIN", "*"],
        ["AUTH PLAIN", b64("\0alice\0")],
        ["MAIL FROM:<a@sender.example>", "BDAT 0", "RSET", wrong],
        [f"AUTH EXTERNAL {b64('alice')}"],
        [f"AUTH ANONYMOUS {b64('alice')}"],
        ["HELO pc.example", f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + PASSWORD)}"],
    ]
    for number, lines in enumerate(tricks):
        with starttls(ours, f"127.0.{30 + number}.1") as client:
            client("EHLO pc.example")
            for line in lines:
                assert client(line).code != 235
            client("MAIL FROM:<a@sender.example> AUTH=<alice@fwd.example>")
            client("MAIL FROM:<a@sender.example>")
            assert client(f"RCPT TO:<{CAROL}>")[:2] == (550, "5.7.1"), lines
    assert not ours.sink.received


def test_five_hundred_logins_at_once_take_little_memory(world: World) -> None:
    ours = submission(world, workers=1, limits={"connections": 1000})
    (worker,) = ours.relay.workers()
    peak = 0
    with ExitStack() as stack, ThreadPoolExecutor(16) as pool:
        clients = list(pool.map(lambda n: ours.client(f"127.1.{n // 200}.{n % 200 + 1}"), range(500)))
        for client in clients:
            stack.callback(client.close)
        list(pool.map(lambda client: client("EHLO pc.example"), clients))
        before = resident(worker)
        line = f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + PASSWORD)}\r\n".encode()
        for client in clients:
            client._socket.sendall(line)
        waiting = pool.submit(lambda: [client.reply().code for client in clients])
        while not waiting.done():
            peak = max(peak, resident(worker))
            time.sleep(0.01)
        codes = waiting.result()
        assert set(codes) == {235, 454} and codes.count(235) >= 32
        assert peak - before < 200, "two comparisons of 64 MiB"
        retried = next(client for client, code in zip(clients, codes, strict=True) if code == 454)
        retried._socket.sendall(line)
        assert retried.reply().code == 235


def test_logins_that_are_being_checked_outlive_a_reload(world: World) -> None:
    ours = submission(world, workers=1)
    (worker,) = ours.relay.workers()
    line = f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + PASSWORD)}\r\n".encode()
    with ExitStack() as stack:
        clients = [stack.enter_context(ours.client(f"127.0.{number + 1}.1")) for number in range(2)]
        for client in clients:
            client("EHLO pc.example")
            client._socket.sendall(line)
        os.kill(ours.relay.pid, signal.SIGHUP)
        wait_until(lambda: ours.relay.has_events("reloaded", 1), "the reload")
        assert [client.reply().code for client in clients] == [235] * 2
        assert [client.reply()[:2] for client in clients] == [(421, "4.3.2")] * 2
    wait_until(lambda: worker not in ours.relay.workers(), "the end of the old worker")


def resident(pid: int) -> int:
    """Its resident memory in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 >> 20


def test_a_users_file_that_is_lost_in_any_way_keeps_the_last_good_one(world: World) -> None:
    ours = submission(world)
    path = ours.relay.folder / "users"

    def works() -> bool:
        with ours.client() as client:
            return client.log_in("alice", PASSWORD) == 235

    path.unlink()
    path.mkdir()
    wait_until(lambda: "file_not_reloaded" in ours.relay.log_text, "the complaint")
    assert works()
    path.rmdir()
    path.write_text("nonsense without a colon\n\0\0\n")
    wait_until(lambda: ours.relay.has_events("file_not_reloaded", 2), "the second complaint")
    assert works()
    many = "".join(f"user{number}:{HASH}\n" for number in range(100_000))
    path.write_text(many)
    with ours.client() as client:
        assert client.log_in("alice", PASSWORD) == 235, "others wait for it as little as they can"
    wait_until(lambda: ours.relay.has_events("file_reloaded", 1), "the long file", 60)
    with ours.client() as client:  # its worker may take a little longer than the supervisor
        wait_until(lambda: client.log_in("user99999", PASSWORD) == 235, "the login of a new user", 40)


def test_behind_a_proxy_failures_count_for_the_client_that_it_names(world: World) -> None:
    ours = submission(world, proxied=True)
    relay = ours.relay

    def client(ip: str) -> TlsDialogue:
        plain = socket.create_connection((relay.address, ours.implicit), timeout=60)
        plain.sendall(f"PROXY TCP6 {ip} 2001:db8::1 4000 465\r\n".encode())
        dialogue = TlsDialogue.__new__(TlsDialogue)
        dialogue._socket = ours.context.wrap_socket(plain, server_hostname="mx.fwd.example")
        dialogue._file = dialogue._socket.makefile("rb")
        dialogue.greeting = dialogue.reply()
        return dialogue

    codes = []
    for number in range(12):  # of one /64
        with client(f"2001:db8:1:1::{number + 1:x}") as dialogue:
            codes.append(dialogue.log_in("alice", "wrong" if number < 11 else PASSWORD))
    assert codes == [535] * 10 + [454] * 2
    with client("2001:db8:1:2::1") as dialogue:
        assert dialogue.log_in("alice", PASSWORD) == 235
