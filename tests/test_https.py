"""HTTPS requests: to real servers, with the certificate checked, no redirects, and bounds on time and size."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from relay import https
from relay.https import BadCertificate, RequestFailed, request
from tests.https_server import Answer, Authority, HttpsServer, drip, plain

HOST, ELSEWHERE, EXPIRED, SELF_SIGNED = "a.test", "b.test", "expired.test", "stranger.test"
OCTETS = 1000


class Served:
    """The server, and what it answers."""

    def __init__(self, server: HttpsServer, answers: dict[str, Answer]) -> None:
        self.server, self.answers = server, answers

    async def get(self, answer: Answer | None = None, host: str = HOST, seconds: float = 5.0) -> https.Answer:
        if answer is not None:
            self.answers[host] = answer
        return await request(host, "/x", ["127.0.0.1"], seconds=seconds, octets=OCTETS)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    folder, other = tmp_path_factory.mktemp("ca"), tmp_path_factory.mktemp("stranger")
    authority = Authority(folder)
    return authority.file, {
        HOST: authority.issue(HOST),
        ELSEWHERE: authority.issue("c.test"),
        EXPIRED: authority.issue(EXPIRED, days=-1),
        SELF_SIGNED: Authority(other).issue(SELF_SIGNED),
    }


@pytest.fixture
def served(certificates: tuple[Path, dict[str, Path]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    authority, files = certificates
    answers: dict[str, Answer] = dict.fromkeys(files, plain("hello"))
    server = HttpsServer(files, answers).start()
    monkeypatch.setattr(https, "PORT", server.port)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    yield Served(server, answers)
    server.stop()


async def test_what_is_asked_and_what_comes_back(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    answer = await served.get(plain("hello", media_type="Text/PLAIN; charset=utf-8", more="Set-Cookie: a=b\r\n"))
    assert answer == https.Answer(200, "text/plain", b"hello")
    await served.get()
    head = served.server.requests[-1][1]
    assert head.startswith("GET /x HTTP/1.1\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
    assert fields["host"].partition(":")[0] == HOST and fields["accept-encoding"] == "identity"
    assert "cookie" not in fields
    assert served.server.names[-1] == HOST


async def test_a_request_with_a_body(served: Served) -> None:
    await request(
        HOST,
        "/report",
        ["127.0.0.1"],
        method="POST",
        body=b"{}",
        headers={"Content-Type": "application/json"},
        seconds=5,
        octets=OCTETS,
    )
    head = served.server.requests[-1][1]
    assert head.startswith("POST /report ") and "Content-Type: application/json" in head and "Content-Length: 2" in head


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
MOVED = plain("moved", "301 Moved", more=f"Location: https://{ELSEWHERE}/\r\n")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (CHUNKED, https.Answer(200, "text/plain", b"hello")),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", https.Answer(200, "", b"until the end")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + plain("hello"), https.Answer(200, "text/plain", b"hello")),
        (MOVED, https.Answer(301, "text/plain", b"moved")),
        (plain("x" * OCTETS), https.Answer(200, "text/plain", b"x" * OCTETS)),
        (plain("", "204 No Content"), https.Answer(204, "text/plain", b"")),
    ],
)
async def test_answers_that_are_understood(served: Served, answer: bytes, expected: https.Answer) -> None:
    assert await served.get(answer) == expected
    assert len(served.server.requests) == 1


def close_early(connection: ssl.SSLSocket) -> None:
    connection.sendall(plain("hello")[:-2])


def reset(connection: ssl.SSLSocket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def without_end(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n")


def field_without_end(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"x" * 1000)


def interim_answers(connection: ssl.SSLSocket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def empty_lines(connection: ssl.SSLSocket) -> None:
    while True:
        connection.sendall(b"\r\n" * 1000)


def chunk_without_end(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;")
    while True:
        connection.sendall(b"x" * 1000)


FLOOD = "octets|cannot be read|breaks off"  # whichever is noticed first


def many_fields(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n" * 100)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (plain("x" * (OCTETS + 1)), "more than 1000 octets"),
        (without_end, FLOOD),
        (field_without_end, FLOOD),
        (many_fields, FLOOD),
        (interim_answers, FLOOD),
        (empty_lines, FLOOD),
        (chunk_without_end, FLOOD),
        (plain(gzip.compress(b"x" * 10**6), more="Content-Encoding: gzip\r\n"), "compressed"),
        (plain("x", more="Content-Encoding: \x1b[31m\r\n"), HOST),
        (b"SSH-2.0-OpenSSH_9.2\r\n", HOST),
        (b"\0" * 100, HOST),
        (b"", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", HOST),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", HOST),
        (b"HTTP/1.1 2000 OK\r\n\r\n", HOST),
        (close_early, "breaks off"),
        (reset, HOST),
    ],
)
async def test_answers_that_are_none(served: Served, answer: Answer, said: str) -> None:
    with pytest.raises(RequestFailed, match=said) as failed:
        await served.get(answer)
    assert str(failed.value).isprintable() and str(failed.value).isascii() and len(str(failed.value)) < 300


@pytest.mark.parametrize("host", [ELSEWHERE, EXPIRED, SELF_SIGNED])
async def test_the_certificate_has_to_be_good(served: Served, host: str) -> None:
    with pytest.raises(BadCertificate, match=f"the certificate of {host} is not good"):
        await served.get(host=host)
    assert served.server.requests == []


async def test_the_authorities_are_those_of_the_environment(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    await served.get()
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(BadCertificate):
        await served.get()


async def test_a_host_that_no_handshake_knows(served: Served) -> None:
    with pytest.raises(RequestFailed):
        await served.get(host="unknown.test")


def silent(connection: ssl.SSLSocket) -> None:
    time.sleep(20)


async def in_time(failing: Callable[[], object]) -> None:
    started = time.monotonic()
    with pytest.raises(RequestFailed, match=r"not finished within 0\.4 s"):
        await failing()  # type: ignore[misc]
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("answer", [silent, drip(plain("x" * 900)), drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 99, 0.001)])
async def test_a_slow_server_is_left(served: Served, answer: Answer) -> None:
    await in_time(lambda: served.get(answer, seconds=0.4))


async def test_a_server_that_is_silent_before_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setattr(https, "PORT", mute.getsockname()[1])
        await in_time(lambda: request(HOST, "/", ["127.0.0.1"], seconds=0.4, octets=1))


async def test_addresses_are_tried_in_turn_and_the_name_is_never_looked_up(served: Served) -> None:
    answer = await request(HOST, "/x", ["::1", "127.0.0.2", "127.0.0.1"], seconds=5, octets=OCTETS)
    assert answer.body == b"hello"  # HOST itself is not in any DNS


async def test_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestFailed, match="no address"):
        await request(HOST, "/x", [], seconds=5, octets=1)
    with socket.socket() as taken:  # does not listen
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(https, "PORT", taken.getsockname()[1])
        with pytest.raises(RequestFailed, match=r"a\.test \(127\.0\.0\.1\): Connection refused"):
            await request(HOST, "/x", ["127.0.0.1"], seconds=5, octets=1)


async def test_the_source_address_is_that_of_its_family(served: Served) -> None:
    peers: list[str] = []

    def note(connection: ssl.SSLSocket) -> None:
        peers.append(connection.getpeername()[0])
        connection.sendall(plain("hello"))

    served.answers[HOST] = note
    sources = [ip_address("127.0.0.77"), ip_address("::1")]
    await request(HOST, "/x", ["127.0.0.1"], seconds=5, octets=OCTETS, sources=sources)
    assert peers == ["127.0.0.77"]
    with pytest.raises(RequestFailed):
        await request(HOST, "/x", ["127.0.0.1"], seconds=5, octets=OCTETS, sources=[ip_address("203.0.113.9")])


async def test_nothing_is_left_behind(served: Served) -> None:
    await served.get()
    tasks, sockets = asyncio.all_tasks(), open_files()
    for _ in range(5):
        await served.get(plain("hello"))
        with pytest.raises(RequestFailed):
            await served.get(silent, seconds=0.1)
    served.server.stop()
    for _ in range(100):
        if open_files() <= sockets:
            break
        await asyncio.sleep(0.05)
    assert open_files() <= sockets and asyncio.all_tasks() == tasks


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_is_loaded_when_it_is_needed() -> None:
    code = "import sys, relay.process.worker, relay.cli.serve; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
