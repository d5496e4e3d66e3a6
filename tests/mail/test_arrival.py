"""What arrived: the id and the sender as the log and the replies show them."""

from __future__ import annotations

import pytest

from relay.mail.arrival import Arrival
from relay.mail.envelope import Client, MailFrom, RcptTo
from relay.mail.message import Message
from relay.mail.queue_id import QueueIds, id_from_text


def test_an_arrival_is_known_by_its_queue_id_and_its_envelope_sender() -> None:
    number = QueueIds(lambda: 1_790_000_000.0).new()
    for sender in ("joe@origin.test", ""):
        recipients = (RcptTo("alice@fwd.test"),)
        mail = MailFrom(sender)
        arrival = Arrival(
            number, 1_790_000_000.0, Client("192.0.2.1", 25), mail, recipients, Message(b"From: x\r\n\r\n")
        )
        assert id_from_text(arrival.queue_id) == number
        assert arrival.sender == sender


@pytest.mark.parametrize(
    ("header", "wish"),
    [
        (b"TLS-Required: No", "no"),
        (b"tls-required:no", "no"),
        (b"TLS-REQUIRED:\r\n NO \t", "no"),
        (b"TLS-Required: Yes", ""),
        (b"TLS-Required:", ""),
        (b"TLS-Required: No, thanks", ""),
        (b"TLS-Required: No\r\nTLS-Required: No", ""),
        (b"X-TLS-Required: No", ""),
        (b"Subject: TLS-Required: No", ""),
    ],
)
def test_what_a_message_asks_of_tls(header: bytes, wish: str) -> None:
    def arrival(sender: str, *, require_tls: bool) -> Arrival:
        message = Message(b"From: joe@origin.test\r\n" + header + b"\r\n\r\nTLS-Required: No\r\n")
        mail = MailFrom(sender, require_tls=require_tls)
        return Arrival(1, 0.0, Client("192.0.2.1", 25), mail, (RcptTo("alice@fwd.test"),), message)

    assert arrival("joe@origin.test", require_tls=False).tls_wish == wish
    assert arrival("", require_tls=False).tls_wish == wish
    assert arrival("joe@origin.test", require_tls=True).tls_wish == "require"
    assert arrival("", require_tls=True).tls_wish == "prefer"
