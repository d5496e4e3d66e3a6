"""Where the programs of the filter are found: by address, by name, by path."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from relay.config.values import Service
from relay.content_filter.clamd import Clamd, read_answer
from relay.content_filter.rspamd import Rspamd
from relay.content_filter.scanned import NoOpinion
from relay.content_filter.service import addresses
from relay.dns import DnsFailure, StaticResolver
from tests.content_filter.answering import http, is_silent, rspamd, says, sends
from tests.peers import wait_for

ZONE: dict[tuple[str, str], Any] = {
    ("both.example", "A"): ["192.0.2.1"],
    ("both.example", "AAAA"): ["2001:db8::1"],
    ("away.example", "A"): DnsFailure("timeout"),
    ("rspamd.example", "A"): ["127.0.0.1"],
}
RESOLVER = StaticResolver(ZONE)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("127.0.0.1", ("127.0.0.1",)),
        ("2001:db8::5", ("2001:db8::5",)),
        ("localhost", ("127.0.0.1", "::1")),
        ("both.example", ("192.0.2.1", "2001:db8::1")),
    ],
)
async def test_addresses(host: str, found: tuple[str, ...]) -> None:
    assert await addresses(Service(host, 1), RESOLVER) == found


@pytest.mark.parametrize("host", ["away.example", "nowhere.example"])
async def test_a_name_without_an_address_is_no_opinion(host: str) -> None:
    with pytest.raises(NoOpinion, match=host):
        await addresses(Service(host, 1), RESOLVER)


async def test_a_host_by_its_name() -> None:
    async with rspamd(says("add header", 7)) as server:
        opinion = await Rspamd(Service("rspamd.example", server.port), RESOLVER).judge(b"From: a@b\r\n\r\n", [])
    assert opinion.action == "add header"


async def test_the_second_address_is_tried_where_the_first_is_closed() -> None:
    zone = {("two.example", "A"): ["127.0.0.9", "127.0.0.1"]}
    async with rspamd(says("add header", 7)) as server:
        judge = Rspamd(Service("two.example", server.port), StaticResolver(zone))
        assert (await judge.judge(b"x" * 200_000, [])).action == "add header"
    assert server.requests[0].body == b"x" * 200_000


async def test_ping_of_rspamd() -> None:
    async with rspamd(sends(http(b"pong\r\n"))) as server:
        await Rspamd(Service("127.0.0.1", server.port), RESOLVER).ping()
        assert [request.line for request in server.requests] == ["GET /ping HTTP/1.1"]
    async with rspamd(sends(http(b"", "404 Not Found"))) as server:
        with pytest.raises(NoOpinion, match="404"):
            await Rspamd(Service("127.0.0.1", server.port), RESOLVER).ping()


async def test_a_cancelled_question_closes_its_connection() -> None:
    async with rspamd(is_silent) as server:
        asking = asyncio.create_task(Rspamd(Service("127.0.0.1", server.port), RESOLVER).judge(b"x", []))
        await wait_for(lambda: server.requests, "the question")
        assert server.closed == 0
        asking.cancel()
        await wait_for(lambda: server.closed == 1, "the end of the connection")


async def test_sockets_that_are_not_there(tmp_path: Path) -> None:
    missing = Service("", 0, str(tmp_path / "no.sock"))
    for ask in (Clamd(missing, RESOLVER).ping, Rspamd(missing, RESOLVER).ping):
        with pytest.raises(NoOpinion, match="No such file"):
            await ask()


@pytest.mark.parametrize(
    ("line", "virus"),
    [
        (b"stream: OK", ""),
        (b"stream: Eicar-Signature FOUND", "Eicar-Signature"),
        (b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\n", "Heuristics.Limits.Exceeded.MaxFileSize"),
    ],
)
def test_answers_of_clamd(line: bytes, virus: str) -> None:
    assert read_answer(line) == virus


@pytest.mark.parametrize("line", [b"", b"OK", b"stream: OK FOUND ERROR", b"UNKNOWN COMMAND", b"stream: \xff ERROR"])
def test_other_answers_of_clamd_are_none(line: bytes) -> None:
    with pytest.raises(NoOpinion):
        read_answer(line)
