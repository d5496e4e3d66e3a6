"""The endpoint over real HTTP: what monitoring sees, and what somebody who wants to do harm gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http.client import HTTPResponse
from io import BytesIO
from socket import socket
from typing import cast

import pytest

from relay.metrics import Metrics
from relay.process import health
from relay.receive.listener import bind
from tests.peers import wait_for


async def _ready() -> str:
    return ""


async def _sizes() -> Mapping[str, int]:
    return {"due": 7}


@asynccontextmanager
async def served(
    metrics: Metrics | None = None,
    ready: Callable[[], Awaitable[str]] = _ready,
    sizes: Callable[[], Awaitable[Mapping[str, int]]] | None = None,
) -> AsyncIterator[int]:
    server = await health.serve(bind("127.0.0.1:0"), metrics or Metrics(), ready, sizes)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


async def request(port: int, line: str) -> tuple[HTTPResponse, str]:
    answer = await raw(port, f"{line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    class _Replay:
        def makefile(self, *_: object) -> BytesIO:
            return BytesIO(answer)

    response = HTTPResponse(cast(socket, _Replay()), method=line.split()[0])
    response.begin()
    return response, response.read().decode()


async def test_healthz() -> None:
    async with served() as port:
        response, body = await request(port, "GET /healthz")
    assert (response.status, body) == (200, "ok\n")
    assert response.getheader("Connection") == "close"


async def test_metrics_with_the_queue() -> None:
    metrics = Metrics()
    metrics.accepted.add()
    async with served(metrics, sizes=_sizes) as port:
        response, body = await request(port, "GET /metrics?name[]=x")
    assert response.status == 200
    assert (response.getheader("Content-Type") or "").startswith("text/plain; version=")
    assert "srs_relay_messages_accepted_total 1.0\n" in body
    assert 'srs_relay_queue_deliveries{state="due"} 7.0\n' in body


async def test_metrics_survive_a_queue_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> Mapping[str, int]:
        raise OSError("database is locked")

    async def stuck() -> Mapping[str, int]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)
    for sizes in (broken, stuck):
        async with served(sizes=sizes) as port:
            response, body = await request(port, "GET /metrics")
        assert response.status == 200
        assert "srs_relay_connections_total" in body
        assert "srs_relay_queue" not in body


async def test_the_queue_is_counted_once_for_all_who_ask_at_a_time() -> None:
    counted = 0
    slow = asyncio.Event()

    async def sizes() -> Mapping[str, int]:
        nonlocal counted
        counted += 1
        await slow.wait()
        return {"due": counted}

    async with served(sizes=sizes) as port:
        asking = [asyncio.create_task(request(port, "GET /metrics")) for _ in range(20)]
        await wait_for(lambda: counted == 1, "the first count")
        slow.set()
        answers = [body for _, body in await asyncio.gather(*asking)]
        assert all('state="due"} 1.0' in body for body in answers)
        assert 'state="due"} 1.0' in (await request(port, "GET /metrics"))[1], "still fresh"
    assert counted == 1


async def test_a_count_that_takes_too_long_is_told_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = asyncio.Event()

    async def sizes() -> Mapping[str, int]:
        await slow.wait()
        return {"due": 7}

    monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)
    async with served(sizes=sizes) as port:
        for _ in range(2):
            assert "srs_relay_queue" not in (await request(port, "GET /metrics"))[1]
        slow.set()
        monkeypatch.setattr(health, "CHECK_SECONDS", 5.0)
        assert 'state="due"} 7.0' in (await request(port, "GET /metrics"))[1]


async def test_an_old_count_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "COUNT_KEPT", 0.0)
    counts = iter(range(5, 10))

    async def sizes() -> Mapping[str, int]:
        return {"due": next(counts)}

    async with served(sizes=sizes) as port:
        for expected in (5, 6):
            assert f'state="due"}} {expected}.0' in (await request(port, "GET /metrics"))[1]


async def test_readyz_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    state = "starting"

    async def ready() -> str:
        return state

    async with served(ready=ready) as port:
        response, body = await request(port, "GET /readyz")
        assert (response.status, body) == (503, "starting\n")
        state = ""
        response, body = await request(port, "GET /readyz")
        assert (response.status, body) == (200, "ready\n")
        state = "draining"
        response, body = await request(port, "GET /readyz")
        assert (response.status, body) == (503, "draining\n")
        response, _ = await request(port, "GET /healthz")
        assert response.status == 200


async def test_readyz_is_503_when_the_check_fails_or_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> str:
        raise OSError("secret path")

    async def stuck() -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)
    for ready in (broken, stuck):
        async with served(ready=ready) as port:
            response, body = await request(port, "GET /readyz")
        assert response.status == 503
        assert "secret" not in body


@pytest.mark.parametrize(
    ("line", "status"),
    [("GET /", 404), ("GET /metricsx", 404), ("POST /metrics", 405), ("DELETE /healthz", 405), ("HEAD /healthz", 200)],
)
async def test_nothing_else(line: str, status: int) -> None:
    async with served() as port:
        response, body = await request(port, line)
    assert response.status == status
    assert (response.getheader("Allow") == "GET, HEAD") == (status == 405)
    if line.startswith("HEAD"):
        assert body == "" and response.getheader("Content-Length") == "3"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /healthz\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /h\x00z HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 2_000_000, 431),
    ],
)
async def test_bad_requests(data: bytes, status: int) -> None:
    async with served() as port:
        try:
            answer = await raw(port, data)
        except ConnectionError:  # closed while we still sent, which is as good an end
            answer = b""
        assert not answer or answer.startswith(f"HTTP/1.1 {status} ".encode())
        response, _ = await request(port, "GET /healthz")
        assert response.status == 200


async def test_a_client_that_stalls_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "REQUEST_SECONDS", 0.05)
    async with served() as port:
        assert await raw(port, b"GET /healthz HTT") == b""


async def test_more_connections_than_allowed_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CONNECTIONS", 2)
    async with served() as port:
        first, second = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        try:
            assert await raw(port, b"GET /healthz HTTP/1.1\r\n\r\n") == b""
        except ConnectionError:
            pass
        for reader, writer in (first, second):
            writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
        response, _ = await request(port, "GET /healthz")
        assert response.status == 200
