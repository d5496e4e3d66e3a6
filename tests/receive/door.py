"""A listener on loopback whose handler keeps what it takes, and raw clients for it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any, TypeVar

from relay.config.model import Config
from relay.known_clients import KnownClients
from relay.mail.envelope import Client, RcptTo
from relay.mail.message import Message
from relay.mail.queue_id import QueueIds
from relay.mail.reply import Refused, Reply
from relay.receive.authenticator import Authenticator
from relay.receive.command import Transaction
from relay.receive.handler import Gone
from relay.receive.limits import Limits
from relay.receive.listener import Listener, bind
from relay.receive.shared_counts import SharedCounts
from relay.receive.spool import Spool

PATIENCE = 10.0  # seconds for whatever should happen at once

T = TypeVar("T")


class Taker:
    """A handler that accepts all mail but for `no@…`, and keeps it."""

    def __init__(self) -> None:
        self.taken: list[tuple[Client, Transaction, Message]] = []

    async def mail(self, client: Client, transaction: Transaction) -> None:
        pass

    async def rcpt(self, client: Client, transaction: Transaction, rcpt: RcptTo) -> None:
        if rcpt.recipient.startswith("no@"):
            raise Refused(550, "5.1.1", "no such user")

    async def data(self, client: Client, transaction: Transaction, message: Message, gone: Gone) -> Reply:
        self.taken.append((client, transaction, message))
        return Reply(250, "2.0.0", "Ok")

    def refused(self, reply: Reply) -> None:
        pass

    def reset(self) -> None:
        pass


class Door:
    """A started listener.

    Args:
        counts: where it counts, if others count there too.
        tls: what makes its TLS contexts.
        spool: where large messages wait; without it they wait in memory.
        authenticator: checks logins.
        known: the clients that had mail accepted, if others know them, too.
        listen, settings: over the defaults of the configuration.
    """

    def __init__(
        self,
        *,
        counts: SharedCounts | None = None,
        worker: int = 0,
        tls: Callable[[], ssl.SSLContext] | None = None,
        spool: Spool | None = None,
        known: KnownClients | None = None,
        authenticator: Authenticator | None = None,
        listen: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        defaults = {
            "hostname": "mx.test",
            "listen": [{"address": "127.0.0.1:0", **(listen or {})}],
            "srs": {"domain": "x.test", "secrets_file": "/dev/null"},
        }
        if authenticator is not None:
            defaults["auth"] = {"users": "/dev/null"}
        if tls is not None:
            defaults["tls"] = {"certificate": "/dev/null", "private_key": "/dev/null"}
        self.config = Config.model_validate(defaults | settings)
        self.taker = Taker()
        self.counts = counts or SharedCounts(1)
        limits = self.config.limits
        self.limits = Limits(
            self.counts,
            worker,
            connections=limits.connections,
            per_client=limits.connections_per_client,
            memory=limits.message_memory,
            largest=self.config.receive.max_message_size,
            min_rate=limits.min_rate,
            spool=spool,
            known=known,
        )
        self.socket = bind("127.0.0.1:0")
        self.address: tuple[str, int] = self.socket.getsockname()
        self.listener = Listener(
            self.socket,
            self.config.listen[0],
            self.config,
            self.limits,
            QueueIds(time.time),
            lambda client: nullcontext(self.taker),
            tls,
            authenticator,
        )
        self.listener.start()

    @property
    def contents(self) -> list[bytes]:
        """What was taken so far."""
        return [message.content for _, _, message in self.taker.taken]

    async def client(self, *, greet: bool = True, source: str = "127.0.0.1") -> Talk:
        """A client at a loopback address; with `greet` it has said EHLO."""
        talk = Talk(*await asyncio.open_connection(*self.address, local_addr=(source, 0)))
        if greet:
            assert (await talk.reply()).startswith("220 mx.test ESMTP")
            await talk.says("EHLO client.test\r\n")
        return talk

    async def close(self) -> None:
        self.listener.stop()
        self.listener.abort()
        await within_patience(self.listener.finished())
        self.socket.close()


class Talk:
    """A client that says what it is told to. `close_clients` closes its connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        _CLIENTS.append(self)

    async def reply(self) -> str:
        """The next reply with all its lines; empty at the end of the connection."""
        lines = []
        while True:
            line = (await within_patience(self.reader.readline())).decode()
            lines.append(line)
            if not line or line[3:4] != "-":
                return "".join(lines)

    async def says(self, data: str | bytes, replies: int = 1) -> str:
        self.writer.write(data.encode() if isinstance(data, str) else data)
        await within_patience(self.writer.drain())
        return "".join([await self.reply() for _ in range(replies)])

    async def mails(self, content: bytes, sender: str = "a@b.test", recipient: str = "c@d.test") -> str:
        """The last reply to a whole transaction; `content` is stuffed already."""
        await self.says(f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n", 3)
        return await self.says(content + b".\r\n")

    async def starts_tls(self, context: ssl.SSLContext) -> None:
        await within_patience(self.writer.start_tls(context, server_hostname="mx.test"))

    async def closed(self) -> bool:
        """Whether the server closes without another word."""
        try:
            return await within_patience(self.reader.read()) == b""
        except ConnectionResetError:
            return True  # what the client had sent was left unread


_CLIENTS: list[Talk] = []


async def close_clients() -> None:
    """Close the connections of all clients so far."""
    for client in _CLIENTS:
        client.writer.transport.abort()
    _CLIENTS.clear()
    await asyncio.sleep(0)  # the transports close their sockets in the next turn of the loop


async def within_patience(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await awaitable
