"""Our ARC set (RFC 8617): what we saw of a message, a signature of it as it leaves us, and a seal over the whole chain.

ARC is on its way to Historic at the IETF, but large receivers still read it, and it is all that can tell them of SPF at
the first hop. Nothing of ours depends on anybody believing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from relay.authenticate.arc_chain import INSTANCES, SIGNATURE, TESTIMONY, links, scope
from relay.mail.body_hash import digest_text
from relay.mail.message import HeaderField, Message
from relay.mail.tag_list import Unverified
from relay.sign.covered_fields import coverage, names_octets
from relay.sign.keys import SigningKey
from relay.sign.signature_field import field_octets, fold, message_tags, signed_field

_WORD = re.compile(" *+[^ ]++")


def seal(
    message: Message,
    on_top: bytes,
    results: bytes,
    found: Literal["none", "pass"],
    instance: int,
    key: SigningKey,
    now: int,
) -> bytes:
    """The three fields of our set, each with its CRLF, to stand above everything else.

    Args:
        message: as it leaves.
        on_top: DKIM-Signature fields of ours that stand above it; like all others they are signed.
        results: the value of our Authentication-Results.
        found: what the chain was worth when it came (`cv=`); a failed one is not to be extended (section 5.1.3).
        instance: the number of our set.
        key: RSA.
        now: seconds since 1970, for `t=`.

    Returns:
        Nothing (`b""`) for a message that is not to be signed, see `coverage`, for a chain that is as long as it may
        be, and for one that is not made of all the sets before ours.
    """
    covered = coverage((*Message(on_top).fields, *message.fields), also=("dkim-signature",))
    before = _sets(message)
    if covered is None or instance > INSTANCES or before is None or len(before) != instance - 1:
        return b""
    testimony = _testimony(instance, results)
    tags = message_tags(f" i={instance};", covered, digest_text(message.relaxed_body_hash), key, now)
    signature = signed_field("ARC-Message-Signature", tags, covered.header, key, covered.canonicalization)
    ours = (HeaderField(TESTIMONY, testimony), HeaderField(SIGNATURE, signature))
    below = scope([*before, ours])
    return signed_field("ARC-Seal", _seal_tags(instance, found, key, now), below, key) + signature + testimony


def octets(message: Message, signatures: int, key: SigningKey) -> int:
    """How long a set may get besides the results that it repeats, to announce a message's size (RFC 1870).

    Args:
        signatures: the number of DKIM-Signature fields that will stand on top.
    """
    ours = [HeaderField("dkim-signature", b"")] * signatures
    return 2 * field_octets(key) + names_octets((*ours, *message.fields))


def _sets(message: Message) -> list[Sequence[HeaderField]] | None:
    """The fields of the sets that are there, oldest first; None where they are no chain."""
    try:
        return [[member.field for member in link] for link in reversed(links(message))]
    except Unverified:
        return None


def _testimony(instance: int, results: bytes) -> bytes:
    """ARC-Authentication-Results, folded between any two words (RFC 5322 section 3.2.2)."""
    value = results.decode("utf-8", "surrogateescape").replace("\t", " ")
    words: list[str] = _WORD.findall(f" i={instance}; {value}")
    return (fold(["ARC-Authentication-Results:", *words]) + "\r\n").encode("utf-8", "surrogateescape")


def _seal_tags(instance: int, found: str, key: SigningKey, now: int) -> Iterator[str]:
    yield f" i={instance};"
    yield f" a={key.algorithm};"
    yield f" t={now};"
    yield f" cv={found};"
    yield f" d={key.domain};"
    yield f" s={key.selector};"
