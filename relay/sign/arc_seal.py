"""Our ARC set (RFC 8617): our results for a message, a signature of it as it leaves, and a seal over the whole chain.

ARC is on its way to Historic at the IETF, but large receivers still read it, and nothing else tells them of SPF at the
first hop. Nothing here depends on anybody believing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from relay.authenticate.arc_chain import INSTANCES, RESULTS, SIGNATURE, arc_sets, sealed_octets
from relay.mail.body_hash import digest_text
from relay.mail.message import HeaderField, Message
from relay.mail.tag_list import Unverified
from relay.sign.covered_fields import covered_fields, names_octets
from relay.sign.keys import SigningKey
from relay.sign.signature_field import field_octets, fold, message_tags, signed_field

_WORD = re.compile(" *+[^ ]++")


def seal(
    message: Message,
    on_top: bytes,
    results: bytes,
    cv: Literal["none", "pass"],
    instance: int,
    key: SigningKey,
    now: int,
) -> bytes:
    """The three fields of our set, each with its CRLF, to stand above everything else.

    Args:
        message: as it leaves.
        on_top: DKIM-Signature fields of ours that stand above it; like all others they are signed.
        results: the value of our Authentication-Results.
        cv: the result for the chain as it came in; a failed chain must not be extended (section 5.1.3).
        instance: the number of our set.
        key: RSA.
        now: seconds since 1970, for `t=`.

    Returns:
        Nothing (`b""`) for a message that is not signed, see `covered_fields`, for a chain that has the greatest
        length, and for one that does not have all the sets before ours.
    """
    covered = covered_fields((*Message(on_top).fields, *message.fields), also=("dkim-signature",))
    earlier_sets = _earlier_sets(message)
    if covered is None or instance > INSTANCES or earlier_sets is None or len(earlier_sets) != instance - 1:
        return b""
    results_field = _results_field(instance, results)
    tags = message_tags(f" i={instance};", covered, digest_text(message.relaxed_body_hash), key, now)
    signature = signed_field("ARC-Message-Signature", tags, covered.header, key, covered.canonicalization)
    own_set = (HeaderField(RESULTS, results_field), HeaderField(SIGNATURE, signature))
    sealed = sealed_octets([*earlier_sets, own_set])
    return signed_field("ARC-Seal", _seal_tags(instance, cv, key, now), sealed, key) + signature + results_field


def seal_octets(message: Message, signatures: int, key: SigningKey) -> int:
    """How long a set may get besides the results in it, to announce a message's size (RFC 1870).

    Args:
        signatures: the number of DKIM-Signature fields that will stand on top.
    """
    own_fields = [HeaderField("dkim-signature", b"")] * signatures
    return 2 * field_octets(key) + names_octets((*own_fields, *message.fields))


def _earlier_sets(message: Message) -> list[Sequence[HeaderField]] | None:
    """The fields of the sets in the message, oldest first; None if they are not a chain."""
    try:
        return [[arc_field.field for arc_field in fields] for fields in reversed(arc_sets(message))]
    except Unverified:
        return None


def _results_field(instance: int, results: bytes) -> bytes:
    """ARC-Authentication-Results, folded between any two words (RFC 5322 section 3.2.2)."""
    value = results.decode("utf-8", "surrogateescape").replace("\t", " ")
    words: list[str] = _WORD.findall(f" i={instance}; {value}")
    return (fold(["ARC-Authentication-Results:", *words]) + "\r\n").encode("utf-8", "surrogateescape")


def _seal_tags(instance: int, cv: str, key: SigningKey, now: int) -> Iterator[str]:
    yield f" i={instance};"
    yield f" a={key.algorithm};"
    yield f" t={now};"
    yield f" cv={cv};"
    yield f" d={key.domain};"
    yield f" s={key.selector};"
