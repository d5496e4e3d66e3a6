"""Delivery status notifications: what a sender reads when a message failed, is late, or has arrived.

One multipart/report (RFC 6522) for all recipients of a message: a text for people (`letter`), the fields of RFC 3464
for programs (`delivery_status`), and the message as it was received, or its header (`returned_message`). A recipient is
named as the sender gave it. The mailbox behind an alias, its host and the text of its host's reply appear nowhere; only
the codes of the reply do. Our own users read the text of the reply as well, for a recipient without an alias.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.bounce.delivery_status import delivery_status, names_a_mailbox, names_another_mailbox
from relay.bounce.letter import letter, subject
from relay.bounce.mime_part import MimePart, identity_encoding
from relay.bounce.report import Action, RecipientReport, Report, date_text
from relay.bounce.returned_message import returned
from relay.mail.message import Message

__all__ = ["Action", "RecipientReport", "Report", "build", "names_a_mailbox", "names_another_mailbox"]

_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{3,900}>")


def build(report: Report) -> bytes:
    """The whole notification, header and body, CRLF line endings, no line over 998 octets.

    It is 7-bit unless an address or the returned message is not; its own header needs SMTPUTF8 only where `to` does.
    """
    original = returned(report)
    text = "\r\n".join(letter(report, original)).encode() + b"\r\n"
    charset = "us-ascii" if text.isascii() else "utf-8"
    parts = [MimePart(f"text/plain; charset={charset}", "Notification", identity_encoding(text), text)]
    parts.append(delivery_status(report))
    if original.body:
        parts.append(original)
    boundary = f"=_{report.unique}"
    while any(boundary.encode() in part.body for part in parts):
        boundary += "="
    encoding = "8bit" if any(part.encoding == "8bit" for part in parts) else "7bit"
    header = [
        f"From: Mail Delivery System <MAILER-DAEMON@{report.from_domain}>",
        f"To: <{report.to}>",
        f"Subject: {subject(report)}",
        f"Date: {date_text(report.now)}",
        f"Message-ID: <{report.unique}@{report.hostname}>",
        *_thread(report.original),
        *([f"TLS-Required: {report.tls_required}"] if report.tls_required else []),
        "Auto-Submitted: auto-replied",  # RFC 3834 section 5
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        f"Content-Transfer-Encoding: {encoding}",
    ]
    delimiter = f"\r\n--{boundary}".encode()
    body = b"".join(delimiter + b"\r\n" + bytes(part) for part in parts)
    return "\r\n".join(header).encode() + b"\r\n" + body + delimiter + b"--\r\n"


def _thread(original: Message) -> Iterator[str]:
    """The fields by which mail programs show the notification beside its message (RFC 3834 section 3.1.6)."""
    message_ids = [_MESSAGE_ID.fullmatch(field.value) for field in original.all("message-id")]
    if len(message_ids) == 1 and message_ids[0]:
        message_id = message_ids[0].group().decode("ascii")
        yield f"In-Reply-To: {message_id}"
        yield f"References: {message_id}"
