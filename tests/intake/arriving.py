"""Conversations over the real stages, with a queue that keeps what it is given and a DNS that is a mapping."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relay.authenticate.examination import Watch
from relay.bounce.notifier import Notice
from relay.config.model import Config
from relay.dns import DnsFailure
from relay.intake.conversation import Conversation
from relay.intake.intake import Intake
from relay.mail.envelope import Client, MailFrom, RcptTo
from relay.mail.message import Message
from relay.mail.reply import Refused, Reply
from relay.metrics import Metrics
from relay.process.files import read_files
from relay.process.stages import Stages, build_stages
from relay.queue.database import QueueUnavailable
from relay.queue.store import Delivery, StoredMessage
from relay.rate import Rates
from relay.receive.command import Transaction
from relay.receive.handler import Gone
from tests.resolvers import RecordingResolver

Zone = Mapping[tuple[str, str], Sequence[Any] | Exception]

CLIENT = Client("192.0.2.11", 4025, helo="mx.origin.test", protocol="ESMTP")
FORGER = Client("192.0.2.66", 4025, helo="evil.test", protocol="ESMTP")
INNER = Client("198.51.100.1", 4025, helo="inner.test", protocol="ESMTP", trusted=True)
JOE = "joe@origin.test"
MESSAGE = b"From: Joe <joe@origin.test>\r\nTo: alice@fwd.test\r\nSubject: hello\r\n\r\nHi.\r\n"
ALIASES = """\
alice@fwd.test carol@mailbox.test
bob@fwd.test dan@mailbox.test
team@fwd.test carol@mailbox.test, eve@mailbox.test
strict@fwd.test frank@strict.test
"""
ZONE: Zone = {
    ("origin.test", "TXT"): [(b"v=spf1 ip4:192.0.2.11 -all",)],
    ("_dmarc.origin.test", "TXT"): [(b"v=DMARC1; p=reject",)],
    ("open.test", "TXT"): [(b"v=spf1 +all",)],
    ("11.2.0.192.in-addr.arpa", "PTR"): ["mail.origin.test"],
    ("mail.origin.test", "A"): ["192.0.2.11"],
    ("silent.test", "TXT"): DnsFailure("timeout"),
}


class KeepingQueue:
    """Keeps what is put into it; the queue and the space of an `Intake`.

    Attributes:
        away: whether the queue does not answer.
        full: whether the disk has no room.
    """

    def __init__(self) -> None:
        self.put_in: list[tuple[StoredMessage, Sequence[Delivery], Notice]] = []
        self.away = False
        self.full = False

    async def enough(self) -> bool:
        return not self.full

    async def put(self, stored: StoredMessage, deliveries: Sequence[Delivery], notice: Notice) -> None:
        if self.away:
            raise QueueUnavailable("the disk is gone")
        self.put_in.append((stored, deliveries, notice))

    async def hand_over(self, stored: StoredMessage, delivery: Delivery, gone: Gone) -> bool:
        await self.put(stored, [delivery], Notice())
        return False

    @property
    def stored(self) -> StoredMessage:
        """The only message."""
        ((stored, _, _),) = self.put_in
        return stored

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """Those of the only message."""
        ((_, deliveries, _),) = self.put_in
        return deliveries

    @property
    def notice(self) -> Notice:
        """That of the only message."""
        ((_, _, notice),) = self.put_in
        return notice


class MemoryTokens:
    """Stored senders and authors, in memory; `away` says whether the queue that has them does not answer."""

    def __init__(self) -> None:
        self.stored: dict[str, str] = {}
        self.away = False

    async def token_for(self, sender: str, now: float, lifetime: float) -> str:
        token = f"{len(self.stored):016x}"
        self.stored[token] = sender
        return token

    async def keep_author(self, author: str, token: str, now: float, lifetime: float) -> str:
        self.stored[token] = author
        return token

    async def sender_of(self, token: str, now: float) -> str | None:
        if self.away:
            raise QueueUnavailable("the disk is gone")
        return self.stored.get(token)


class House:
    """The stages of one worker.

    Args:
        folder: for the files that the configuration names.
        zone: what DNS has, over `ZONE`.
        tables: of the configuration, over the defaults.
    """

    def __init__(
        self, folder: Path, zone: Zone | None = None, watch: Watch | None = None, aliases: str = ALIASES, **tables: Any
    ) -> None:
        (folder / "srs.secret").write_text("secret\n")
        (folder / "aliases").write_text(aliases)
        strict = {"next_hop": "smtp://10.0.0.2", "recipients": "any", "unforwardable": "reject"}
        self.config = Config.model_validate(
            {
                "hostname": "mx.fwd.test",
                "listen": [{"address": "127.0.0.1:0"}],
                "routes": {"aliases": "aliases", "domains": {"strict.test": strict}},
                "clients": {"trusted": ["198.51.100.0/24"]},
                **tables,
                "srs": {"domain": "fwd.test", "secrets_file": "srs.secret", **tables.get("srs", {})},
            },
            context={"base": folder},
        )
        self.tokens, self.queue, self.metrics = MemoryTokens(), KeepingQueue(), Metrics()
        self.resolver = RecordingResolver({**ZONE, **(zone or {})})
        self.files = read_files(self.config)
        rates = Rates(self.config.srs, traffic=self.config.limits.rates)
        self.stages: Stages = build_stages(
            self.config, self.tokens, self.resolver, self.metrics, self.files, rates, watch
        )
        self.intake: Intake = self.stages.intake(self.queue, self.queue)

    def session(self, client: Client = CLIENT) -> Session:
        """A connection of a client, to be used in a `with`."""
        return Session(self, client)

    async def send(
        self,
        *recipients: str | RcptTo,
        sender: str = JOE,
        client: Client = CLIENT,
        content: bytes = MESSAGE,
        **mail: Any,
    ) -> str:
        """One message in a connection of its own; the first reply that is no success, or the last one."""
        with self.session(client) as session:
            return await session.send(*recipients, sender=sender, content=content, **mail)

    def count(self, line: str) -> float:
        """The value of a metric, by its name with its labels."""
        lines = self.metrics.render().decode().splitlines()
        (value,) = [text.rpartition(" ")[2] for text in lines if text.startswith(f"srs_relay_{line} ")]
        return float(value)


class Session:
    """What `receive.session` does with a conversation: commands in, replies out."""

    def __init__(self, house: House, client: Client) -> None:
        self.conversation = Conversation(house.intake, client)
        self._house = house
        self._client = client
        self.transaction = Transaction(0, MailFrom(""))

    def __enter__(self) -> Session:
        self.conversation.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.conversation.__exit__(*error)

    async def mail(self, sender: str = JOE, **mail: Any) -> str:
        self.conversation.reset()
        self.transaction = Transaction(self._house.stages.ids.new(), MailFrom(sender, **mail))
        try:
            await self.conversation.mail(self._client, self.transaction)
        except Refused as refused:
            return str(refused.reply)
        return "250 2.1.0 Ok"

    async def rcpt(self, recipient: str | RcptTo) -> str:
        rcpt = recipient if isinstance(recipient, RcptTo) else RcptTo(recipient)
        try:
            await self.conversation.rcpt(self._client, self.transaction, rcpt)
        except Refused as refused:
            return str(refused.reply)
        self.transaction.recipients.append(rcpt)
        return "250 2.1.5 Ok"

    async def data(self, content: bytes = MESSAGE) -> str:
        reply: Reply = await self.conversation.data(self._client, self.transaction, Message(content), asyncio.Future)
        return str(reply)

    async def send(self, *recipients: str | RcptTo, sender: str = JOE, content: bytes = MESSAGE, **mail: Any) -> str:
        """One message; the first reply that is no success, or the last one."""
        reply = await self.mail(sender, **mail)
        for recipient in recipients:
            if reply.startswith("2"):
                reply = await self.rcpt(recipient)
        return await self.data(content) if reply.startswith("2") else reply
