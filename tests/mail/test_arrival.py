"""What arrived: the id and the sender as the log and the replies show them."""

from __future__ import annotations

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
