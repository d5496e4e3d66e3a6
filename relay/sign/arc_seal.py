"""Our ARC set (RFC 8617): our results for a message, a signature of it as it leaves, and a seal over the whole chain.

ARC is on its way to Historic at the IETF, but large receivers still read it, and nothing else tells them of SPF at the
first hop. Nothing here depends on anybody believing it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from relay.authenticate.arc_chain import INSTANCES, RESULTS, SIGNATURE, arc_sets, sealed_octets
from relay.mail.body_hash import digest_text
from relay.mail.message import HeaderField, Message
from relay.mail.tag_list import Unverified
from relay.sign.covered_fields import CoveredFields, covered_fields
from relay.sign.keys import SigningKey
from relay.sign.signature_field import field_octets, fold, message_signature, signed_field

_WORD = re.compile(" *+[^ ]++")


def seal(
    message: Message,
    on_top: bytes,
    results: bytes,
    cv: Literal["none", "pass"],
    instance: int,
    key: SigningKey,
    now: int,
    covered: CoveredFields | None = None,
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
        covered: what DKIM signatures of the message cover, where that is known already. The set covers all
            DKIM-Signature fields as well.

    Returns:
        Nothing (`b""`) for a message that is not signed, see `covered_fields`, for a chain that has the greatest
        length, and for one that does not have all the sets before ours.
    """
    covered = covered or covered_fields(message.fields)
    earlier_sets = _earlier_sets(message)
    if covered is None or instance > INSTANCES or earlier_sets is None or len(earlier_sets) != instance - 1:
        return b""
    signatures = [*Message(on_top).fields, *_dkim_signatures(message)]
    results_field = _results_field(instance, results)
    signature = message_signature(
        "ARC-Message-Signature",
        f" i={instance};",
        covered.with_more("dkim-signature", signatures[::-1]),
        digest_text(message.relaxed_body_hash),
        key,
        now,
    )
    own_set = (HeaderField(RESULTS, results_field), HeaderField(SIGNATURE, signature))
    sealed = sealed_octets([*earlier_sets, own_set])
    return signed_field("ARC-Seal", _seal_text(instance, cv, key, now), sealed, key) + signature + results_field


def seal_octets(message: Message, covered: CoveredFields, signatures: int, key: SigningKey) -> int:
    """How long a set may get besides the results in it, to announce a message's size (RFC 1870).

    Args:
        covered: what DKIM signatures of the message cover.
        signatures: the number of DKIM-Signature fields that will stand on top.
    """
    signatures += len(_dkim_signatures(message))
    return 2 * field_octets(key) + covered.names_octets + len("dkim-signature:\r\n ") * signatures


def _dkim_signatures(message: Message) -> list[HeaderField]:
    """The DKIM-Signature fields, top to bottom, also what only some verifiers take for one."""
    return [field for field in message.fields if (field.name or field.signed_name) == "dkim-signature"]


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


def _seal_text(instance: int, cv: str, key: SigningKey, now: int) -> str:
    return fold(
        [
            "ARC-Seal:",
            f" i={instance};",
            f" a={key.algorithm};",
            f" t={now};",
            f" cv={cv};",
            f" d={key.domain};",
            f" s={key.selector};",
        ]
    )
