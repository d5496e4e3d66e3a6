"""What is handed over to one next hop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from relay.deliver.deadline import Deadline
from relay.deliver.destination_limits import Admission
from relay.mail.envelope import Recipient, TlsWish


@dataclass(frozen=True, slots=True)
class Job:
    """A message, its envelope, and the recipients of it that one next hop is to get.

    Attributes:
        id: of the message, for the log.
        sender: empty for the null sender.
        size: octets of the whole content, or a close upper estimate (RFC 1870).
        needs_smtputf8: whether a header field needs RFC 6531; the addresses are checked at delivery.
        ret, envid: DSN parameters (RFC 3461), passed on where the server offers DSN.
        content: awaited after a recipient was accepted; every line ends in CRLF. If it raises, the recipients are
            deferred.
        bound: the time limit of the attempt, which can also give it up.
        tls: what the sender asks of TLS (RFC 8689).
        admission: its place under the table of `[[delivery.destinations]]` that limits it.
    """

    sender: str
    recipients: tuple[Recipient, ...]
    size: int
    is_8bit: bool
    needs_smtputf8: bool
    ret: str
    envid: str
    content: Callable[[], Awaitable[Iterable[bytes]]]
    id: str = ""
    bound: Deadline = field(default_factory=Deadline)
    tls: TlsWish = ""
    admission: Admission = field(default_factory=Admission)
