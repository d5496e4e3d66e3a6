"""A message as its client handed it over."""

from __future__ import annotations

from typing import NamedTuple

from relay.mail.envelope import Client, MailFrom, RcptTo, TlsWish
from relay.mail.message import Message
from relay.mail.queue_id import id_text


class Arrival(NamedTuple):
    """A message at the end of DATA, with its client and envelope.

    Attributes:
        id: the number behind the queue id.
        received: when DATA ended, in seconds since 1970.
        recipients: those that were accepted, at least one.
    """

    id: int
    received: float
    client: Client
    mail: MailFrom
    recipients: tuple[RcptTo, ...]
    message: Message

    @property
    def queue_id(self) -> str:
        """The id that the log and the final reply show."""
        return id_text(self.id)

    @property
    def sender(self) -> str:
        """The envelope sender; empty for the null sender."""
        return self.mail.sender

    @property
    def tls_wish(self) -> TlsWish:
        """What the message asks of TLS. REQUIRETLS counts for more than the field (RFC 8689 section 4.1), and a field
        that is there twice for nothing (section 3)."""
        if self.mail.require_tls:
            return "require" if self.mail.sender else "prefer"
        fields = self.message.all("tls-required")
        return "no" if len(fields) == 1 and fields[0].value.strip().lower() == b"no" else ""
