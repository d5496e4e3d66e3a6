"""Notifications as their readers see them: a mail program, a person, and a curious sender."""

from __future__ import annotations

import email
import email.policy

from hypothesis import given
from hypothesis import strategies as st

from relay.bounce.dsn import build
from relay.bounce.report import RecipientReport
from relay.mail.message import Message
from tests.bounce.notifications import ORIGINAL, parsed, raw_part, report

HIDDEN = "carol.private@mailbox.hidden.example"


def test_structure_and_header() -> None:
    message = parsed(build(report()))
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "message/rfc822",
    ]
    assert message["from"].addresses[0].addr_spec == "MAILER-DAEMON@fwd.example"
    assert message["to"].addresses[0].addr_spec == "joe@origin.example"
    assert message["auto-submitted"] == "auto-replied"
    assert message["message-id"] == "<4F7K2R.1@mx.fwd.example>"
    assert message["references"] == message["in-reply-to"] == "<one@origin.example>"
    assert message["date"] == "Sun, 19 Nov 2023 22:13:20 +0000"
    assert message["subject"] == "Your message could not be delivered"
    assert message["return-path"] is None


def test_an_original_that_contains_the_boundary_does_not_break_the_report() -> None:
    original = ORIGINAL + b"--=_4F7K2R.1\r\n\r\nforged part\r\n--=_4F7K2R.1--\r\n"
    message = parsed(build(report(original=Message(original))))
    assert len(list(message.iter_parts())) == 3


def test_a_non_ascii_sender_is_addressed_as_it_is() -> None:
    data = build(report(to="jörg@origin.example"))
    assert "To: <jörg@origin.example>\r\n".encode() in data
    assert raw_part(data, 1)[0].startswith(b"Content-Type: message/delivery-status")


_text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=40)
_recipients = st.builds(
    RecipientReport,
    address=st.sampled_from(["alice@fwd.example", '"a b"@fwd.example', "älice@fwd.example"]),
    action=st.sampled_from(["failed", "delayed", "delivered", "relayed", "expanded"]),
    code=st.sampled_from([0, 250, 421, 550]),
    enhanced=st.sampled_from(["", "5.1.1", "4.4.1", "5.7.1 <" + HIDDEN + "> is full", HIDDEN]) | _text,
    expired=st.booleans(),
    orcpt=st.just("rfc822;alice@fwd.example") | _text.map("rfc822;".__add__) | _text.map("utf-8;".__add__),
    last_attempt=st.none() | st.floats(0, 4e9),
    retry_until=st.none() | st.floats(0, 4e9),
)


@given(
    recipients=st.lists(_recipients, min_size=1, max_size=4),
    original=st.binary(max_size=300).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b"\r\n")),
    header=st.booleans(),
    ret=st.sampled_from(["", "FULL", "HDRS"]),
    envid=_text,
)
def test_whatever_happened_the_report_is_well_formed_and_tells_nothing_hidden(
    recipients: list[RecipientReport], original: bytes, header: bool, ret: str, envid: str
) -> None:
    message = Message(b"Subject: x\r\n\r\n" + original if header else original)
    data = build(report(*recipients, original=message, ret=ret, envid=envid))
    assert HIDDEN.encode() not in data
    assert b"mailbox.hidden" not in data
    assert all(len(line) <= 998 for line in data.split(b"\r\n"))
    assert b"\n" not in data.replace(b"\r\n", b"")
    parts = list(email.message_from_bytes(data).get_payload())
    assert len(parts) == 3 or (len(parts) == 2 and not message.fields)
    assert len(raw_part(data, 1)[1].strip().split(b"\r\n\r\n")) == 1 + len(recipients)
