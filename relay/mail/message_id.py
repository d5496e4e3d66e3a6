"""The Message-ID of a message (RFC 5322 section 3.6.4), as the log shows it."""

from __future__ import annotations

from relay.mail.message import HeaderField, Message

LONGEST = 256  # characters: programs write about a hundred at most, and a field may have megabytes
_OCTETS = 2048  # of the field that are looked at: its name, white space, and characters of four octets


def shown_message_id(message: Message) -> str | None:
    """The first Message-ID as it was written, cut after `LONGEST` characters; None where there is none.

    Octets that are no UTF-8 become U+FFFD.
    """
    fields = message.all("message-id")
    if not fields:
        return None
    text = HeaderField("message-id", fields[0].raw[:_OCTETS]).value.decode("utf-8", "replace")
    return (text if len(text) <= LONGEST else f"{text[:LONGEST]}…") or None
