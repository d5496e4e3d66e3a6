"""What rspamd is told of a message, and that no client can make a request of it that rspamd refuses."""

from __future__ import annotations

from relay.content_filter.rspamd_request import request_headers
from relay.mail.arrival import Arrival
from relay.mail.envelope import Client, MailFrom, RcptTo
from relay.mail.message import Message

HEADER_OCTETS = 80 * 1024  # HTTP_MAX_HEADER_SIZE of rspamd


def headers(*recipients: str, sender: str = "a@b.example", **client: str) -> list[tuple[str, str]]:
    rcpts = tuple(RcptTo(recipient) for recipient in recipients)
    arrival = Arrival(1, 0.0, Client("192.0.2.1", 25, **client), MailFrom(sender), rcpts, Message(b""))  # type: ignore[arg-type]
    return request_headers(arrival, "mx.fwd.example")


def test_recipients_are_told_as_far_as_rspamd_takes_them() -> None:
    few = [f"someone-with-a-name-{number}@fwd.example" for number in range(1000)]
    assert [value for name, value in headers(*few) if name == "Rcpt"] == [f"<{one}>" for one in few]
    long = [f"{number:04}{'ü' * 300}@{'d' * 60}.example" for number in range(1000)]
    found = headers(*long, sender=f"{'x' * 640}@{'d' * 255}", helo="h" * 2000)
    assert sum(len(f"{name}: {value}\r\n".encode()) for name, value in found) < HEADER_OCTETS - 4096
    assert 10 < len([name for name, _ in found if name == "Rcpt"]) < 1000


def test_no_value_ends_its_header() -> None:
    found = dict(headers("x@y.example", helo="a\r\nRcpt: <evil@z.example>\0", user="ann\r\n\r\n", tls="TLSv1.3 X\n"))
    assert found["Helo"] == "a??Rcpt: <evil@z.example>?" and found["User"] == "ann????" and found["TLS-Cipher"] == "X?"


def test_what_is_not_known_is_not_told() -> None:
    assert {name for name, _ in headers("x@y.example")} == {"IP", "From", "Rcpt", "Queue-ID", "MTA-Name"}
