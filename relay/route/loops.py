"""Two guards against mail that goes round: the number of hops, and a mark of our own for every alias expanded.

The mark finds a loop the second time round, where counting Received fields takes dozens of copies. It is an HMAC over
the alias, so that it neither shows the alias to the mailbox behind it nor can be made up by others.

One header serves all copies of a message, so it bears only the marks that are right for each of them: the aliases
that every target was reached through. A mark of an alias behind which only some targets stand would make loops of the
others: of a list that names a team and one of its members elsewhere, who forwards to the team.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from itertools import chain, islice, zip_longest

from relay.mail.address import lookup_key
from relay.mail.message import Message

FIELD = "X-SRS-Relay"
MARKS = 1000  # on one message, 47 octets each: one for each recipient at least, since no message has more targets

_PURPOSE = b"srs-relay loop mark\0"  # the secrets sign SRS addresses too: neither may pass for the other
_TAG_OCTETS = 16  # 128 bits: long enough that nobody guesses one
_MARK = re.compile(rb"[0-9a-f]{32}")


def received_hops(message: Message) -> int:
    """How many hosts have had the message: its Received fields (RFC 5321 section 6.3)."""
    return len(message.all("Received"))


def mark_fields(chains: Iterable[Sequence[str]], secrets: Sequence[bytes]) -> bytes:
    """The loop marks of a message, as header fields; the first secret signs.

    Args:
        chains: for each recipient the aliases that it leads through, the outermost first. Past `MARKS` the innermost
            are left out.
    """
    outermost_first = filter(None, chain.from_iterable(zip_longest(*chains, fillvalue="")))
    tags = dict.fromkeys(_tag(alias, secrets[0]) for alias in outermost_first)
    return b"".join(b"%s: %s\r\n" % (FIELD.encode(), tag) for tag in islice(tags, MARKS))


def is_looping(message: Message, chains: Iterable[Sequence[str]], secrets: Sequence[bytes]) -> bool:
    """Whether the message bears our mark of one of the aliases in these chains, made with any of the secrets."""
    found = {field.value for field in message.all(FIELD)}  # a hostile message may bring thousands
    return bool(found) and any(
        _tag(alias, secret) in found for alias in chain.from_iterable(chains) for secret in secrets
    )


def kept_marks(message: Message) -> bytes:
    """The marks that a message bears, whoever made them, as header fields for one that takes its place."""
    found = dict.fromkeys(value for field in message.all(FIELD) if _MARK.fullmatch(value := field.value))
    return b"".join(b"%s: %s\r\n" % (FIELD.encode(), tag) for tag in islice(found, MARKS))


def _tag(alias: str, secret: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + lookup_key(alias).encode(), "sha256")[:_TAG_OCTETS].hex().encode()
