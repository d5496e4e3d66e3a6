"""The SMTP door with a handler that takes everything: what the protocol itself answers, over a real socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from relay.config import Config
from relay.message import Client, Message
from relay.queue.ids import QueueIds
from relay.receive.command import RcptTo, Transaction
from relay.receive.limits import Limits, SharedCounts
from relay.receive.listener import Listener, bind
from relay.reply import Refused, Reply


class Taker:
    """A handler that accepts all mail but for `no@…`, and keeps it."""

    def __init__(self) -> None:
        self.taken: list[tuple[Client, Transaction, Message]] = []

    async def mail(self, client: Client, transaction: Transaction) -> None:
        pass

    async def rcpt(self, client: Client, transaction: Transaction, rcpt: RcptTo) -> None:
        if rcpt.recipient.startswith("no@"):
            raise Refused(550, "5.1.1", "no such user")

    async def data(self, client: Client, transaction: Transaction, message: Message) -> Reply:
        self.taken.append((client, transaction, message))
        return Reply(250, "2.0.0", "Ok")

    def refused(self, reply: Reply) -> None:
        pass

    def reset(self) -> None:
        pass


class Door:
    """A listener on loopback and raw clients for it."""

    def __init__(self, tmp_path: Path, **settings: Any) -> None:
        (tmp_path / "secret").write_text("x")
        listen = {"address": "127.0.0.1:0", **settings.pop("listen", {})}
        base = {"hostname": "mx.test", "listen": [listen], "srs": {"domain": "x.test", "secrets_file": "/dev/null"}}
        self.config = Config.model_validate(base | settings)
        self.taker = Taker()
        self.counts = SharedCounts(1)
        limits = self.config.limits
        self.socket = bind("127.0.0.1:0")
        self.listener = Listener(
            self.socket,
            self.config.listen[0],
            self.config,
            Limits(
                self.counts,
                0,
                connections=limits.connections,
                per_client=limits.connections_per_client,
                memory=limits.message_memory,
            ),
            QueueIds(time.time),
            lambda client: nullcontext(self.taker),
            None,
        )
        self.listener.start()

    async def client(self, greet: bool = True) -> Talk:
        reader, writer = await asyncio.open_connection(*self.socket.getsockname())
        talk = Talk(reader, writer)
        if greet:
            assert (await talk.reply()).startswith("220 mx.test ESMTP")
            await talk.says("EHLO client.test\r\n")
        return talk


class Talk:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def reply(self) -> str:
        lines = []
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 5)).decode()
            lines.append(line)
            if not line or line[3:4] != "-":
                return "".join(lines)

    async def says(self, data: str | bytes, replies: int = 1) -> str:
        self.writer.write(data.encode() if isinstance(data, str) else data)
        await self.writer.drain()
        return "".join([await self.reply() for _ in range(replies)])

    async def mails(self, content: bytes, sender: str = "a@b.test", recipient: str = "c@d.test") -> str:
        await self.says(f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n", 3)
        return await self.says(content + b".\r\n")


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Callable[..., Door]]:
    doors: list[Door] = []

    def make(**settings: Any) -> Door:
        doors.append(Door(tmp_path, **settings))
        return doors[-1]

    yield make
    for one in doors:
        one.listener.stop()
        one.listener.abort()
        await asyncio.wait_for(one.listener.finished(), 5)
        one.socket.close()


async def test_ehlo_offers_what_the_relay_does(door: Callable[..., Door]) -> None:
    talk = await door().client(greet=False)
    await talk.reply()
    offers = (await talk.says("EHLO client.test\r\n")).replace("250-", "").replace("250 ", "").split("\r\n")
    assert {"PIPELINING", "SIZE 25000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN"} <= set(offers)
    assert "STARTTLS" not in offers


async def test_a_message_arrives_as_it_was_sent(door: Callable[..., Door]) -> None:
    one = door()
    talk = await one.client()
    assert (await talk.mails(b"Subject: x\r\n\r\n..dot\r\n\xff8bit\r\n")).startswith("250 2.0.0")
    ((client, transaction, message),) = one.taker.taken
    assert message.content == b"Subject: x\r\n\r\n.dot\r\n\xff8bit\r\n"
    assert (client.helo, client.protocol, transaction.mail.sender) == ("client.test", "ESMTP", "a@b.test")


async def test_a_whole_conversation_pipelined_in_one_segment(door: Callable[..., Door]) -> None:
    one = door()
    talk = await one.client(greet=False)
    await talk.reply()
    stream = "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<no@d>\r\n"
    stream += "DATA\r\nhi\r\n.\r\nMAIL FROM:<>\r\nRSET\r\nQUIT\r\n"
    answers = await talk.says(stream, 9)
    codes = [line[:3] for line in answers.splitlines() if line[3:4] == " "]
    assert codes == ["250", "250", "250", "550", "354", "250", "250", "250", "221"]
    assert await talk.reader.read() == b""


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("FOO\r\n", "500 5.5.1"),
        ("\r\n", "500 5.5.1"),
        ("RCPT TO:<a@b>\r\n", "503 5.5.1"),
        ("DATA\r\n", "503 5.5.1"),
        ("EHLO\r\n", "501 5.5.4"),
        ("STARTTLS\r\n", "502 5.5.1"),
        ("NOOP\n", "500 5.5.2"),
        ("NO\x00OP\r\n", "500 5.5.2"),
        (b"MAIL FROM:<\xff@b>\r\n", "500 5.5.2"),
        ("RSET now\r\n", "501 5.5.4"),
        ("VRFY root\r\n", "252 2.5.2"),
        ("NOOP\r\n", "250 2.0.0"),
        ("HELP\r\n", "214 2.0.0"),
        ("X" * 100_000 + "\r\n", "500 5.5.2"),
        ("MAIL FROM:<a@b> SIZE=99999999999\r\n", "552 5.3.4"),
    ],
)
async def test_odd_commands_get_a_reply_and_the_session_goes_on(
    door: Callable[..., Door], command: str | bytes, reply: str
) -> None:
    talk = await door().client()
    assert (await talk.says(command)).startswith(reply + " ")
    assert (await talk.mails(b"Subject: x\r\n\r\n")).startswith("250 2.0.0")


async def test_mail_before_ehlo_and_twice(door: Callable[..., Door]) -> None:
    talk = await door().client(greet=False)
    await talk.reply()
    assert (await talk.says("MAIL FROM:<a@b>\r\n")).startswith("503 5.5.1")
    await talk.says("HELO c\r\nMAIL FROM:<a@b>\r\n", 2)
    assert (await talk.says("MAIL FROM:<a@b>\r\n")).startswith("503 5.5.1")


async def test_data_without_any_recipient_that_was_accepted(door: Callable[..., Door]) -> None:
    talk = await door().client()
    await talk.says("MAIL FROM:<a@b>\r\nRCPT TO:<no@d>\r\n", 2)
    assert (await talk.says("DATA\r\n")).startswith("554 5.5.1")


async def test_too_many_errors_end_the_session(door: Callable[..., Door]) -> None:
    talk = await door(limits={"errors": 3}).client()
    answers = await talk.says("FOO\r\n" * 3, 4)
    assert answers.splitlines()[-1].startswith("421 4.7.0")
    assert await talk.reader.read() == b""


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"x\n.\nMAIL FROM:<evil@b>\r\n"])
async def test_bare_newlines_are_refused_after_the_whole_message(door: Callable[..., Door], content: bytes) -> None:
    one = door()
    talk = await one.client()
    assert (await talk.mails(content)).startswith("550 5.6.0")
    assert not one.taker.taken
    assert (await talk.says("NOOP\r\n")).startswith("250")


async def test_bare_newlines_are_normalized_for_trusted_clients(door: Callable[..., Door]) -> None:
    one = door(clients={"trusted": ["127.0.0.1"]})
    talk = await one.client()
    assert (await talk.mails(b"a: b\n\nbody\n.\nmore\r\n")).startswith("250")
    assert one.taker.taken[0][2].content == b"a: b\r\n\r\nbody\r\n.\r\nmore\r\n"


async def test_a_message_over_the_limit_is_read_and_refused(door: Callable[..., Door]) -> None:
    one = door(receive={"max_message_size": 1000})
    talk = await one.client()
    assert (await talk.mails(b"x" * 5000 + b"\r\n")).startswith("552 5.3.4")
    assert (await talk.mails(b"x" * 500 + b"\r\n")).startswith("250")


async def test_memory_for_messages_is_bounded_and_given_back(door: Callable[..., Door]) -> None:
    one = door(limits={"message_memory": 100_000})
    talk = await one.client()
    assert (await talk.says("MAIL FROM:<a@b> SIZE=200000\r\n")).startswith("452 4.3.1")
    assert (await talk.mails(b"x" * 150_000 + b"\r\n")).startswith("452 4.3.1")
    for _ in range(3):
        assert (await talk.mails(b"x" * 90_000 + b"\r\n")).startswith("250")
    await talk.says("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", 3)
    talk.writer.write(b"x" * 90_000)
    await talk.writer.drain()
    other = await one.client()
    reply = ""
    async with asyncio.timeout(5):
        while not reply.startswith("452"):
            reply = await other.mails(b"x" * 90_000 + b"\r\n")
    talk.writer.close()
    async with asyncio.timeout(5):
        while not reply.startswith("250"):
            reply = await other.mails(b"x" * 90_000 + b"\r\n")


async def test_connections_are_limited_in_all_and_by_client(door: Callable[..., Door]) -> None:
    one = door(limits={"connections_per_client": 2})
    talks = [await one.client() for _ in range(2)]
    refused = await one.client(greet=False)
    assert (await refused.reply()).startswith("421 4.7.0")
    assert await refused.reader.read() == b""
    await talks[0].says("QUIT\r\n")
    async with asyncio.timeout(5):
        while not (await (await one.client(greet=False)).reply()).startswith("220"):
            pass


async def test_a_silent_client_is_sent_away(door: Callable[..., Door]) -> None:
    talk = await door(limits={"command_timeout": "100ms"}).client()
    assert (await talk.reply()).startswith("421 4.4.2")
    assert await talk.reader.read() == b""


async def test_draining_ends_idle_sessions_and_lets_transactions_finish(door: Callable[..., Door]) -> None:
    one = door()
    idle, busy = await one.client(), await one.client()
    await busy.says("MAIL FROM:<a@b>\r\n")
    one.listener.stop()
    assert (await idle.reply()).startswith("421 4.3.2")
    assert (await busy.says("RCPT TO:<c@d>\r\n")).startswith("250")
    assert (await busy.says("DATA\r\n")).startswith("354")
    assert (await busy.says("hi\r\n.\r\n")).startswith("250")
    assert (await busy.reply()).startswith("421 4.3.2")
    one.listener._loop.add_reader(one.socket.fileno(), lambda: None)  # the fixture stops the listener once more


async def test_a_browser_is_shown_the_door(door: Callable[..., Door]) -> None:
    talk = await door().client(greet=False)
    await talk.reply()
    assert (await talk.says("GET / HTTP/1.1\r\nHost: x\r\n\r\n")).startswith("521 5.7.0")
    assert await talk.reader.read() == b""


async def test_proxy_protocol(door: Callable[..., Door]) -> None:
    one = door(listen={"proxy_protocol": True})
    talk = await one.client(greet=False)
    talk.writer.write(b"PROXY TCP4 192.0.2.7 127.0.0.1 1234 25\r\n")
    await talk.reply()
    await talk.says("EHLO c\r\n")
    await talk.mails(b"hi\r\n")
    assert one.taker.taken[0][0].ip == "192.0.2.7"


async def test_an_unknown_proxied_client_is_never_trusted(door: Callable[..., Door]) -> None:
    one = door(listen={"proxy_protocol": True}, clients={"trusted": ["127.0.0.1"]})
    talk = await one.client(greet=False)
    talk.writer.write(b"PROXY UNKNOWN\r\n")
    await talk.reply()
    await talk.says("EHLO c\r\n")
    await talk.mails(b"hi\r\n")
    assert one.taker.taken[0][0].trusted is False


@pytest.mark.parametrize(
    "settings",
    [
        {"listen": {"proxy_protocol": True, "proxies": ["192.0.2.0/24"]}},
        {"listen": {"proxy_protocol": True}},
    ],
)
async def test_without_a_header_from_a_named_proxy_nobody_comes_in(door: Callable[..., Door], settings: Any) -> None:
    talk = await door(**settings).client(greet=False)
    talk.writer.write(b"EHLO client.test\r\n")
    try:
        assert await asyncio.wait_for(talk.reader.read(), 10) == b""
    except ConnectionResetError:
        pass  # what the client had sent was left unread
