"""Where the mail of a transaction comes from, as far as that is known at RCPT: what the screening asks about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from relay.authenticate.iprev import Iprev
from relay.authenticate.spf import SpfVerdict
from relay.mail.envelope import Client


@dataclass(frozen=True, slots=True)
class Origin:
    """The client and the sender of a transaction.

    Attributes:
        queue_id: of the transaction, for the log.
        sender: empty for the null sender.
        spf: the SPF verdict on the sender; asked only for a client that is not trusted.
        reverse: the look-up of the name of the client's address; None where the address is not known.
    """

    queue_id: str
    client: Client
    sender: str
    spf: Callable[[], Awaitable[SpfVerdict]]
    reverse: Callable[[], Awaitable[Iprev | None]]
