"""What an SMTP session asks: the decisions at MAIL, RCPT and the end of DATA."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from relay.mail.envelope import Client, RcptTo
from relay.mail.message import Message
from relay.mail.reply import Reply
from relay.receive.command import Transaction

Gone = Callable[[], asyncio.Future[None]]
"""Returns a future that is done once the client has closed its side of the connection, or the connection is lost. It
belongs to the connection, and is not for others to cancel."""


class Handler(Protocol):
    """Decides about the mail of one connection. It is called in the order of the commands."""

    async def mail(self, client: Client, transaction: Transaction) -> None:
        """Decides about MAIL. Raises: Refused."""

    async def rcpt(self, client: Client, transaction: Transaction, rcpt: RcptTo) -> None:
        """Decides about RCPT. Raises: Refused."""

    async def data(self, client: Client, transaction: Transaction, message: Message, gone: Gone) -> Reply:
        """Returns the reply to the message. A positive one means that it is stored, or was taken by its next hop."""
        ...

    def refused(self, reply: Reply) -> None:
        """Is called when a command or message was refused, by the handler or by the protocol."""

    def reset(self) -> None:
        """Is called when the transaction is over or given up."""
