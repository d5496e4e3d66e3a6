"""Our DKIM-Signature fields (RFC 6376): one for each key, with the body in relaxed canonicalization.

The header is canonicalized once for all keys, and the hash of the body is the one computed while it was received.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.mail.body_hash import digest_text
from relay.mail.message import Message
from relay.sign.covered_fields import CoveredFields, covered_fields
from relay.sign.keys import SigningKey
from relay.sign.signature_field import message_signature


def sign(message: Message, key: SigningKey, now: int) -> bytes:
    """One DKIM-Signature field with its CRLF, to stand anywhere above the message's own header.

    Args:
        message: as it leaves, without fields on top that are not signed (trace, Authentication-Results, ARC).
        now: seconds since 1970, for `t=`. There is no `x=`: a message may wait for days in the queues of later hosts,
            and its signature should still be valid then.

    Returns:
        Nothing (`b""`) for a message that is not signed, see `covered_fields`.
    """
    return signature_fields(message, (key,), now)


def signature_fields(message: Message, keys: Iterable[SigningKey], now: int, *, ours: bool = False) -> bytes:
    """One field for each key, in the order of the keys; otherwise like `sign`.

    Args:
        ours: we wrote the message.
    """
    covered = covered_fields(message.fields, ours=ours)
    return b"" if covered is None else fields_over(covered, message, keys, now)


def fields_over(covered: CoveredFields, message: Message, keys: Iterable[SigningKey], now: int) -> bytes:
    """As `signature_fields`, for a message of which is known what signatures cover."""
    body_hash = digest_text(message.relaxed_body_hash)
    return b"".join([message_signature("DKIM-Signature", " v=1;", covered, body_hash, key, now) for key in keys])
