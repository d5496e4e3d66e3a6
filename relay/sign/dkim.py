"""Our DKIM-Signature fields (RFC 6376): relaxed/relaxed, one for each key.

Body and header are canonicalized once for all keys, and the hash of the body is the one that the receiver already has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from relay.message import HeaderField, Message, digest_text
from relay.sign.field import message_tags, signed_field
from relay.sign.keys import SigningKey

# RFC 6376 section 5.4.1, then what changes how the body is read (RFC 4871 section 5.5 had these) or what a reader's
# client acts upon: List-Unsubscribe-Post must be signed to count (RFC 8058 section 4).
SIGNED_NAMES = (
    "from",
    "reply-to",
    "subject",
    "date",
    "to",
    "cc",
    "resent-date",
    "resent-from",
    "resent-to",
    "resent-cc",
    "in-reply-to",
    "references",
    "list-id",
    "list-help",
    "list-unsubscribe",
    "list-subscribe",
    "list-post",
    "list-owner",
    "list-archive",
    "sender",
    "message-id",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "list-unsubscribe-post",
)
_SIGNED = frozenset(SIGNED_NAMES)
_WSP = re.compile(rb"[ \t]+")
# Mail::DKIM takes any white space before the colon for part of the name, where RFC 5322 section 4.5 allows SP and HTAB.
_LENIENT_NAME = re.compile(rb"([!-9;-~]+)\s*:")
FIELD_OCTETS = 1024  # of a field besides the signature itself; an ordinary one has half of it


def sign(message: Message, key: SigningKey, now: int) -> bytes:
    """One DKIM-Signature field with its CRLF, to stand anywhere above the message's own header.

    Args:
        message: as it will leave, but for fields on top that are not signed (trace, Authentication-Results, ARC).
        now: seconds since 1970, for `t=`. There is no `x=`: a message may wait days in queues after us, and when it
            leaves them its signature should still be worth what it was.

    Returns:
        Nothing (`b""`) for a message without exactly one From, which is no message to vouch for: RFC 6376 section 5.4
        wants From signed, and section 8.15 warns of a second one.
    """
    return signature_fields(message, (key,), now)


def signature_fields(message: Message, keys: Iterable[SigningKey], now: int) -> bytes:
    """One field for each key, in the order of the keys; otherwise as `sign`."""
    found = canonical_fields(message.fields)
    if len(found.get("from", ())) != 1:
        return b""
    header, names = covered(found)
    body_hash = digest_text(message.relaxed_body_hash)
    return b"".join(
        signed_field("DKIM-Signature", message_tags(" v=1;", names, body_hash, key, now), header, key) for key in keys
    )


def covered(found: Mapping[str, Sequence[bytes]]) -> tuple[bytes, list[str]]:
    """The canonical header that is signed, and the names of its fields for `h=`.

    From is listed once more than it is there: another that somebody adds on the way breaks the signature (RFC 6376
    section 5.4).
    """
    names = [name for name, lines in found.items() for _ in lines]
    return b"".join(line for lines in found.values() for line in lines), ["from", *names]


def canonical_fields(fields: Sequence[HeaderField], also: Sequence[str] = ()) -> dict[str, list[bytes]]:
    """The fields to sign, relaxed (RFC 6376 section 3.4.2), by name in the order of `SIGNED_NAMES`.

    The instances of a name stand from the bottom to the top of the header, the order in which verifiers take them
    (section 5.4.2). A name is left out where verifiers would not agree on its fields: white space of other kinds than
    SP and HTAB before the colon or around the value.

    Args:
        fields: of the message as it leaves, top to bottom.
        also: names to sign besides `SIGNED_NAMES`, lower case.
    """
    found: dict[str, list[bytes]] = {}
    doubtful = set()
    for field in reversed(fields):
        name = field.name
        if name in _SIGNED or name in also:
            value = _WSP.sub(b" ", field.raw.partition(b":")[2].replace(b"\r\n", b"")).strip(b" ")
            found.setdefault(name, []).append(b"%s:%s\r\n" % (name.encode("ascii"), value))
            if value != value.strip():
                doubtful.add(name)
        elif not name and (lenient := _LENIENT_NAME.match(field.raw)):
            doubtful.add(lenient[1].decode("ascii").lower())
    return {name: found[name] for name in (*SIGNED_NAMES, *also) if name in found and name not in doubtful}
