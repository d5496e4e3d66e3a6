"""SMTP by aiosmtpd and aiosmtplib, and by our own server and client, with Postfix's tools on the other side."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import aiosmtplib
from aiosmtpd.smtp import SMTP, Envelope, Session

from bench import mail
from bench.load import Sink, source
from bench.running_relay import ALIAS, SENDER, free_port
from relay.config.model import Config
from relay.deliver.job import Job
from relay.deliver.mx import Host
from relay.deliver.next_hop import NextHop
from relay.deliver.smtp_opening import open_connection
from relay.deliver.smtp_transaction import transact
from relay.mail.envelope import Client, RcptTo, Recipient
from relay.mail.message import Message
from relay.mail.queue_id import QueueIds
from relay.mail.reply import Reply
from relay.receive.command import Transaction
from relay.receive.handler import Gone
from relay.receive.limits import Limits
from relay.receive.listener import Listener, bind
from relay.receive.shared_counts import SharedCounts

MESSAGES, SESSIONS, RUNS = 1000, 20, 3

_CONFIG = Config.model_validate(
    {
        "hostname": "mx.fwd.test",
        "listen": [{"address": "127.0.0.1:0"}],
        "limits": {"connections_per_client": 300},
        "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
        "delivery": {"public_addresses_only": False, "tls": "none"},
    },
    context={"base": Path("/")},
)


class _TakesAll:
    """The handler of our server, and of aiosmtpd's."""

    async def mail(self, client: Client, transaction: Transaction) -> None: ...

    async def rcpt(self, client: Client, transaction: Transaction, rcpt: RcptTo) -> None: ...

    async def data(self, client: Client, transaction: Transaction, message: Message, gone: Gone) -> Reply:
        return Reply(250, "2.0.0", "Ok")

    def refused(self, reply: Reply) -> None: ...

    def reset(self) -> None: ...

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return "250 2.0.0 Ok"


async def servers(octets: int) -> tuple[float, float]:
    """Seconds of processor time to receive a message over a connection of its own: aiosmtpd's, and ours."""
    return await _received(_aiosmtpd, octets), await _received(_our_server, octets)


@asynccontextmanager
async def _aiosmtpd(port: int) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(_TakesAll(), hostname="mx.fwd.test", loop=loop), "127.0.0.1", port, backlog=1024
    )
    try:
        yield
    finally:
        server.close()


@asynccontextmanager
async def _our_server(port: int) -> AsyncIterator[None]:
    configured = _CONFIG.limits
    limits = Limits(
        SharedCounts(1),
        0,
        connections=configured.connections,
        per_client=configured.connections_per_client,
        memory=configured.message_memory,
        largest=_CONFIG.receive.max_message_size,
        min_rate=configured.min_rate,
    )
    sock = bind(f"127.0.0.1:{port}")
    ids = QueueIds(time.time)
    handler: Any = nullcontext(_TakesAll())
    listener = Listener(sock, _CONFIG.listen[0], _CONFIG, limits, ids, lambda client: handler, None)
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        await listener.finished()
        sock.close()


async def _received(server: Callable[[int], Any], octets: int) -> float:
    seconds = []
    for _ in range(RUNS):
        port = free_port()
        async with server(port):
            await source(port, SESSIONS, octets, 50)
            began = time.process_time()
            await source(port, SESSIONS, octets, MESSAGES)
            seconds.append((time.process_time() - began) / MESSAGES)
    return min(seconds)


async def clients(octets: int) -> tuple[float, float]:
    """Seconds of processor time to send a message over one kept connection: aiosmtplib's, and ours."""
    port = free_port()
    sink = await Sink.start(port)
    content = mail.signed(octets)
    try:
        await _accepts(port)
        return await _sent(_aiosmtplib(port, content)), await _sent(_our_client(port, content))
    finally:
        await sink.stop()


async def _accepts(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except OSError:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def _aiosmtplib(port: int, content: bytes) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, use_tls=False, start_tls=False) as client:
        yield lambda: client.sendmail(SENDER, [ALIAS], content)


@asynccontextmanager
async def _our_client(port: int, content: bytes) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    async def wire() -> Iterable[bytes]:
        return (content,)

    host, hop = Host("localhost", "127.0.0.1", port), NextHop(domain="fwd.test", tls="none")
    connection = await open_connection(host, hop, _CONFIG.destinations.leaving, _CONFIG.delivery)

    async def send() -> None:
        recipients = (Recipient(ALIAS),)
        job = Job(SENDER, recipients, len(content), False, False, ret="", envid="", content=wire)
        (outcome,) = await transact(connection, job, _CONFIG.delivery)
        assert outcome.status == "delivered", outcome

    try:
        yield send
    finally:
        connection.abort()


async def _sent(client: Any) -> float:
    seconds = []
    async with client as send:
        for _ in range(RUNS + 1):
            began = time.process_time()
            for _ in range(MESSAGES):
                await send()
            seconds.append((time.process_time() - began) / MESSAGES)
    return min(seconds)
