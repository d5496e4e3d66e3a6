"""Two guards against mail that goes round: the number of hops, and a mark of our own for every alias expanded.

The mark finds a loop the second time round, where counting Received fields takes dozens of copies. It is an HMAC over
the alias, so that it neither shows the alias to the mailbox behind it nor can be made up by others.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence

from relay.address import lookup_key
from relay.message import Message

FIELD = "X-SRS-Relay"

_PURPOSE = b"srs-relay loop mark\0"  # the secrets sign SRS addresses too: neither may pass for the other
_TAG_OCTETS = 16  # 128 bits: long enough that nobody guesses one


def received_hops(message: Message) -> int:
    """How many hosts have had the message: its Received fields (RFC 5321 section 6.3)."""
    return len(message.all("Received"))


def mark_fields(aliases: Iterable[str], secrets: Sequence[bytes]) -> bytes:
    """One loop mark for each alias that the message is expanded from, as header fields; the first secret signs."""
    return b"".join(
        b"%s: %s\r\n" % (FIELD.encode(), tag) for tag in {_tag(alias, secrets[0]): None for alias in aliases}
    )


def is_looping(message: Message, aliases: Iterable[str], secrets: Sequence[bytes]) -> bool:
    """Whether the message bears our mark of one of these aliases, made with any of the secrets."""
    found = [field.value for field in message.all(FIELD)]
    if not found:
        return False
    expected = [_tag(alias, secret) for alias in aliases for secret in secrets]
    return any(hmac.compare_digest(tag, value) for tag in expected for value in found)


def _tag(alias: str, secret: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + lookup_key(alias).encode(), "sha256")[:_TAG_OCTETS].hex().encode()
