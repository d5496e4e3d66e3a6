"""What holds for mail of users who have logged in, beside what holds for trusted clients (RFC 6409).

They write as their own senders only, in the envelope and in From. Mail programs may leave Date and Message-ID to the
server: both are added on top of the content, before anything is signed. Nothing else of the message changes.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from email.utils import format_datetime

from relay.accounts.user_senders import UserSenders
from relay.authenticate.author import possible_authors
from relay.mail.message import Message
from relay.mail.reply import Refused


def refuse_sender(senders: UserSenders, user: str, sender: str) -> None:
    """Refuse an envelope sender that is not one of the user's (RFC 6409 section 6.1).

    Raises:
        Refused: 550 5.7.1.
    """
    if not senders.may_use(user, sender):
        raise Refused(550, "5.7.1", f"<{sender}>: user {user} may not send as this address")


def refuse_authors(senders: UserSenders, user: str, message: Message) -> None:
    """Refuse a message with an author who is not one of the user's senders.

    A message without From names nobody, and passes. Sender and Reply-To are not looked at: DMARC does not either, and
    readers do not take them for the author.

    Raises:
        Refused: 550 5.7.1.
    """
    authors = possible_authors(message)
    if authors is None:
        raise Refused(
            550, "5.7.1", f"From: nobody can tell which author it names, and whether user {user} may write so"
        )
    strange = sorted(author for author in authors if not senders.may_use(user, author))
    if strange:
        raise Refused(550, "5.7.1", f"From: user {user} may not write as <{strange[0]}>")


def missing_fields(message: Message, hostname: str, queue_id: str, now: float) -> bytes:
    """Date and Message-ID with their CRLF, as far as the message has none (RFC 6409 sections 8.2 and 8.3).

    Args:
        now: seconds since 1970.
    """
    if message.content[:1] in (b" ", b"\t"):
        return b""  # its first line would continue the field above it
    added = ""
    if not message.all("date"):
        added += f"Date: {format_datetime(datetime.fromtimestamp(int(now), UTC))}\r\n"
    if not message.all("message-id"):
        added += f"Message-ID: <{queue_id}.{secrets.token_hex(8)}@{hostname}>\r\n"
    return added.encode("ascii")


def with_fields_on_top(message: Message, fields: bytes) -> Message:
    """The message with fields on top of its own. A large one should be made in a thread."""
    header = b"".join(field.raw for field in message.fields)
    return message.with_header(fields + header if message.has_header else fields + b"\r\n")
