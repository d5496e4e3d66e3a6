"""What an SMTP session asks: the decisions at MAIL, RCPT and the end of DATA."""

from __future__ import annotations

from typing import Protocol

from relay.mail.envelope import Client, RcptTo
from relay.mail.message import Message
from relay.mail.reply import Reply
from relay.receive.command import Transaction


class Handler(Protocol):
    """Decides about the mail of one connection. It is called in the order of the commands."""

    async def mail(self, client: Client, transaction: Transaction) -> None:
        """Decides about MAIL. Raises: Refused."""

    async def rcpt(self, client: Client, transaction: Transaction, rcpt: RcptTo) -> None:
        """Decides about RCPT. Raises: Refused."""

    async def data(self, client: Client, transaction: Transaction, message: Message) -> Reply:
        """Returns the reply to the message. A positive one means that the message is stored."""
        ...

    def refused(self, reply: Reply) -> None:
        """Is called when a command or message was refused, by the handler or by the protocol."""

    def reset(self) -> None:
        """Is called when the transaction is over or given up."""
