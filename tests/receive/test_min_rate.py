"""Strangers that send too slowly while half of the room is taken: the slowest are ended, as many as it takes."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.config.sections import TlsSection
from relay.receive.min_rate import EVERY, WINDOW
from relay.receive.room import SPOOL_FROM
from relay.receive.server_tls import ServerTls
from relay.receive.shared_counts import SharedCounts
from relay.receive.spool import Spool
from tests.certificates import write_certificate
from tests.peers import wait_for
from tests.receive.door import Door, Talk, within_patience

MAIL = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
MEMORY = 400_000
TIGHT: dict[str, Any] = {"limits": {"message_memory": MEMORY}, "receive": {"max_message_size": MEMORY}}
TOO_SLOW = "421 4.4.2 mx.test Error: too slow"


class Clock:
    """Looks at the transfers of some doors as if time went by."""

    def __init__(self, *doors: Door, now: float = 1000.0) -> None:
        self.now = now
        self._doors = doors

    def passes(self, seconds: float) -> None:
        for _ in range(int(seconds / EVERY)):
            self.now += EVERY
            for door in self._doors:
                door.limits.monitor.check(self.now)


async def begins(talk: Talk) -> Talk:
    """A client in DATA."""
    await talk.says(MAIL, 3)
    return talk


async def sends(server: Door, talk: Talk, octets: int) -> None:
    """It sends so much, which is there then."""
    already = sum(transfer.received for transfer in server.limits.monitor.transfers)
    talk.writer.write(b"x" * octets)
    await within_patience(talk.writer.drain())
    await wait_for(
        lambda: sum(transfer.received for transfer in server.limits.monitor.transfers) == already + octets, "it all"
    )


async def slow_clients(server: Door, *rates: int, octets: int = 90_000, first: int = 11) -> tuple[list[Talk], Clock]:
    """Clients that have sent so much and then, in nearly a minute, so many octets a second."""
    talks = [await begins(await server.client(source=f"127.0.0.{first + n}")) for n in range(len(rates))]
    for talk in talks:
        await sends(server, talk, octets)
    clock = Clock(server)
    clock.passes(EVERY)
    for talk, rate in zip(talks, rates, strict=True):
        await sends(server, talk, int(rate * WINDOW))
    clock.passes(WINDOW - EVERY)
    assert len(server.limits.monitor.transfers) >= len(rates)
    return talks, clock


async def ended(server: Door, left: int) -> None:
    await wait_for(lambda: len(server.limits.monitor.transfers) == left, "the end of the slow ones")


async def test_the_slowest_are_ended_as_many_as_it_takes(door: Callable[..., Door], log: list[dict[str, Any]]) -> None:
    server = door(**TIGHT)
    talks, clock = await slow_clients(server, 20, 3, 10, octets=80_000)
    assert server.limits.memory.taken > MEMORY / 2
    clock.passes(EVERY)
    await ended(server, 2)
    clock.passes(2 * WINDOW)
    await ended(server, 2)
    assert server.limits.memory.taken <= MEMORY / 2
    assert (await talks[1].reply()).startswith(TOO_SLOW)
    assert await talks[1].closed()
    (line,) = [line for line in log if line["event"] == "too_slow"]
    assert line["ip"] == "127.0.0.12" and line["octets_a_second"] == 3 and line["id"]
    for talk in (talks[0], talks[2]):
        assert (await talk.says(b"\r\n.\r\n")).startswith("250")


async def test_nobody_is_ended_within_a_minute(door: Callable[..., Door]) -> None:
    server = door(**TIGHT)
    talk = await begins(await server.client())
    await sends(server, talk, 300_000)
    clock = Clock(server)
    clock.passes(WINDOW)
    assert (await talk.says(b"\r\n.\r\n")).startswith("250")


async def test_nobody_is_ended_while_there_is_room(door: Callable[..., Door]) -> None:
    server = door(**TIGHT)
    talks, clock = await slow_clients(server, 0, 0, octets=90_000)
    clock.passes(100 * WINDOW)
    for talk in talks:
        assert (await talk.says(b"\r\n.\r\n")).startswith("250")


async def test_who_is_quick_enough_may_take_more_than_half(door: Callable[..., Door]) -> None:
    server = door(**{**TIGHT, "limits": {"message_memory": MEMORY, "min_rate": 100}})
    talks, clock = await slow_clients(server, 101, 101, 101)
    clock.passes(EVERY)
    for talk in talks:
        assert (await talk.says(b"\r\n.\r\n")).startswith("250")


async def test_only_the_last_minute_counts(door: Callable[..., Door]) -> None:
    """Who sent a lot at first and then next to nothing is slow; the other way round it is not."""
    server = door(**TIGHT)
    waking, falling_asleep = [await begins(await server.client(source=f"127.0.0.{n}")) for n in (11, 12)]
    await sends(server, falling_asleep, 70_000)
    clock = Clock(server)
    clock.passes(10 * WINDOW)
    await sends(server, waking, 70_000)
    fresh = await begins(await server.client(source="127.0.0.13"))
    await sends(server, fresh, 70_000)
    clock.passes(EVERY)
    await ended(server, 2)
    assert (await falling_asleep.reply()).startswith(TOO_SLOW)
    for talk in (waking, fresh):
        assert (await talk.says(b"\r\n.\r\n")).startswith("250")


async def test_trusted_clients_may_be_as_slow_as_they_like(door: Callable[..., Door]) -> None:
    server = door(clients={"trusted": ["127.0.0.1"]}, **TIGHT)
    trusted = await begins(await server.client())
    trusted.writer.write(b"x" * 300_000)
    await wait_for(lambda: server.limits.memory.taken == 300_000, "all of it")
    clock = Clock(server)
    clock.passes(10 * WINDOW)
    assert (await trusted.says(b"\r\n.\r\n")).startswith("250")


async def test_who_holds_nothing_is_left_alone(door: Callable[..., Door]) -> None:
    """A message that is refused already, and one that has not begun, are nobody's burden."""
    server = door(clients={"trusted": ["127.0.0.1"]}, **TIGHT)
    trusted = await begins(await server.client())
    trusted.writer.write(b"x" * 300_000)
    await wait_for(lambda: server.limits.memory.taken == 300_000, "all of it")
    refused, empty = [await begins(await server.client(source=f"127.0.0.{n}")) for n in (11, 12)]
    await sends(server, refused, 100)
    refused.writer.write(b"bare\nnewline")
    await wait_for(lambda: server.limits.memory.taken == 300_000, "the refusal")
    Clock(server).passes(3 * WINDOW)
    assert (await refused.says(b"\r\n.\r\n")).startswith("550 5.6.0")
    assert (await empty.says(b"hi\r\n.\r\n")).startswith("250")


async def test_workers_end_the_slowest_of_all(door: Callable[..., Door]) -> None:
    """Each has a share of the clients: the slow one of the other worker goes first."""
    counts = SharedCounts(2)
    first, second = (door(counts=counts, worker=n, **TIGHT) for n in range(2))
    quicker, _ = await slow_clients(first, 900, octets=40_000)
    slower, clock = await slow_clients(second, 2, 400, octets=80_000, first=21)
    Clock(second, first, now=clock.now).passes(EVERY)
    await ended(second, 1)
    await ended(first, 1)
    assert (await slower[0].reply()).startswith(TOO_SLOW)
    for talk in (quicker[0], slower[1]):
        assert (await talk.says(b"\r\n.\r\n")).startswith("250")


async def test_a_dead_worker_had_no_slow_clients(door: Callable[..., Door]) -> None:
    counts = SharedCounts(2)
    first, dead = (door(counts=counts, worker=n, **TIGHT) for n in range(2))
    slower, clock = await slow_clients(dead, 1, octets=10_000)
    clock.passes(EVERY)
    talks, clock = await slow_clients(first, 500, 500, 500, first=21)
    clock.passes(EVERY)
    await ended(first, 3)
    counts.clear(1)
    clock.passes(EVERY)
    await wait_for(lambda: len(first.limits.monitor.transfers) < 3, "the end of some")
    assert len([*talks, *slower]) == 4


async def test_the_room_on_disk_counts_too(door: Callable[..., Door], tmp_path: Path) -> None:
    class Small(Spool):
        def free(self) -> int:
            return 12 * SPOOL_FROM - server.limits.disk.taken

    server = door(spool=Small(tmp_path))
    talks, clock = await slow_clients(server, 5, 3, 4, octets=SPOOL_FROM)
    await sends(server, talks[0], SPOOL_FROM // 2)
    assert server.limits.disk.taken >= 3 * SPOOL_FROM > server.limits.disk.capacity() / 2 - 1
    clock.passes(EVERY)
    await ended(server, 2)
    assert (await talks[1].reply()).startswith(TOO_SLOW)
    assert server.limits.disk.taken <= server.limits.disk.capacity() / 2


@pytest.mark.parametrize("how", ["STARTTLS", "PROXY"])
async def test_tls_and_proxied_clients_are_ended_alike(door: Callable[..., Door], tmp_path: Path, how: str) -> None:
    write_certificate(tmp_path, "first")
    tls = ServerTls(TlsSection(certificate=tmp_path / "cert.pem", private_key=tmp_path / "key.pem")).context
    server = door(tls=tls, listen={"proxy_protocol": how == "PROXY"}, clients={"trusted": ["127.0.0.1"]}, **TIGHT)
    talk = await server.client(greet=False, source="127.0.0.11" if how == "STARTTLS" else "127.0.0.1")
    if how == "STARTTLS":
        await talk.reply()
        await talk.says("EHLO c\r\n")
        await talk.says("STARTTLS\r\n")
        context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        await talk.starts_tls(context)
    else:
        await talk.says("PROXY TCP6 2001:db8::1 2001:db8::2 1234 25\r\n")
    await talk.says("EHLO c\r\n")
    await begins(talk)
    await sends(server, talk, 250_000)
    clock = Clock(server)
    clock.passes(WINDOW + EVERY)
    assert (await talk.reply()).startswith(TOO_SLOW)
    await ended(server, 0)
    assert server.limits.memory.taken == 0
