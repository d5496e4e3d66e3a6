"""Writes `Received`, the trace field that every hop has to add (RFC 5321 section 4.4).

What the client says of itself is reduced to harmless ASCII. A recipient is named only if there is just one, and only as
the client gave it, so that an alias does not show the mailbox behind it. TLS stands where Postfix writes it and in its
words, so that programs which read its fields read ours.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from relay.mail.envelope import Client

_UNSAFE = re.compile(r"[^A-Za-z0-9._:\[\]-]")


def received_field(
    client: Client, hostname: str, queue_id: str, recipient: str, smtputf8: bool, now: float, *, hidden: bool = False
) -> bytes:
    """One `Received` field with its CRLF.

    Args:
        recipient: the one recipient as it was given, left out if it is not ASCII; empty if there are several.
        smtputf8: the transaction used SMTPUTF8, which has its own `with` keyword (RFC 6531 section 4.3).
        now: seconds since 1970.
        hidden: nothing of the client is named, but this host in its place: SMTP demands the from clause.
    """
    protocol = client.protocol.replace("ESMTP", "UTF8SMTP") if smtputf8 else client.protocol
    lines = [f"from {hostname}" if hidden else f"from {_named(client)}"]
    if client.tls:
        version, _, cipher = client.tls.partition(" ")
        bits = "{}/{}".format(*client.cipher_bits)
        lines.append(f"(using {_UNSAFE.sub('?', version)} with cipher {_UNSAFE.sub('?', cipher)} ({bits} bits))")
    lines.append(f"by {hostname} with {protocol} id {queue_id}")
    if recipient.isascii() and recipient:
        lines.append(f"for <{recipient}>")
    return ("Received: " + "\r\n\t".join(lines) + f";\r\n\t{_date(int(now))}\r\n").encode("utf-8")


def _named(client: Client) -> str:
    name = _UNSAFE.sub("?", client.helo)[:255] or "unknown"
    return f"{name} ({_UNSAFE.sub('?', client.ptr) or 'unknown'} [{address_literal(client.ip)}])"


@lru_cache(maxsize=4)  # many messages of a busy host come in the same second
def _date(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))


def address_literal(ip: str) -> str:
    """An IP address as in the address literals of RFC 5321 section 4.1.3: IPv6 with its tag."""
    return f"IPv6:{ip}" if ":" in ip else ip
