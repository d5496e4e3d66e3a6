"""The trace field that every hop owes the next (RFC 5321 section 4.4): `Received`.

What the client said of itself is reduced to harmless ASCII, and a recipient is named only where there is one and the
sender gave it, so that an alias never gives away the mailbox behind it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from relay.mail.envelope import Client

_UNSAFE = re.compile(r"[^A-Za-z0-9._:\[\]-]")


def received_field(client: Client, hostname: str, queue_id: str, recipient: str, smtputf8: bool, now: float) -> bytes:
    """One `Received` field with its CRLF.

    Args:
        recipient: the one recipient as it was given, left out where it is not ASCII; empty where there are several.
        smtputf8: whether the transaction used SMTPUTF8 (RFC 6531 section 4.3: another `with` word).
        now: seconds since 1970.
    """
    name = _UNSAFE.sub("?", client.helo)[:255] or "unknown"
    who = " ".join(part for part in (_UNSAFE.sub("?", client.ptr) or "unknown", f"[{address_literal(client.ip)}]"))
    protocol = client.protocol.replace("ESMTP", "UTF8SMTP") if smtputf8 else client.protocol
    lines = [f"from {name} ({who})", f"by {hostname} with {protocol} id {queue_id}"]
    if client.tls:
        lines.append(f"({_UNSAFE.sub(' ', client.tls)})")
    if recipient.isascii() and recipient:
        lines.append(f"for <{recipient}>")
    return ("Received: " + "\r\n\t".join(lines) + f";\r\n\t{_date(int(now))}\r\n").encode("utf-8")


@lru_cache(maxsize=4)  # a second of a busy host is that of many messages
def _date(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))


def address_literal(ip: str) -> str:
    """An address as RFC 5321 section 4.1.3 writes it: IPv6 with its tag."""
    return f"IPv6:{ip}" if ":" in ip else ip
