"""Two checks against mail loops: the number of hops, and a mark of our own for every alias that was expanded.

The mark shows a loop when the message comes the second time, where counting Received fields takes dozens of copies. It
is an HMAC over the alias, so that it does not show the alias to the mailbox behind it, and nobody else can make one.

One header serves all copies of a message, so it bears only marks that are right for all of them: those of the aliases
that lead to every target. Otherwise a list that names a team and one of its members, who forwards to the team, would
look like a loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, islice, zip_longest

from relay.mail.address import lookup_key
from relay.mail.message import Message
from relay.srs.keyed_hash import keyed_hash

FIELD = "X-SRS-Relay"
MARKS = 1000  # on one message, 47 octets each: at least one for each recipient, since no message has more targets

_LINE = b"%s: %%s\r\n" % FIELD.encode()
_PURPOSE = b"srs-relay loop mark\0"  # the secrets also sign SRS addresses; a mark must not be valid in one
_TAG_OCTETS = 16  # 128 bits, which cannot be guessed
_MARK = re.compile(rb"[0-9a-f]{32}")


def received_hops(message: Message) -> int:
    """How many hosts have received the message: the number of its Received fields (RFC 5321 section 6.3)."""
    return len(message.all("Received"))


def mark_fields(chains: Iterable[Sequence[str]], secrets: Sequence[bytes]) -> bytes:
    """The loop marks of a message, as header fields; the first secret signs.

    Args:
        chains: for each recipient its aliases, the outermost first. Beyond `MARKS` the innermost are left out.
    """
    outermost_first = filter(None, chain.from_iterable(zip_longest(*chains, fillvalue="")))
    return _fields([_tag(lookup_key(alias), secrets[0]) for alias in outermost_first])


def is_looping(message: Message, chains: Iterable[Sequence[str]], secrets: Sequence[bytes]) -> bool:
    """Whether the message bears our mark of one of the aliases in these chains, made with any of the secrets."""
    marks = {field.value for field in message.all(FIELD)}  # a hostile message may bring thousands
    return bool(marks) and any(
        _tag(lookup_key(alias), secret) in marks for alias in chain.from_iterable(chains) for secret in secrets
    )


def kept_marks(message: Message) -> bytes:
    """All marks of a message, also those of others, as header fields for a message that takes its place."""
    return _fields([value for field in message.all(FIELD) if _MARK.fullmatch(value := field.value)])


def _fields(tags: Iterable[bytes]) -> bytes:
    return b"".join([_LINE % tag for tag in islice(dict.fromkeys(tags), MARKS)])


@lru_cache(maxsize=1024)  # most mail of a host comes for the same few aliases
def _tag(key: str, secret: bytes) -> bytes:
    """The mark of an alias, by its lookup key."""
    return keyed_hash(secret, _PURPOSE + key.encode(), "sha256")[:_TAG_OCTETS].hex().encode()
